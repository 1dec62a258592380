"""The tour: runs from top to bottom, and is committed with what it shows.

After a change to the notebook: ``jupyter execute --inplace notebooks/tour.ipynb``, and look at it.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
TOUR = ROOT / "notebooks" / "tour.ipynb"

#: Asked of the notebook's own variables, before its last cell removes everything.
FACTS = """
print(json.dumps({
    "python": sys.executable,
    "one": found.outcome,
    "classes": sorted({box.classname for box in found.object_analysis[0]}),
    "histogram": [sum(channel) == found.width * found.height for channel in found.histogram],
    "wanted": len(wanted),
    "outcomes": dict(zip(outcomes.outcome, outcomes.urls.tolist())),
    "samples": samples.count(),
    "cats": [by_sql.width.tolist(), by_mongo.width.tolist()],
    "boxes": [len(boxes), int(counts.sum()), sum(len(row["object_analysis"][0]) for row in rows)],
    "exported": [manifest["rows"], seen],
    "folder": str(folder),
}))
"""


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def kinds(cell: Any) -> set[str]:
    """What a code cell shows: "stream", "text/html", "image/png", ..."""
    return {kind for output in cell.outputs for kind in output.get("data", {output.output_type: None})}


@pytest.mark.timeout(900)  # the notebook has 600 seconds for each cell; machines are shared
@pytest.mark.soak
def test_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "1")  # this environment's kernel, not one of the user's
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("CORTEX_ALLOW_PRIVATE_HOSTS", raising=False)  # the notebook says it itself
    notebook = read(TOUR)
    asking = nbformat.v4.new_code_cell("import sys\n" + FACTS)  # type: ignore[no-untyped-call]
    notebook.cells.insert(-1, asking)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()

    facts = json.loads("".join(output.text for output in asking.outputs))
    assert Path(facts["python"]) == Path(sys.executable)
    assert facts["one"] == "ok"
    assert "person" in facts["classes"]
    assert facts["histogram"] == [True] * 3
    assert facts["wanted"] == 27
    assert facts["outcomes"] == {"ok": 24, "not_an_image": 1, "unsupported_format": 1, "http_404": 1}
    assert facts["samples"] == 24
    by_sql, by_mongo = facts["cats"]
    assert by_sql == by_mongo
    assert by_sql
    assert min(by_sql) > 300
    assert len(set(facts["boxes"])) == 1
    exported, seen = facts["exported"]
    assert 0 < exported == seen
    assert not Path(facts["folder"]).exists()
    # What is committed shows what it shows now.
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell is not asking]
    committed = [cell for cell in read(TOUR).cells if cell.cell_type == "code"]
    assert [kinds(cell) for cell in code] == [kinds(cell) for cell in committed]


def test_is_committed_as_it_ran() -> None:
    cells = [cell for cell in read(TOUR).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    shown = set().union(*map(kinds, cells))
    assert {"stream", "text/html", "image/png", "image/jpeg"} <= shown
    assert "error" not in shown
    errors = [output for cell in cells for output in cell.outputs if output.get("name") == "stderr"]
    assert errors == []


def test_is_small_and_names_no_machine() -> None:
    assert TOUR.stat().st_size < 1_000_000
    outputs = [output for cell in read(TOUR).cells for output in cell.get("outputs", [])]
    texts = [
        text
        for output in outputs
        for kind, text in [("text", output.get("text", "")), *output.get("data", {}).items()]
        if kind.startswith("text")
    ]
    said = "\n".join(texts)
    assert "24" in said  # the samples: outputs are there to be looked at
    assert re.findall(r"(?<![\w<.:/])/(?!/)\w+/\w+|[A-Z]:\\\w+", said) == []
