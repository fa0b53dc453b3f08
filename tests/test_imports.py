"""Imports point one way, without circles; and no module names a stream, a head or a data set that is not
its own, so that a new one is one file and one line in a registry."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import reelbank
from reelbank.data.datasets.registry import DATASETS
from reelbank.extract.streams.registry import STREAMS
from reelbank.heads.models.registry import HEADS

ROOT = Path(reelbank.__file__).parent
PACKAGES = ("data", "extract", "heads", "fusion")


def modules() -> dict[str, Path]:
    """Every module by its name: `reelbank`, `reelbank.data`, `reelbank.data.store.reader` ..."""
    named = {"reelbank": ROOT / "reelbank.py"}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            named[".".join(["reelbank", *(parts[:-1] if parts[-1] == "__init__" else parts)])] = (
                path
            )
    return named


def imports_of(source: str) -> set[str]:
    """The names that a module imports anywhere, in functions too: of `from a import b` both a and a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def in_circles(imports: dict[str, set[str]]) -> set[str]:
    """The modules that can be reached from themselves."""
    edges = {
        name: {target for target in targets if target in imports and target != name}
        for name, targets in imports.items()
    }
    circular = set()
    for start in edges:
        reached: set[str] = set()
        front = set(edges[start])
        while front:
            reached |= front
            front = set().union(*(edges[name] for name in front)) - reached
        if start in reached:
            circular.add(start)
    return circular


def test_no_module_imports_itself_in_a_circle() -> None:
    # The face imports what it offers when it is first used. What it says of itself, its version and its
    # folders, is read from it everywhere.
    imports = {name: imports_of(path.read_text()) for name, path in modules().items()}
    imports.pop("reelbank")
    assert not in_circles(imports)


def test_the_check_of_circles_sees_one() -> None:
    inner = imports_of("def late():\n    from reelbank.data.b import x\n")
    assert in_circles(
        {"reelbank.data.a": inner, "reelbank.data.b": {"reelbank.data.a"}, "c": inner}
    ) == {
        "reelbank.data.a",
        "reelbank.data.b",
    }


# Strings that are spelled like a name and mean something else: file -> (string, what it means there).
HOMONYMS = {
    "data/feature_recipe.py": {
        "flow": "a key of recipes",
        "magnitude": "an extractor of recipes",
        "rgb": "the default of imported features",
    },
    "data/store/exchange/video_features.py": {
        "rgb": "that tool's file name",
        "flow": "that tool's file name",
    },
    "data/video/opening.py": {"audio": "FFmpeg's kind of track"},
    "extract/networks/preprocessing.py": {"rgb": "the order of colour channels"},
    "extract/streams/idt.py": {"flow": "a key of recipes"},
    "extract/streams/magnitude.py": {"flow": "a key of recipes, and of store names"},
    "heads/pretraining/inputs.py": {"flow": "the option FLOW"},
    "heads/pretraining/plan.py": {"flow": "a key of recipes"},
}
# Besides a plug-in's own file and the registries, these may name them.
REGISTRIES = (
    "data/datasets/registry.py",
    "extract/streams/registry.py",
    "heads/models/registry.py",
)
TABLES_OF_DEFAULTS = ("extract/defaults.py", "heads/defaults.py")


def own_files() -> dict[str, set[str]]:
    """For each file of a plug-in the names that it may contain: its own."""
    owned: dict[str, set[str]] = {}
    for registry in (STREAMS, HEADS, DATASETS):
        for name, target in registry.items():
            file = target.partition(":")[0].replace(".", "/") + ".py"
            owned.setdefault(file, set()).add(name)
    return owned


def named_plugins(source: str, names: set[str]) -> Iterator[tuple[int, str]]:
    """(line, string) of every string constant that consists of these names, alone or in a list such as
    "rgb flow" or "rgb+flow"; docstrings are longer."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            words = {word for word in re.split(r"[\s,+|]+", node.value) if word}
            if words and words <= names:
                yield node.lineno, node.value


def test_no_module_names_a_plugin_of_another_file() -> None:
    names = {*STREAMS, *HEADS, *DATASETS}
    owned = own_files()
    wrong = []
    for path in modules().values():
        file = str(path.relative_to(ROOT))
        if file in (*REGISTRIES, *TABLES_OF_DEFAULTS):
            continue
        allowed = owned.get(file, set()) | HOMONYMS.get(file, {}).keys()
        wrong += [
            f"{file}:{line}: {name!r}"
            for line, name in named_plugins(path.read_text(), names - allowed)
        ]
    assert not wrong, "\n".join(["ask the stream, the head or the data set instead:", *wrong])


def test_the_names_of_the_examples_of_contributing_are_free() -> None:
    """A reader who follows an example must not see the test above fail."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    names = set(re.findall(r'Add the line `"(\w+)":', page))
    assert len(names) == 3
    for path in modules().values():
        assert not list(named_plugins(path.read_text(), names)), path


def test_no_module_asks_for_the_class_of_a_plugin() -> None:
    classes = {
        target.partition(":")[2]
        for registry in (STREAMS, HEADS, DATASETS)
        for target in registry.values()
    }
    classes |= plugin_classes()
    wrong = []
    for path in modules().values():
        for node in asked_classes(path.read_text(), classes):
            wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}")
    assert not wrong, wrong


def asked_classes(
    source: str, classes: set[str]
) -> Iterator[ast.Call | ast.Compare | ast.MatchClass]:
    """Questions for one of these classes: isinstance, issubclass, a comparison, or a pattern."""
    for node in ast.walk(ast.parse(source)):
        asked: list[ast.expr] = []
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass"):
            asked = node.args[1:]
        elif isinstance(node, ast.Compare):
            asked = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchClass):
            asked = [node.cls]
        else:
            continue
        names = set()
        for part in asked:
            names |= {name.id for name in ast.walk(part) if isinstance(name, ast.Name)}
            names |= {name.attr for name in ast.walk(part) if isinstance(name, ast.Attribute)}
        if names & classes:
            yield node


def plugin_classes() -> set[str]:
    """The classes that the plug-ins' own files define."""
    classes: set[str] = set()
    for file in own_files():
        tree = ast.parse((ROOT / file).read_text())
        classes |= {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    return classes


def test_the_check_of_names_sees_one() -> None:
    assert list(named_plugins("if stream == 'flow':\n    pass\n", {"flow"})) == [(1, "flow")]
    assert list(named_plugins("for a in 'flow rgb'.split():\n    pass\n", {"flow", "rgb"})) != []
    assert not list(named_plugins("'the flow of a video'", {"flow"}))


def test_the_check_of_classes_sees_each_way_to_ask() -> None:
    for question in (
        "isinstance(x, (int, Fisher))",
        "isinstance(x, fisher.Fisher)",
        "issubclass(x, Fisher)",
        "type(x) is Fisher",
        "type(x).__name__ == Fisher.__name__",
        "match x:\n    case Fisher():\n        pass",
    ):
        assert len(list(asked_classes(question, {"Fisher"}))) == 1, question
    assert not list(asked_classes("Fisher(3) if x > 2 else isinstance(x, int)", {"Fisher"}))
