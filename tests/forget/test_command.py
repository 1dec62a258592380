"""``cortex forget``: what it asks, and what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from typer import Typer
from typer.testing import CliRunner, Result

from cortex_spark.errors import CortexError
from cortex_spark.forget import cli
from cortex_spark.table import Warehouse
from cortex_spark.table.forgotten import recall
from tests.web import discover


def cortex_forget(tables: Warehouse, *arguments: str, answer: str | None = None) -> Result:
    app = Typer()
    app.command()(cli.forget)
    asked = ["--warehouse", tables.root, *arguments]
    return CliRunner().invoke(app, asked, input=answer, catch_exceptions=False)


def test_command(spark: SparkSession, warehouse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = Warehouse(spark, str(warehouse))
    discover(spark, tables, [f"http://{host}.example/1.jpg" for host in "abc"])
    host = ("--host", "a.example")
    told = cortex_forget(tables, *host, "--dry-run", "--json")
    assert json.loads(told.stdout) == {"would_remove": {"image_urls": 1}}
    with pytest.raises(CortexError, match="--yes removes without asking"):
        cortex_forget(tables, *host)
    with monkeypatch.context() as patch:
        patch.setattr(cli, "is_terminal", lambda: True)
        assert cortex_forget(tables, *host, answer="n\n").exit_code == 1
        assert not recall(tables)
        assert cortex_forget(tables, *host, "--reason", "case 7", answer="y\n").exit_code == 0
    assert tables.read("image_urls").count() == 2
    assert {row["reason"] for row in tables.read("forgotten").where("kind = 'host'").collect()} == {"case 7"}
    told = cortex_forget(tables, "--host", "*.example", "--url", "http://b.example/1.jpg", "--yes", "--json")
    report = json.loads(told.stdout)
    assert (report["remembered"], report["rows"]["image_urls"], report["waiting"]) == (2, 2, [])
    assert report["files"] > 0 < report["bytes"]
    again = json.loads(cortex_forget(tables, "--host", "*.example", "--yes", "--json").stdout)
    assert (again["remembered"], again["rows"]) == (0, {})
