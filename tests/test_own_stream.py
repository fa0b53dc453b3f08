"""A stream that a user defines in a file of their own: from video to report and prediction, without a
change to the package."""

import re
from pathlib import Path

import numpy as np
import pytest
from test_extract import encode
from tiny_networks import PAUSING

import reelbank
from reelbank.data.errors import InputError
from reelbank.data.store.bank import find_store
from reelbank.data.store.reader import Store
from reelbank.extract.again import UserFiles, options_again
from reelbank.heads.runs.folder import find_runs

ROOT = Path(reelbank.__file__).parent
# The streams that CONTRIBUTING.md shows, and others that a user may write.
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
SHOWN = re.search(r'```python\n("""Differences.*?)```', PAGE, re.S)
SHOWN_WITHOUT_NETWORK = re.search(r'```python\n("""Mean absolute.*?)```', PAGE, re.S)
OTHERS = '''

class Brightness(Stream):
    """Mean grey level of each picture: rows without a network."""

    has_network = False
    made_by = "grey"
    is_cropped = False
    usual_resize_px = 32
    unused_options = ("extractor", "weights")

    def items(self, pictures, following, flow):
        return pictures.float().mean((1, 2, 3))


class Colours(Brightness):
    def items(self, pictures, following, flow):
        return pictures.float().mean((2, 3))


class Doubles(Brightness):
    def items(self, pictures, following, flow):
        return pictures.double().mean((1, 2, 3))


class Floats(Stream):
    def items(self, pictures, following, flow):
        return pictures.float() / 255


class TooFew(Stream):
    def items(self, pictures, following, flow):
        return pictures[1:]


class Mistaken(Stream):
    def items(self, pictures, following, flow):
        return pictures - following


class NoPairs(Stream):
    def items(self, pictures, following, flow):
        return following.byte()


class PairsOnly(Stream):
    reads_pairs = True


class FlowOnly(Stream):
    uses_flow = True


class TwoParameters(Stream):
    def items(self, pictures, following):
        return pictures


class Misspelt(Stream):
    read_pairs = True


class Grey(Stream):
    channels = 1

    def items(self, pictures, following, flow):
        return pictures.float().mean(1, keepdim=True).byte()


class Unnamed(Stream):
    has_network = False

    def items(self, pictures, following, flow):
        return pictures.float().mean((1, 2, 3))


class Heard(Stream):
    input = "sound"


class Smelt(Stream):
    input = "smell"


class Versioned(Stream):
    features_version = "1"


class Unusual(Stream):
    unused_options = ("extracter",)


class NoRecipe(Stream):
    def recipe(self, computation):
        return {}


class NoPreprocessing(Stream):
    def for_network(self, preprocessing):
        preprocessing.mean


class Careless(Stream):
    def check(self, options):
        return options["t"]


class Fails(Stream):
    def items(self, pictures, following, flow):
        raise ValueError("cannot be")


def not_a_class():
    return Stream()
'''
TEXT = "code/differences.py:Differences"
NAME = "differences.Differences"  # in recipes
SMALL = ("CROPS=1", "T=2", "DEVICE=cpu", "WORKERS=1")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with videos of two classes, a network and the stream's file."""
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        for label, seed in (("left", number), ("right", 100 + number)):
            path = tmp_path / "videos" / label / f"clip_g{number}_c01.avi"
            path.parent.mkdir(parents=True, exist_ok=True)
            encode(path, 6, seed)
    Path("tiny.py").write_text(PAUSING)
    Path("code").mkdir()
    assert SHOWN
    Path("code/differences.py").write_text(SHOWN[1] + OTHERS)
    return tmp_path


def run(*words: str) -> int:
    return reelbank.main(list(words))


def extraction(*words: str) -> tuple[str, ...]:
    return ("extract", "DATASET=folder", "ROOT=videos", *SMALL, *words)


def test_an_own_stream_from_video_to_report_and_prediction(
    workplace: Path, capsys: pytest.CaptureFixture
) -> None:
    words = extraction(f"STREAM={TEXT}", "EXTRACTOR=tiny.py:build")
    assert run(*words, "PLAN=1") == 0
    assert f"{NAME} with tiny.build: 6 videos, 0 already extracted" in capsys.readouterr().out
    assert not Path("bank/stores").exists()
    assert run(*words) == 0
    capsys.readouterr()
    assert run(*words) == 0
    assert "6 already extracted, 0 to extract" in capsys.readouterr().out
    path = find_store("bank", stream=TEXT)
    assert f"-{NAME}-" in path.name
    with Store.open(path) as store:
        assert (store.recipe["stream"], store.recipe["features_version"]) == (NAME, 1)
        assert store.recipe["grid_frames"] == 2  # a pair of pictures
        assert len(store) == 6
        recipe = store.recipe

    assert run("train", f"STREAM={TEXT}", "HEAD=meanpool", "EPOCHS=1", "DEVICE=cpu") == 0
    (trained,) = {one.path.name for one in find_runs("bank")}
    assert run("evaluate", f"STREAM={TEXT}") == 0
    assert run("report", "ROOT=videos") == 0
    assert NAME in next(Path("bank/reports").glob("*.html")).read_text()

    video = "VIDEOS=videos/left/clip_g0_c01.avi"
    prediction = ("predict", f"RUN={trained}", video, "EXTRACTOR=tiny.py:build", "DEVICE=cpu")
    assert run(*prediction) == 2
    said = capsys.readouterr().err
    assert "give STREAM=<path of differences.py>:Differences" in said
    assert run(*prediction, f"STREAM={TEXT}") == 0
    assert "left" in capsys.readouterr().out

    # Of a recipe, the user's own file is never run unless the user names it.
    with pytest.raises(InputError, match="which this version does not know"):
        options_again(recipe | {"stream": TEXT}, UserFiles(streams=(TEXT,)), "bank", "made", "cpu")


