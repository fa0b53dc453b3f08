"""The Dockerfile, as far as it can be checked without Docker: its steps are shell, what they copy is
in the context, and the command does not run as root."""

import fnmatch
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from dockerfile_steps import ROOT, context, instructions, script


def test_the_context_has_what_the_wheel_is_built_from_and_nothing_else() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = build["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {
        "pyproject.toml",
        build["project"]["readme"],
        build["tool"]["hatch"]["version"]["path"],
        *build["project"]["license-files"],
        *wheel["only-include"],
        wheel["hooks"]["custom"]["path"],
    }
    assert {name.split("/")[0] for name in needed} | {"versions"} == set(context())
    for name, text in instructions():
        if name == "COPY" and not text.startswith("--from="):
            source = text.split()[0]
            assert (ROOT / source).exists()
            assert source == "." or any(
                fnmatch.fnmatch(Path(source).parts[0], n) for n in context()
            )


def test_the_command_runs_as_an_ordinary_user() -> None:
    by_name = dict(instructions())
    assert by_name["USER"] == "reelbank" and by_name["ENTRYPOINT"] == '["reelbank"]'
    names = [name for name, _ in instructions()]
    assert "RUN" not in names[names.index("USER") :]
    assert names.count("FROM") == 2  # the clone is only in the first stage


def test_its_steps_are_shell() -> None:
    for arguments in ([], ["TORCH=cuda"]):
        text = "\n".join(script(arguments))
        done = subprocess.run(["sh", "-n"], input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert f"TORCH={'cuda' if arguments else 'cpu'}\n" in text


@pytest.mark.parametrize(
    ("torch", "printed"),
    [
        ("cpu", "--index-url https://cpu -c /opt/reelbank/tested.txt torch torchvision\n"),
        ("cuda", "--no-install-recommends gcc libc6-dev python3-dev\n"),
        ("tpu", "TORCH=tpu: choose cpu or cuda\n"),
    ],
)
def test_the_build_argument_chooses_torch(torch: str, printed: str) -> None:
    (step,) = (text for name, text in instructions() if name == "RUN" and "$TORCH" in text)
    programs = ("apt-get", "rm", "/opt/reelbank/bin/pip")
    said = re.sub(rf"(?<=[ )])({'|'.join(programs)})(?= )", "echo", step)
    assert not re.search(r"\brm\b|apt-get", said)  # nothing of it runs here
    done = subprocess.run(
        ["sh", "-ec", said],
        env={"TORCH": torch, "CPU_INDEX": "https://cpu"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode == 0) == (torch != "tpu")
    assert printed in done.stdout + done.stderr
