"""The tutorial: its notebook runs, and its page shows what its commands print."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from tutorial_commands import PAGE, draw_program, printed, steps

NOTEBOOK = PAGE.with_name("tutorial.ipynb")


def test_the_notebook_runs_from_videos_to_a_prediction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in codes)  # committed without
    root = str(PAGE.parents[1])
    client = NotebookClient(
        notebook, kernel_name="python3", timeout=600, resources={"metadata": {"path": root}}
    )
    client.execute()
    said = [
        "".join(output.get("text", "") for output in cell.outputs if output.get("name") == "stdout")
        for cell in codes
    ]
    assert "16 videos; look_checks/look_checks_g01 (8, 512) float16" in said[3]
    assert "2" in said[4] and "gru" in said[4]
    (result,) = (output for output in codes[5].outputs if output.output_type == "execute_result")
    assert "'new'" in result.data["text/plain"] and "look_checks" in result.data["text/plain"]
    (page,) = tmp_path.glob("*/bank/reports/*.html")
    assert page.name in said[6]


_VARIES = re.compile(r"\b(?=\w*\d)[0-9a-f]{6,}\b|\d[\d.,:]*|\s+|-{2,}")


def form(text: str) -> list[str]:
    """The words of an output without hashes, figures and spaces, which differ between machines."""
    return [word for word in _VARIES.sub(" ", text).split() if word not in ("min", "s", "±")]


@pytest.mark.long
def test_the_page_shows_what_its_commands_print(tmp_path: Path) -> None:
    (tmp_path / "draw.py").write_text(draw_program())
    for step in steps():
        assert form(printed(step.commands, tmp_path)) == form(step.shown), step.commands


def test_figures_and_hashes_are_the_only_differences_that_are_ignored() -> None:
    assert form("gru 3f2a9c 83.33 %, 25.6 s") == form("gru 0b1c2d3e 90 %, 2 s")
    assert form("store bank/a") != form("stores bank/a") and form("a") != form("a b")
