"""Versions of the packages: what is locked, what make installs, and the message when a package does
not load."""

import os
import platform
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.version import Version

import reelbank

ROOT = Path(reelbank.__file__).parent
COMMAND = "import sys, reelbank; sys.exit(reelbank.main(sys.argv[1:]))"


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [
        *project["dependencies"],
        *(text for extra in project["optional-dependencies"].values() for text in extra),
    ]
    return [Requirement(text) for text in texts]


def locked(name: str) -> list[Requirement]:
    return [
        Requirement(line)
        for line in (ROOT / "versions" / f"{name}.txt").read_text().splitlines()
        if line
    ]


def pins(name: str, python: str, machine: str) -> dict[str, Version]:
    """Package -> version for one Python on Linux. Fails if a line is not a pin, or if two lines match."""
    about = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_machine": machine,
    }
    found: dict[str, Version] = {}
    for line in locked(name):
        if line.marker and not line.marker.evaluate({**default_environment(), **about}):
            continue
        (pin,) = line.specifier
        assert pin.operator == "==" and line.name not in found, line
        found[line.name] = Version(pin.version)
    return found


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_every_package_is_locked_within_its_range(python: str, machine: str) -> None:
    tested = pins("tested", python, machine)
    about = {"sys_platform": "linux", "platform_machine": machine}
    for wanted in requirements():
        if wanted.marker and not wanted.marker.evaluate({**default_environment(), **about}):
            assert wanted.name not in tested, f"{wanted.name} has no wheel for {machine}"
        else:
            assert wanted.specifier.contains(tested[wanted.name]), wanted
    assert tested["av"].major == (18 if python == "3.11" else 19)  # PyAV 19 needs Python 3.12


def test_every_lower_bound_is_the_version_that_the_lowest_tests_have() -> None:
    lowest = pins("lowest", "3.11", "x86_64")
    for wanted in requirements():
        (bound,) = [Version(one.version) for one in wanted.specifier if one.operator == ">="]
        assert lowest[wanted.name] == bound, wanted


# Stands in for python3: makes a .venv whose interpreter writes down how it was called, instead of
# installing gigabytes.
PYTHON = """#!/bin/sh
[ "$1" = -c ] && exit 0
[ "$2" = venv ] || exit 3
mkdir -p .venv/bin
cat > .venv/bin/python <<'END'
#!/bin/sh
echo "$PIP_CONSTRAINT|$PIP_BUILD_CONSTRAINT|$*" >> calls
[ ! -e offline ] || exit 1
END
chmod +x .venv/bin/python
"""


def clone(folder: Path) -> Path:
    (folder / "versions").mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "versions/tested.txt", "versions/lowest.txt"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    (folder / "fake").write_text(PYTHON)
    (folder / "fake").chmod(0o755)
    return folder


def make(
    folder: Path, *words: str, python: str = "./fake", **environment: str
) -> subprocess.CompletedProcess[str]:
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MAKE", "PIP_", "VERSIONS", "LONG", "PYTHON"))
    }
    command = ["make", *words, *([f"PYTHON={python}"] if python else [])]
    return subprocess.run(
        command, cwd=folder, env=own | environment, capture_output=True, text=True
    )


def installs(folder: Path) -> list[str]:
    """What pip was called with since the last look."""
    calls = folder / "calls"
    lines = calls.read_text().splitlines() if calls.exists() else []
    calls.unlink(missing_ok=True)
    return [line for line in lines if " pip " in line]


def test_make_installs_the_tested_versions_whatever_the_machines_pip_is_told(
    tmp_path: Path,
) -> None:
    folder = clone(tmp_path / "clone")
    done = make(folder, "setup", PIP_CONSTRAINT="/of/the/machine.txt", VERSIONS="of something else")
    assert done.returncode == 0, done.stderr
    (line,) = installs(folder)
    assert line.startswith(
        "versions/tested.txt|versions/tested.txt|-m pip install "
    ) and line.endswith(" -e .[dev]")
    make(folder, "setup")
    assert installs(folder) == []  # once is enough


def test_the_versions_that_were_chosen_stay_until_others_are(tmp_path: Path) -> None:
    folder = clone(tmp_path / "clone")
    for versions, constraints in (
        ("newest", "/dev/null"),
        ("lowest", "versions/lowest.txt"),
        ("tested", "versions/tested.txt"),
    ):
        make(folder, "setup", f"VERSIONS={versions}")
        assert [line.split("|")[0] for line in installs(folder)] == [constraints]
        make(folder, "test")  # without VERSIONS
        assert installs(folder) == []
    later = (folder / "pyproject.toml").stat().st_mtime + 1000
    os.utime(folder / "versions/tested.txt", (later, later))  # a renewed lock
    make(folder, "setup")
    assert len(installs(folder)) == 1


def test_the_chosen_versions_outlive_an_installation_that_fails(tmp_path: Path) -> None:
    folder = clone(tmp_path / "clone")
    (folder / "offline").touch()
    assert make(folder, "setup", "VERSIONS=newest").returncode
    (folder / "offline").unlink()
    installs(folder)
    make(folder, "setup")
    assert [line.split("|")[0] for line in installs(folder)] == ["/dev/null"]


@pytest.mark.parametrize("versions", ["latest", "tested lowest", ""])
def test_make_refuses_versions_that_there_are_not(tmp_path: Path, versions: str) -> None:
    folder = clone(tmp_path / "clone")
    done = make(folder, "setup", f"VERSIONS={versions}")
    assert (
        done.returncode and f"VERSIONS={versions}: choose tested, newest or lowest" in done.stderr
    )
    assert not (folder / ".venv").exists()