def test_the_command_that_makes_a_missing_store_names_the_users_file(
    workplace: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run("train", f"STREAM={TEXT}", "HEAD=meanpool") == 2
    assert f"make one with 'reelbank extract STREAM={TEXT} ROOT=" in capsys.readouterr().err


def test_an_own_stream_gives_the_same_rows_with_and_without_others(workplace: Path) -> None:
    """One decoding feeds both, and the values of PER-STREAM options go by its name in recipes."""
    network = f"EXTRACTOR=rgb=tiny.py:build {NAME}=tiny.py:build"
    words = ("GRID=2", "CLASSES=left")
    assert run(*extraction(f"STREAM=rgb {TEXT}", network, *words, "BANK=both")) == 0
    assert run(*extraction(f"STREAM={TEXT}", "EXTRACTOR=tiny.py:build", *words)) == 0
    with (
        Store.open(find_store("bank", stream=TEXT)) as alone,
        Store.open(find_store("both", stream=TEXT)) as together,
    ):
        assert alone.identity == together.identity
        for video in alone:
            np.testing.assert_array_equal(alone[video], together[video])


def test_a_stream_without_a_network(workplace: Path, capsys: pytest.CaptureFixture) -> None:
    words = extraction("STREAM=code/differences.py:Brightness")
    assert run(*words, "PLAN=1") == 0
    assert "1 number per row" in capsys.readouterr().out
    assert run(*words) == 0
    path = find_store("bank", stream="code/differences.py:Brightness")
    assert path.name.startswith("folder-videos") and "-grey-" in path.name
    with Store.open(path) as store:
        assert store.row_shape == (1,)
        values = store.load(store.video_ids)[0]
        assert values.min() > 0 and values.max() < 255
        recipe = store.recipe
    given = UserFiles(streams=("code/differences.py:Brightness",))
    again = options_again(recipe, given, "bank", "made", "cpu")
    assert (again.stream, again.t) == (given.streams, 2)
    assert run(*words, "EXTRACTOR=tiny.py:build") == 2
    assert "STREAM=differences.Brightness does not use this option" in capsys.readouterr().err


def test_the_documented_stream_without_a_network_from_video_to_prediction(
    workplace: Path, capsys: pytest.CaptureFixture
) -> None:
    assert SHOWN_WITHOUT_NETWORK
    Path("change.py").write_text(SHOWN_WITHOUT_NETWORK[1])
    stream = "STREAM=change.py:Change"
    words = ("extract", "DATASET=folder", "ROOT=videos", stream, "T=2", "DEVICE=cpu", "WORKERS=1")
    assert run(*words) == 0
    with Store.open(find_store("bank", stream="change.py:Change")) as store:
        assert store.row_shape == (3,) and store.recipe["extractor"] == "mean"
        assert store.load(store.video_ids)[0].min() > 0  # noise: every colour changes
    for unused in ("EXTRACTOR=tiny.py:build", "SIZE=32", "CLIP=4", "CROPS=5", "VIEWS=2"):
        assert run(*words, unused) == 2
        assert unused.partition("=")[0] in capsys.readouterr().err
    assert run("train", stream, "HEAD=meanpool", "EPOCHS=1", "DEVICE=cpu") == 0
    (trained,) = find_runs("bank")
    video = "VIDEOS=videos/left/clip_g0_c01.avi"
    assert run("predict", f"RUN={trained.path.name}", video, stream, "DEVICE=cpu") == 0
    assert "left" in capsys.readouterr().out


def test_a_stream_that_fails_over_a_video_is_a_failure_with_its_reason(
    workplace: Path, capsys: pytest.CaptureFixture
) -> None:
    words = extraction("STREAM=code/differences.py:Fails", "EXTRACTOR=tiny.py:build")
    assert run(*words, "CLASSES=left") == 1
    assert "could not be computed: ValueError: cannot be" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Floats", "must return uint8 items of shape (n, 3, H, W)"),
        ("TooFew", "one item for each of the"),
        ("Mistaken", "items(pictures, following, flow) raised TypeError"),
        ("NoPairs", "`following` is None unless the class sets reads_pairs = True"),
        ("TwoParameters", "takes 3 positional arguments but 4 were given"),
        ("Colours", "float32 rows of shape (n, 1), as `row_numbers` = 1 says (got torch.float32"),
        ("Doubles", "must return float32 rows of shape (n, 1)"),
        ("Misspelt", "'read_pairs'; did you mean 'reads_pairs'"),
        ("Unnamed", "without a network (has_network = False) must define `made_by`"),
        ("PairsOnly", "`reads_pairs` is True, but the class does not define items(pictures, "),
        ("FlowOnly", "`uses_flow` is True, but the class does not define items(pictures, "),
        ("Heard", "clips() of a stream of sound must return Examples (got Sampling)"),
        ("Smelt", '`input` must be "pictures" or "sound" (got "smell")'),
        ("Versioned", "`features_version` must be of type int (got '1')"),
        ("Unusual", "not an option of extract; did you mean extractor?"),
        ("NoRecipe", "recipe() of a stream of pictures must return FeatureRecipe (got dict)"),
        ("NoPreprocessing", "for_network() must return Preprocessing (got NoneType)"),
    ],
)
def test_a_mistake_in_a_users_stream_ends_the_command_with_one_clear_line(
    workplace: Path, capsys: pytest.CaptureFixture, name: str, message: str
) -> None:
    without_network = name in ("Unnamed", "Colours", "Doubles")
    network = () if without_network else ("EXTRACTOR=tiny.py:build",)
    assert run(*extraction(f"STREAM=code/differences.py:{name}", *network)) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in said and f"{name}" in said


