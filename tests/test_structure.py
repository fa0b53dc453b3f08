"""Imports point one way, and the documentation names what exists."""

import ast
import re
from pathlib import Path

import reelbank
from reelbank.data.command_line.table import COMMANDS

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


# Files that CONTRIBUTING tells the reader to write.
EXAMPLES = ("extract/streams/rgbdiff.py", "heads/models/spread.py", "data/datasets/gait.py")


def test_every_file_that_the_documentation_names_exists():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    pages += (ROOT / "recipes").glob("*.toml")
    pattern = r"(?<![\w/])((?:data|extract|heads|fusion|tests|benchmarks|docs)/[\w/]+\.(?:py|md))"
    for page in pages:
        named = set(re.findall(pattern, page.read_text())) - set(EXAMPLES)
        missing = {name for name in named if not (ROOT / name).exists()}
        assert not missing, f"{page.name}: {missing}"


def test_every_command_shows_its_help(capsys):
    for command in COMMANDS:
        assert reelbank.main([command, "--help"]) == 0
        assert f"usage: reelbank {command}" in capsys.readouterr().out


# Ways to a terminal that do not make a text safe themselves: their texts must come from
# `printable`.
UNSAFE = ("tqdm.write", "bar.write", "warnings.warn", "_log.warning", "input")


def unsafe_prints(source: str) -> list[str]:
    """Calls of `print` and of sys.stdout's and sys.stderr's `write`; and calls of UNSAFE with a
    text that is drawn together from parts (an f-string, a name) and not from `printable`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        texts = [ast.unparse(text) for text in node.args if not isinstance(text, ast.Constant)]
        direct = name in ("print", "sys.stdout.write", "sys.stderr.write")
        if direct or (name in UNSAFE and not all("printable(" in text for text in texts)):
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def test_every_text_is_printed_by_the_one_function_that_makes_it_safe():
    paths = [
        ROOT / "reelbank.py",
        *(path for package in ORDER for path in (ROOT / package).rglob("*.py")),
    ]
    unsafe = {
        path.name: lines
        for path in paths
        if (lines := unsafe_prints(path.read_text())) and path.name != "console.py"
    }
    assert not unsafe, f"use print_lines of data/console.py: {unsafe}"


def test_the_check_of_prints_sees_an_unsafe_one():
    unsafe = 'print(name)\nsys.stderr.write(name)\nbar.write(f"failed: {name}")\nwarnings.warn(reason, stacklevel=2)\n'
    assert len(unsafe_prints(unsafe)) == 4
    assert not unsafe_prints(
        'print_lines(name)\nbar.write(printable(name))\nfile.write(name)\ninput("yes? ")\n'
    )


def test_every_csv_is_written_by_the_one_writer_that_makes_cells_safe():
    paths = [
        path
        for package in ORDER
        for path in (ROOT / package).rglob("*.py")
        if path.name != "text_files.py"
    ]
    writers = {
        path.name for path in paths if re.search(r"csv\.(writer|DictWriter)\(", path.read_text())
    }
    assert not writers, f"use csv_file of data/text_files.py: {writers}"