def test_a_python_that_is_too_old_is_refused_and_the_environment_stays(tmp_path: Path) -> None:
    folder = clone(tmp_path / "clone")
    make(folder, "setup")
    (folder / "old").write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "$(echo "$2" | sed \'s/(3, 11)/(9, 9)/\')" "$3"\n'
    )
    (folder / "old").chmod(0o755)
    done = make(folder, "setup", python="./old")
    version = platform.python_version()
    assert (
        done.returncode
        and f"./old is Python {version}; Reelbank needs Python 3.11 or newer" in done.stderr
    )
    assert (folder / ".venv" / "bin" / "python").exists()


def test_the_python_that_was_chosen_stays_until_another_is(tmp_path: Path) -> None:
    folder = clone(tmp_path / "clone")
    (folder / "other").write_bytes((folder / "fake").read_bytes())
    (folder / "other").chmod(0o755)
    make(folder, "setup")
    assert len(installs(folder)) == 1
    make(folder, "setup", python="")  # none is named
    assert installs(folder) == [] and (folder / ".venv/python").read_text() == "./fake\n"
    make(folder, "setup", python="./other")
    assert len(installs(folder)) == 1 and (folder / ".venv/python").read_text() == "./other\n"


def test_long_tests_run_when_asked_for(tmp_path: Path) -> None:
    folder = clone(tmp_path / "clone")
    make(folder, "setup")
    plain, long, no = (
        make(folder, "--dry-run", "test", *words).stdout.strip()
        for words in ([], ["LONG=1"], ["LONG=0"])
    )
    assert plain.endswith("-m pytest") and no == plain and long.endswith('-m pytest -m ""')


def run(words: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(folder), str(ROOT)])
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    everything = inherited | {"PYTHONPATH": path} | environment
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=everything,
        capture_output=True,
        text=True,
        check=False,
    )


def package(folder: Path, name: str, code: str) -> None:
    """A package that stands in for one of the machine's."""
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(code)


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.long
def test_opencv_without_a_system_library_or_without_files_is_one_line_that_says_how_to_repair_it(
    tmp_path: Path,
) -> None:
    package(
        tmp_path,
        "cv2",
        "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')",
    )
    (tmp_path / "videos" / "class").mkdir(parents=True)
    (tmp_path / "videos" / "class" / "video.mp4").write_bytes(b"never opened")
    words = ("DATASET=folder", f"ROOT={tmp_path / 'videos'}", "WEIGHTS=random", "PLAN=1")
    line = refusal(
        run(["-c", COMMAND, "extract", *words, "STREAM=flow", "FLOW=dis", "CLIP=1"], tmp_path)
    )
    assert (
        "OpenCV (cv2) does not load: libGL.so.1" in line and "pip install --force-reinstall" in line
    )
    (tmp_path / "cv2" / "__init__.py").write_text(
        ""
    )  # what is left when the other package of the two was removed
    line = run(["-c", "from reelbank.data.video.opencv import cv2"], tmp_path).stderr.splitlines()[
        -1
    ]
    assert "its files are gone" in line and "--no-deps opencv-python-headless" in line
    doctor = run(["-c", COMMAND, "doctor"], tmp_path).stdout
    assert (
        "OpenCV (optical flow and DECODER=opencv): does not load" in doctor
        and "extract and report need it" in doctor
    )
    assert (
        f"{sys.executable} -m pip install --force-reinstall --no-deps opencv-python-headless"
        in doctor
    )


def test_doctor_goes_on_where_packages_do_not_load(tmp_path: Path) -> None:
    for name in ("av", "h5py", "torch", "torchvision", "cv2"):
        package(
            tmp_path, name, "raise ImportError('libmissing.so.1: cannot open shared object file')"
        )
    done = run(["-c", COMMAND, "doctor"], tmp_path)
    assert done.returncode == 1 and done.stderr == ""
    lines = [line for line in done.stdout.splitlines() if "does not load (libmissing.so.1" in line]
    assert (
        len(lines) == 5
        and "every decoder needs it; repair the package with: " in lines[2]
        and lines[2].endswith("--no-deps av")
    )
    assert "\nbank " in done.stdout


def test_a_package_that_misses_a_system_library_is_one_line(tmp_path: Path) -> None:
    package(
        tmp_path,
        "h5py",
        "raise ImportError('libhdf5.so.310: cannot open shared object file: No such file or directory')",
    )
    line = refusal(run(["-c", COMMAND, "stores"], tmp_path))
    assert (
        "a package cannot be loaded: libhdf5.so.310: cannot open" in line
        and "pip install --force-reinstall" in line
    )
    (tmp_path / "h5py" / "__init__.py").write_text(
        "raise OSError('libcudart.so.13: cannot open shared object file')"
    )  # ctypes
    line = refusal(run(["-c", COMMAND, "stores"], tmp_path))
    assert "a package cannot be loaded: libcudart.so.13: cannot open" in line
    (tmp_path / "h5py" / "__init__.py").write_text(
        "from reelbank.data import nothing_of_the_kind"
    )  # a fault of our own code
    done = run(["-c", COMMAND, "stores"], tmp_path)
    assert (
        done.returncode == 1 and "Traceback" in done.stderr and "nothing_of_the_kind" in done.stderr
    )


@pytest.mark.parametrize("asked", ["", "ACTIVE"])
def test_threads_that_wait_sleep_unless_the_user_says_otherwise(tmp_path: Path, asked: str) -> None:
    own = {"OMP_WAIT_POLICY": asked} if asked else {}
    shown = run(
        ["-c", "import reelbank, torch"], tmp_path, OMP_DISPLAY_ENV="TRUE", **own
    ).stderr  # what OpenMP itself took
    assert f"OMP_WAIT_POLICY = '{asked or 'PASSIVE'}'" in shown