def test_an_error_in_a_users_file_names_its_line(
    workplace: Path, capsys: pytest.CaptureFixture
) -> None:
    words = extraction("STREAM=code/differences.py:Careless", "EXTRACTOR=tiny.py:build")
    source = Path("code/differences.py").read_text().splitlines()
    line = source.index('        return options["t"]') + 1
    for prefix, said in (
        (
            "",
            f"TypeError: 'StreamOptions' object is not subscriptable in differences.py, line {line}",
        ),
        ("def\n", "SyntaxError: invalid syntax (differences.py, line 1)"),
    ):
        Path("code/differences.py").write_text("\n".join([prefix, *source]).removeprefix("\n"))
        assert run(*words) == 2
        assert capsys.readouterr().err.strip().endswith(said)


def test_a_stream_of_one_channel_has_a_network_fitted_to_it(workplace: Path) -> None:
    words = ("STREAM=code/differences.py:Grey", "EXTRACTOR=torchvision:squeezenet1_0")
    sizes = ("WEIGHTS=random", "RESIZE=64", "SIZE=64", "CLASSES=left")
    assert run(*extraction(*words, *sizes)) == 0
    with Store.open(find_store("bank")) as store:
        assert len(store.recipe["preprocessing"]["mean"]) == 1


def test_a_head_on_the_maps_of_an_own_stream(
    workplace: Path, capsys: pytest.CaptureFixture
) -> None:
    """The head begins with the rest of the network, whose input has as many channels as the stream."""
    grey = "STREAM=code/differences.py:Grey"
    network = ("EXTRACTOR=torchvision:squeezenet1_0", "WEIGHTS=random", "AT=features.11")
    assert run(*extraction(grey, *network, "RESIZE=64", "SIZE=64")) == 0
    training = ("train", "HEAD=tsn", "EPOCHS=1", "DEVICE=cpu")
    path = find_store("bank")
    assert run(*training, f"STORE={path}") == 2
    said = "give STREAM=<path of differences.py>:Grey"
    assert said in capsys.readouterr().err
    assert run(*training, grey) == 0
    (trained,) = find_runs("bank")
    prediction = ("predict", f"RUN={trained.path.name}", "DEVICE=cpu")
    files = "VIDEOS=videos/left/clip_g0_c01.avi"
    for input_of_run in (f"STORE={path}", files):
        capsys.readouterr()
        assert run(*prediction, input_of_run) == 2
        assert said in capsys.readouterr().err
        assert run(*prediction, input_of_run, grey) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("code/absent.py:Differences", "the file code/absent.py does not exist"),
        ("code/differences.py:Absent", "does not define 'Absent'"),
        ("code/differences.py:Difference", "'Difference'; did you mean Differences?"),
        ("code/differences.py:not_a_class", "must be a class derived from"),
        ("difference", "choose from rgb, flow, audio"),
    ],
)
def test_a_stream_that_cannot_be_loaded_gets_one_clear_line(
    workplace: Path, capsys: pytest.CaptureFixture, text: str, message: str
) -> None:
    assert run(*extraction(f"STREAM={text}")) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1


def test_a_recipe_file_cannot_name_an_own_stream(
    workplace: Path, capsys: pytest.CaptureFixture
) -> None:
    Path("untrusted.toml").write_text(f'[extract]\nstream = "{TEXT}"\n')
    assert run(*extraction("RECIPE=untrusted.toml")) == 2
    assert "[extract] stream must not name a Python file" in capsys.readouterr().err
