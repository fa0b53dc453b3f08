"""`import reelbank` in Python: what is public, the store as a collection, and the wheel."""

import importlib
import os
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from made_stores import fill, made_values, made_video

import reelbank
from reelbank.data.errors import InputError
from reelbank.data.store.reader import Store

ROOT = Path(reelbank.__file__).parent


def test_dir_lists_exactly_the_public_names():
    assert dir(reelbank) == sorted([*reelbank.PUBLIC, "__version__"])
    assert all(hasattr(reelbank, name) for name in dir(reelbank))
    with pytest.raises(AttributeError, match="no attribute 'stor'"):
        reelbank.stor  # noqa: B018


def test_every_public_name_comes_from_the_module_that_defines_it():
    for name, module in reelbank.PUBLIC.items():
        defined = getattr(importlib.import_module(f"reelbank.{module}"), name)
        assert defined.__module__ == f"reelbank.{module}"
        assert getattr(reelbank, name) is defined


def test_a_store_is_a_collection_of_videos(tmp_path):
    fill(tmp_path / "a.h5", range(3))
    ids = [made_video(number).id for number in range(3)]
    with Store.open(tmp_path / "a.h5") as store:
        assert len(store) == 3 and list(store) == ids
        assert ids[1] in store and "dig/v999" not in store and 1 not in store
        np.testing.assert_array_equal(store[ids[2]], made_values(2).astype(np.float16))
        with pytest.raises(InputError, match="dig/v999"):
            store["dig/v999"]
        assert repr(store) == "<Store a.h5: 3 videos, 6 rows of 5 float16, finished>"
    fill(tmp_path / "b.h5", range(1), finish=False, row_shape=(2, 4))
    with Store.open(tmp_path / "b.h5") as store:
        assert repr(store) == "<Store b.h5: 1 video, 1 rows of 2 x 4 float16, unfinished>"


def test_a_pickled_store_is_opened_again_by_its_path(tmp_path, monkeypatch):
    fill(tmp_path / "a.h5", range(3))
    monkeypatch.chdir(tmp_path)
    with Store.open("a.h5") as store:
        data = pickle.dumps(store)
    monkeypatch.chdir("/")
    with pickle.loads(data) as copy:  # noqa: S301
        assert list(copy) == list(store)
        np.testing.assert_array_equal(copy["dig/v000"], made_values(0).astype(np.float16))
    (tmp_path / "a.h5").unlink()
    with pytest.raises(InputError, match=r"a\.h5"):
        pickle.loads(data)  # noqa: S301


SCRIPT = """
import reelbank
from typing import reveal_type

def rows(path: str) -> dict[str, int]:
    with reelbank.Store.open(path) as store:
        reveal_type(store[store.video_ids[0]])
        return {video_id: len(store[video_id]) for video_id in store}

print(reelbank.__file__, rows("a.h5"))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel was installed."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", folder, ROOT], check=True)
    (wheel,) = folder.glob("reelbank-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run_installed(installed: Path, words: list[str], folder: Path) -> str:
    """Run Python in `folder` with the installed wheel and no checkout on the path."""
    site = next(path for path in sys.path if path.endswith("site-packages"))
    code = f"import sys; sys.path[:] = [path for path in sys.path if path != {str(ROOT)!r}]"
    (installed / "sitecustomize.py").write_text(code)
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(installed), site])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_the_wheel_is_a_normal_package(installed, tmp_path):
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {
        "reelbank"
    }
    assert (installed / "reelbank" / "py.typed").exists()
    assert (installed / "reelbank" / "data" / "store" / "reader.py").exists()
    report = Path("fusion", "report")  # its templates, style, script and fonts are not modules
    data_files = [
        path.relative_to(ROOT)
        for path in (ROOT / report).rglob("*.*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    ]
    assert {path.suffix for path in data_files} >= {".html", ".css", ".js", ".ttf"}
    assert not [path for path in data_files if not (installed / "reelbank" / path).exists()]
    fill(tmp_path / "a.h5", range(2))
    for name in ("data", "extract", "heads", "fusion"):  # a user's own folders
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('not mine')")
    (tmp_path / "script.py").write_text(SCRIPT.replace("        reveal_type", "        len"))
    printed = run_installed(installed, ["script.py"], tmp_path)
    assert printed.startswith(str(installed / "reelbank" / "__init__.py"))
    assert printed.endswith("{'dig/v000': 1, 'fly/v001': 2}\n")
    assert run_installed(installed, ["-m", "reelbank", "--version"], tmp_path).strip() == (
        reelbank.__version__
    )


MESSAGES = """
import reelbank
from reelbank.data.command_line.table import COMMANDS
for name in COMMANDS:
    reelbank.main([name, "--help"])
for words in (["train"], ["train", "--head", "gru"], ["runs"], ["stores"], ["report"], ["extract", "w"]):
    reelbank.main(words)
"""


def test_messages_of_the_installed_command_show_commands_as_it_has_them(installed, tmp_path):
    (tmp_path / "messages.py").write_text(f"import sys; sys.stderr = sys.stdout\n{MESSAGES}")
    said = run_installed(installed, ["messages.py"], tmp_path)
    assert "usage: reelbank train" in said and "'reelbank train' makes one" in said
    assert "make one with 'reelbank extract --root=<folder of the videos>'" in said
    assert not re.search(r"'make |make's|Makefile|\.venv", said)


def test_an_editable_install_imports_the_checkout(tmp_path):
    wheel = pytest.importorskip("hatchling.builders.wheel")
    (built,) = wheel.WheelBuilder(str(ROOT)).build(
        directory=str(tmp_path), versions=["editable"], clean=False
    )
    with zipfile.ZipFile(built) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        assert names == ["_reelbank.pth"]
        assert archive.read("_reelbank.pth").decode().strip() == str(ROOT)


@pytest.mark.long
def test_a_users_script_passes_mypy_strict(installed, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    # Without torch's own types, which take a minute to read.
    (tmp_path / "mypy.ini").write_text("[mypy-torch.*]\nfollow_imports = skip\n")
    words = ["-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "script.py"]
    printed = run_installed(installed, words, tmp_path)
    assert "ndarray[" in printed and "Success" in printed
    (tmp_path / "script.py").write_text("import reelbank\nreelbank.Stor\n")
    with pytest.raises(AssertionError, match='has no attribute "Stor"'):
        run_installed(installed, words, tmp_path)
