"""The command line: help, and errors that people can read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from cortex_spark.cli import app, said_by
from cortex_spark.errors import CortexError
from cortex_spark.table import Warehouse


def cortex(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cortex_spark.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "100", **environment},
    )


@pytest.mark.parametrize("command", ["extract", "ingest", "label", "query", "export", "stats", "forget", "demo"])
def test_every_command_has_help(command: str) -> None:
    asked = CliRunner().invoke(app, [command, "--help"])
    assert asked.exit_code == 0
    assert "--warehouse" in asked.stdout


def test_unknown_option_is_named() -> None:
    asked = cortex("label", "--modle", "x")
    assert asked.returncode == 2
    assert "--modle" in asked.stderr
    assert "Traceback" not in asked.stderr


def test_a_setting_that_cannot_be_is_named() -> None:
    asked = cortex("label", "--model", "shipped", CORTEX_CONNECTIONS="0", CORTEX_CONTACT="nobody")
    assert asked.returncode == 1
    assert "CORTEX_CONNECTIONS: Input should be greater than or equal to 1" in asked.stderr
    assert "CORTEX_CONTACT: 'nobody' is neither an e-mail address nor" in asked.stderr
    assert "Traceback" not in asked.stderr


def test_errors_have_a_stack_trace_only_when_asked_for(tmp_path: Path) -> None:
    """A warehouse that cannot be written, which Spark says, and a list that is not there, which we say."""
    (tmp_path / "list.txt").write_text("https://a.example/1.jpg\n")
    asked = cortex("ingest", str(tmp_path / "list.txt"), "--warehouse", str(tmp_path / "list.txt"))
    assert asked.returncode == 1
    assert "error:" in asked.stderr
    assert not [line for line in asked.stderr.splitlines() if line.startswith(("Traceback", "\tat "))]
    debugged = cortex("--debug", "ingest", str(tmp_path / "no list"), "--warehouse", str(tmp_path / "warehouse"))
    assert "Traceback" in debugged.stderr


def test_a_warehouse_that_is_not_there_is_no_warehouse_with_nothing_to_do(spark: SparkSession, tmp_path: Path) -> None:
    root = tmp_path / "warehouse"
    label = ["label", "--model", "shipped", "--warehouse", str(root)]
    missing = CliRunner().invoke(app, label)
    assert isinstance(missing.exception, CortexError)
    assert str(missing.exception).startswith(f"{root} has no image_urls: is --warehouse right")
    assert not root.exists()
    Warehouse(spark, str(root)).read("image_urls")
    nothing = CliRunner().invoke(app, [*label, "--json"])
    assert nothing.exit_code == 0, nothing.stderr
    report = json.loads(nothing.stdout)
    assert (report["urls"], report["known"], report["waiting"]) == (0, 0, 0)


def test_an_error_of_ours_in_a_worker_is_said_without_its_stack_trace(spark: SparkSession) -> None:
    def fail(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        raise CortexError("x.onnx: is it an Ultralytics detection export?")

    with pytest.raises(PySparkException) as failed:
        spark.range(1).mapInArrow(fail, "id long").collect()
    assert said_by(failed.value) == "x.onnx: is it an Ultralytics detection export?"
    with pytest.raises(PySparkException) as failed:
        spark.range(1).mapInArrow(lambda batches: 1 / 0, "id long").collect()  # type: ignore[arg-type, return-value]
    assert "CortexError" not in said_by(failed.value)
