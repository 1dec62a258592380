"""``cortex label`` as a command: whatever ends it, it says what was done, to people and machines alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from typer import Typer
from typer.testing import CliRunner, Result

from cortex_spark.cli import main
from cortex_spark.demo.server import Server
from cortex_spark.engine.cli import label
from cortex_spark.errors import OutageError
from cortex_spark.table import Warehouse
from tests.web import discover, photographs, urls


@pytest.mark.soak
def test_a_report_at_every_end(
    spark: SparkSession, warehouse: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORTEX_ALLOW_PRIVATE_HOSTS", "*.localhost")
    monkeypatch.setenv("CORTEX_OUTAGE_HOSTS", "3")
    tables = Warehouse(spark, str(warehouse))
    app = Typer()
    app.command()(label)

    def run(*more: str) -> Result:
        return CliRunner().invoke(app, ["--warehouse", tables.root, "--model", "none", *more])

    pictures = photographs(shared, 6)
    with Server(pictures) as web:
        discover(spark, tables, [*urls(web, pictures), f"http://h0.localhost:{web.port}/none.jpg"])
        done = json.loads(run("--json").stdout)
    assert (done["outcomes"], done["known"], done["waiting"]) == ({"ok": 6, "http_404": 1}, 7, 0)
    stats = done["stats"]
    assert {name: of["attempts"] for name, of in stats["outcomes"].items()} == done["outcomes"]
    assert {host["name"]: host["ok"] for host in stats["hosts"]} == {f"h{n}.localhost": 2 for n in range(3)}
    assert stats["pictures"] == 6
    assert stats["bytes"] >= sum(len(answer.body) for answer in pictures.values())
    assert {"seconds", "pictures_per_second", "bins"} <= stats.keys()
    assert json.loads(run("--json").stdout)["stats"] is None  # nothing was left to do

    # Nobody listens there any more, nor do other hosts: our own network is down.
    discover(spark, tables, [f"http://h{n}.localhost:{web.port}/new.jpg" for n in range(4)])
    stopped = run("--json")
    assert isinstance(stopped.exception, OutageError)
    document = json.loads(stopped.stdout)
    assert "known" not in document
    assert document["stats"]["outcomes"]["outage"]["attempts"] == document["outcomes"]["outage"] > 0
    again = run()
    assert isinstance(again.exception, OutageError)
    assert "h3.localhost" in again.stdout
    assert "our own network was down" in again.stdout
    assert "4 URLs in, 4 outcomes, 0 samples added" in again.stdout
    with pytest.raises(SystemExit) as ended:
        main(["label", "--warehouse", tables.root, "--model", "none"])
    assert ended.value.code == 75
