"""TRUST_REMOTE_CODE=1: a model of transformers with code of its own is run only with this option, given
in the same command, also by `predict`; its code is part of the recipe."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import reelbank
from reelbank.data.errors import InputError
from reelbank.data.recipes import check_recipe
from reelbank.data.store.reader import Store
from reelbank.extract.again import UserFiles, options_again
from reelbank.extract.plan import plan_streams

pytest.importorskip("transformers", reason="the extra hf is not installed")

from safetensors.torch import save_file
from test_huggingface import CPU, draw, features, pictures, plan_of, relative
from tiny_transformers import PX, Saved

D, PATCH_PX = 6, 8
CODE = """
from pathlib import Path
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

with Path({ran!r}).open("a") as file:
    file.write("ran\\n")

class OwnConfig(PretrainedConfig):
    model_type = "own_patches"
    def __init__(self, width={width}, pooled=False, **more):
        self.width, self.pooled = width, pooled
        super().__init__(**more)

class OwnModel(PreTrainedModel):
    config_class = OwnConfig
    def __init__(self, config):
        super().__init__(config)
        self.patches = nn.Conv2d(3, config.width, {px}, {px})
        self.post_init()
    def _init_weights(self, module):
        pass
    def forward(self, pixel_values):
        tokens = self.patches(pixel_values).flatten(2).transpose(1, 2)
        pooled = tokens.amax(1) if self.config.pooled else None
        return BaseModelOutputWithPooling(last_hidden_state=tokens, pooler_output=pooled)
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers copies the code that it runs into a cache, and imports it from there."""
    monkeypatch.setattr("sys.path", [*sys.path])
    for name in [name for name in sys.modules if name.startswith("transformers_modules")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "m"))


def write(folder: Path, ran: Path, *, pooled: bool = False, **config: Any) -> Saved:
    """A model that comes with its code. ran: a file to which the code writes when it is imported."""
    from transformers import CLIPImageProcessor

    folder.mkdir(parents=True)
    code = CODE.format(ran=str(ran), width=D, px=PATCH_PX)
    (folder / "own_model.py").write_text(code)
    named = {"AutoConfig": "own_model.OwnConfig", "AutoModel": "own_model.OwnModel"}
    settings = {"model_type": "own_patches", "architectures": ["OwnModel"], "auto_map": named}
    settings |= {"pooled": pooled, "width": D} | config
    (folder / "config.json").write_text(json.dumps(settings))
    processor = CLIPImageProcessor(size={"shortest_edge": PX}, crop_size=PX)
    processor.save_pretrained(folder)
    generator = torch.Generator().manual_seed(5)
    state = {
        "patches.weight": torch.randn(D, 3, PATCH_PX, PATCH_PX, generator=generator) / 10,
        "patches.bias": torch.randn(D, generator=generator),
    }
    save_file(state, folder / "model.safetensors", {"format": "pt"})

    def run(batch: Any) -> torch.Tensor:
        tokens = torch.nn.functional.conv2d(
            batch["pixel_values"], state["patches.weight"], state["patches.bias"], PATCH_PX
        ).flatten(2)
        return tokens.amax(2) if pooled else tokens.mean(2)

    return Saved(folder, "image", processor, run)


def expected(saved: Saved, frames: np.ndarray) -> np.ndarray:
    batch = saved.processor(list(frames), return_tensors="pt")
    return saved.run(batch).numpy()


@pytest.mark.parametrize("pooled", [False, True])
def test_code_is_run_only_with_the_option(tmp_path: Path, pooled: bool) -> None:
    saved = write(tmp_path / "own", tmp_path / "ran", pooled=pooled)
    for words in ((), ("TRUST_REMOTE_CODE=0",), ("WEIGHTS=random",), ("PLAN=1",), ("CLIP=1",)):
        with pytest.raises(InputError, match=r"could read.*files; .*give TRUST_REMOTE_CODE=1") as e:
            plan_of(saved, *words)
        assert "\n" not in str(e.value)
    assert not (tmp_path / "ran").exists()
    path = draw(tmp_path / "clip.mkv")
    found, _ = features(saved, path, "T=3", "TRUST_REMOTE_CODE=1")
    assert (tmp_path / "ran").exists()
    frames = pictures(path)
    rows = expected(saved, frames[np.linspace(0, len(frames) - 1, 3).astype(int)])
    assert relative(found, rows) < 1e-4
    assert relative(found[:-1], found[1:]) > 0.01


def test_the_code_is_part_of_the_recipe(tmp_path: Path) -> None:
    """Other code is another store, wherever the folder is; random weights are possible too."""
    first = write(tmp_path / "a" / "own", tmp_path / "ran")
    same = write(tmp_path / "b" / "own", tmp_path / "ran")
    recipe = plan_of(first, "TRUST_REMOTE_CODE=1").recipes[0].to_json()
    assert recipe["weights"]["source"] == "pretrained hf own"
    assert "trust" not in json.dumps(recipe) and str(tmp_path) not in json.dumps(recipe)
    assert plan_of(same, "TRUST_REMOTE_CODE=1").recipes[0].to_json() == recipe
    code = same.folder / "own_model.py"
    (same.folder / "train.py").write_text("raise ValueError\n")  # the model does not import it
    assert plan_of(same, "TRUST_REMOTE_CODE=1").recipes[0].to_json() == recipe
    code.write_text(code.read_text() + "# another version\n")
    other = plan_of(same, "TRUST_REMOTE_CODE=1").recipes[0].to_json()
    assert other["weights"].pop("code_sha256") != recipe["weights"].pop("code_sha256")
    assert other == recipe
    random = plan_of(first, "TRUST_REMOTE_CODE=1", "WEIGHTS=random", "SEED=3")
    assert random.recipes[0].to_json()["weights"]["source"] == "random, seed 3"


def test_so_is_the_code_that_it_imports(tmp_path: Path) -> None:
    """Also through another file; without one of them, nothing is run."""
    saved = write(tmp_path / "own", tmp_path / "ran")
    code = saved.folder / "own_model.py"
    code.write_text("from .first import WIDTH\n" + code.read_text())
    (saved.folder / "first.py").write_text("from .second import WIDTH\n")
    second = saved.folder / "second.py"
    second.write_text(f"WIDTH = {D}\n")
    recipe = plan_of(saved, "TRUST_REMOTE_CODE=1").recipes[0].to_json()
    second.write_text(f"WIDTH = {D}  # changed\n")
    other = plan_of(saved, "TRUST_REMOTE_CODE=1").recipes[0].to_json()
    assert other["weights"].pop("code_sha256") != recipe["weights"].pop("code_sha256")
    assert other == recipe
    second.unlink()
    (tmp_path / "ran").unlink()
    with pytest.raises(InputError, match=r"second\.py"):
        plan_of(saved, "TRUST_REMOTE_CODE=1")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["custom_generate/generate.py", "adapter_config.json"])
def test_files_that_run_other_code_are_refused(tmp_path: Path, name: str) -> None:
    saved = write(tmp_path / "own", tmp_path / "ran")
    path = saved.folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    with pytest.raises(InputError, match=f"must not contain {name}"):
        plan_of(saved, "TRUST_REMOTE_CODE=1")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"auto_map": {"AutoConfig": "own_model.OwnConfig"}}, "must name the class .* AutoModel"),
        (
            {"auto_map": {"AutoModel": "other/repository--own_model.OwnModel"}},
            "Python file of the model itself.*other/repository--own_model",
        ),
        ({"auto_map": {"AutoModel": "../own_model.OwnModel"}}, "Python file of the model itself"),
    ],
)
def test_code_elsewhere_is_not_run(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    saved = write(tmp_path / "own", tmp_path / "ran", **change)
    with pytest.raises(InputError, match=words):
        plan_of(saved, "TRUST_REMOTE_CODE=1")
    assert not (tmp_path / "ran").exists()


def test_nor_is_that_of_a_processor_elsewhere(tmp_path: Path) -> None:
    saved = write(tmp_path / "own", tmp_path / "ran")
    path = saved.folder / "preprocessor_config.json"
    named = {"auto_map": {"AutoImageProcessor": "other/repository--own.Processor"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | named))
    with pytest.raises(InputError, match="other/repository--own.Processor"):
        plan_of(saved, "TRUST_REMOTE_CODE=1")
    path.unlink()
    with pytest.raises(InputError, match="can only read pictures"):
        plan_of(saved, "TRUST_REMOTE_CODE=1")


REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def on_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Saved:
    """A model with code of its own in the cache of the hub."""
    saved = write(tmp_path / "own", tmp_path / "ran")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    model = tmp_path / "hub" / "models--own--patches"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(REVISION)
    (model / "snapshots").mkdir()
    saved.folder.rename(model / "snapshots" / REVISION)
    return Saved(Path("own/patches"), "image", saved.processor, saved.run)


def test_a_model_of_the_hub_runs_the_code_of_its_commit(on_hub: Saved, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="TRUST_REMOTE_CODE=1"):
        plan_of(on_hub)
    assert not (tmp_path / "ran").exists()
    plan = plan_of(on_hub, "TRUST_REMOTE_CODE=1")
    assert plan.published[0].revision == REVISION
    (path,) = tmp_path.rglob(f"snapshots/{REVISION}/own_model.py")
    code = path.read_text()
    # Code that the model imports or names is downloaded too.
    path.write_text("from .missing import x\n" + code)
    with pytest.raises(InputError, match="could not be loaded from the Hugging Face hub"):
        plan_of(on_hub, "TRUST_REMOTE_CODE=1")
    path.unlink()
    with pytest.raises(InputError, match="could not be loaded from the Hugging Face hub"):
        plan_of(on_hub, "TRUST_REMOTE_CODE=1")


def test_a_recipe_runs_no_model_of_the_hub_that_the_user_does_not_name(
    on_hub: Saved, tmp_path: Path
) -> None:
    recipe = plan_of(on_hub, "TRUST_REMOTE_CODE=1").recipes[0].to_json()
    (tmp_path / "ran").unlink()
    for extractors in ((), ("hf:own/other",), (f"hf:own/patches@{REVISION}",)):
        files = UserFiles(extractors=extractors, trust_remote_code=True)
        with pytest.raises(InputError, match="with 'predict' also EXTRACTOR=hf:own/patches"):
            options_again(recipe, files, str(tmp_path / "bank"), "folder", "cpu")
    named = UserFiles(extractors=("hf:own/patches",))
    with pytest.raises(InputError, match="TRUST_REMOTE_CODE=1"):
        options_again(recipe, named, str(tmp_path / "bank"), "folder", "cpu")
    assert not (tmp_path / "ran").exists()
    named = replace(named, trust_remote_code=True)
    again = options_again(recipe, named, str(tmp_path / "bank"), "folder", "cpu")
    assert again.extractor == "hf:own/patches" and again.trust_remote_code


def test_a_recipe_runs_only_the_code_whose_hash_it_records(tmp_path: Path) -> None:
    saved = write(tmp_path / "own", tmp_path / "ran")
    recipe = plan_of(saved, "TRUST_REMOTE_CODE=1").recipes[0].to_json()
    files = UserFiles(extractors=(saved.extractor,), trust_remote_code=True)
    options = options_again(recipe, files, str(tmp_path / "bank"), "folder", "cpu")
    (tmp_path / "ran").unlink()
    unsigned = json.loads(json.dumps(recipe))
    del unsigned["weights"]["code_sha256"]
    with pytest.raises(InputError, match=r"code is not run .*not recorded in the recipe"):
        options_again(unsigned, files, str(tmp_path / "bank"), "folder", "cpu")
    code = saved.folder / "own_model.py"
    code.write_text(code.read_text() + "# changed\n")
    with pytest.raises(InputError, match="not that of the recipe, so the code is not run") as error:
        options_again(recipe, files, str(tmp_path / "bank"), "folder", "cpu")
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="not that of the recipe"):  # nor when it extracts
        plan_streams(options, "folder", None)
    assert not (tmp_path / "ran").exists()


def test_a_recipe_cannot_give_the_option() -> None:
    with pytest.raises(InputError, match="trust_remote_code, which can only be set on the command"):
        check_recipe({"extract": {"trust_remote_code": True}})


@pytest.fixture
def run(tmp_path: Path) -> Iterator[tuple[Saved, Path]]:
    """A run on features of a model with code of its own, and its bank."""
    saved = write(tmp_path / "own", tmp_path / "ran")
    for number in range(6):
        draw(tmp_path / "v" / ("left", "down")[number % 2] / f"c_g{number // 2}_c1.mkv", number)
    bank = f"BANK={tmp_path / 'bank'}"
    words = ["extract", "DATASET=folder", f"ROOT={tmp_path / 'v'}", f"EXTRACTOR={saved.extractor}"]
    words += ["T=2", "CROPS=1", "DEVICE=cpu", bank]
    assert reelbank.main(words) == 2
    assert reelbank.main([*words, "TRUST_REMOTE_CODE=1"]) == 0
    learn = ["HEAD=meanpool", "EPOCHS=1", "VALIDATION=0", "SPLIT=1", "DEVICE=cpu", bank]
    assert reelbank.main(["train", "DATASET=folder", *learn]) == 0
    (tmp_path / "ran").unlink()
    yield saved, tmp_path / "bank"


def test_predict_asks_for_the_option_again(run: tuple[Saved, Path], tmp_path: Path) -> None:
    """What was permitted when the features were extracted is not permitted for ever."""
    from reelbank.data.scores.table import probabilities
    from reelbank.fusion.predict import predict
    from reelbank.heads.predict import predicted
    from reelbank.heads.runs.folder import find_runs

    saved, bank = run
    (trained,) = find_runs(bank)
    (path,) = (bank / "stores").glob("*.h5")
    with Store.open(path) as store:
        assert store.recipe["extractor"] == "hf:own"
    own = predicted(trained.path, path)
    video = tmp_path / "v" / f"{own.video_ids[0]}.mkv"
    options: dict[str, Any] = {"bank": bank, "extractor": saved.extractor, "device": str(CPU)}
    with pytest.raises(InputError, match="give TRUST_REMOTE_CODE=1"):
        predict(video, trained.path, **options)
    assert not (tmp_path / "ran").exists()
    table = predict(video, trained.path, trust_remote_code=True, **options)
    np.testing.assert_allclose(probabilities(table), probabilities(own)[:1], atol=1e-4)
