"""Imports point one way, and the documentation names what exists."""

import ast
import re
from pathlib import Path

import reelbank

ROOT = Path(reelbank.__file__).parent
ORDER = ["data", "extract", "heads", "fusion"]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module == "reelbank":
            modules += [f"reelbank.{alias.name}" for alias in node.names]
        names |= {module.split(".")[1] for module in modules if module.startswith("reelbank.")}
    return names


def test_imports_point_one_way():
    for number, package in enumerate(ORDER):
        for path in (ROOT / package).rglob("*.py"):
            later = imported(path) & set(ORDER[number + 1 :])
            assert not later, f"{path.relative_to(ROOT)} imports {later}"


def test_the_one_way_check_sees_a_wrong_import(tmp_path):
    (tmp_path / "a.py").write_text("from reelbank.fusion import late\nfrom reelbank import heads\n")
    assert imported(tmp_path / "a.py") == {"fusion", "heads"}


def test_every_make_target_of_the_readme_exists():
    targets = set(re.findall(r"^([a-z][\w -]*):(?!=)", (ROOT / "Makefile").read_text(), re.M))
    known = {word for line in targets for word in line.split()}
    for name in ("README.md", "CONTRIBUTING.md"):
        named = set(re.findall(r"`make ([a-z]+)", (ROOT / name).read_text()))
        assert named <= known, f"{name}: {named - known}"


def test_every_command_shows_its_help(capsys):
    for command in reelbank.COMMANDS:
        try:
            reelbank.main([command, "--help"])
        except SystemExit as stop:
            assert stop.code == 0
        assert f"usage: reelbank {command}" in capsys.readouterr().out
