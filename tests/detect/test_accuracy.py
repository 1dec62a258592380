"""The rows that the engine writes are as good as Ultralytics' own validation says the weights are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession
from typer import Typer
from typer.testing import CliRunner

from benchmarks.accuracy import FLOOR, engine_rows, score, truths, ultralytics_score, warehouse_rows
from benchmarks.common.pictures import load
from cortex_spark.demo.server import Server
from cortex_spark.detect import resolve_model
from cortex_spark.engine.cli import label
from cortex_spark.table import Warehouse
from tests.web import discover, photographs, urls


def test_map_of_the_rows_is_that_of_ultralytics_validation(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    photos, weights = shared / "photos", shared / "models" / "yolo11n-recon.pt"
    bodies = load(photos / "images" / "val")
    labels = truths(photos, bodies)
    assert len(labels) == 96
    default = resolve_model(str(weights), confidence=FLOOR, precision="f32", multi_label=True)
    exact = replace(default, rectangular=False)  # squares, as the validation that we compare with
    ours = score(engine_rows(bodies, exact), labels, exact.names)
    theirs = ultralytics_score(weights, photos, exact.imgsz[0])
    assert ours.map == pytest.approx(theirs.map, abs=0.003)
    assert ours.map50 == pytest.approx(theirs.map50, abs=0.003)
    # The limit of what may be a default: docs/speed.md.
    rectangles = score(engine_rows(bodies, default), labels, default.names)
    assert default.rectangular
    assert rectangles.map != ours.map
    assert rectangles.map > ours.map - 0.003


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_map_of_the_rows_that_cortex_label_wrote(
    spark: SparkSession, warehouse: Path, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CORTEX_ALLOW_PRIVATE_HOSTS", "*.localhost")
    photos, weights = shared / "photos", shared / "models" / "yolo11n-recon.pt"
    bodies = load(photos / "images" / "val")
    labels = truths(photos, bodies)
    answers = photographs(shared, len(bodies))
    app = Typer()
    app.command()(label)
    asked = ["--warehouse", str(warehouse), "--model", str(weights), "--confidence", str(FLOOR)]
    with Server(answers) as web:
        discover(spark, Warehouse(spark, str(warehouse)), urls(web, answers))
        CliRunner().invoke(app, [*asked, "--multi-label", "--precision", "f32"], catch_exceptions=False)
    rows, _, names = warehouse_rows(str(warehouse), labels)
    assert len(rows) == len(labels)
    written = score(rows, labels, names)
    model = resolve_model(str(weights), confidence=FLOOR, precision="f32", multi_label=True)
    assert written.map == pytest.approx(score(engine_rows(bodies, model), labels, model.names).map, abs=0.0005)
    assert written.map == pytest.approx(ultralytics_score(weights, photos, model.imgsz[0]).map, abs=0.003)


def test_score_knows_right_from_wrong() -> None:
    labels = {"a": np.array([[1, 0.5, 0.5, 0.5, 0.5]])}
    right = {"x1": 25, "y1": 50, "x2": 75, "y2": 150, "classname": "dog", "confidence": 0.9}
    row = {"hash": "a", "width": 100, "height": 200}
    names = ["cat", "dog"]
    assert score([{**row, "object_analysis": [[right]]}], labels, names).map > 0.99
    assert score([{**row, "object_analysis": [[{**right, "classname": "cat"}]]}], labels, names).map == 0
    assert score([{**row, "object_analysis": [[{**right, "x1": 30, "x2": 80}]]}], labels, names).map50 > 0.99
    assert score([{**row, "object_analysis": [[{**right, "x1": 30, "x2": 80}]]}], labels, names).map < 0.9
    assert score([], labels, names).map == 0
