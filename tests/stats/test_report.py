"""What the report says of attempts that are known, for machines, for people, and as a picture."""

from __future__ import annotations

import doctest
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from rich.console import Console
from typer import Typer
from typer.testing import CliRunner

from cortex_spark.errors import CortexError
from cortex_spark.schema import ATTEMPTS, HOSTS
from cortex_spark.sources.ingest import ingest_urls
from cortex_spark.sources.urls import image_id
from cortex_spark.stats import view
from cortex_spark.stats.cli import stats
from cortex_spark.stats.plot import plot
from cortex_spark.stats.report import StatsReport, bin_width, report
from cortex_spark.stats.view import bar
from cortex_spark.table import Warehouse
from tests.web import discover

START = datetime(2026, 3, 1, 12, 0, 3, tzinfo=UTC)


def attempt(number: int, url: str, outcome: str, **columns: Any) -> dict[str, Any]:
    """The ``number``-th attempt: one a second, 100 kB and half a second each."""
    blank: dict[str, Any] = dict.fromkeys(ATTEMPTS.names)
    seen = {"_id": image_id(url), "attempted_at": START + timedelta(seconds=number), "outcome": outcome}
    measured = {"run": "one", "batch": 0, "final": True, "bytes": 100_000, "seconds": 0.5}
    return blank | measured | seen | columns


@pytest.fixture(scope="module")
def tables(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """A hundred URLs of four hosts, tried within ten minutes, and one of the store, an hour later by another run."""
    tables = Warehouse(spark, str(tmp_path_factory.mktemp("stats") / "warehouse"))
    urls = [f"http://{'big' if number % 2 else f'h{number % 3}'}.example/{number}.jpg" for number in range(100)]
    stored = "cortex-store:sha256/" + "0" * 64
    discover(spark, tables, [*urls, stored, "http://waiting.example/1.jpg"])
    outcomes = ["ok"] * 70 + ["http_404"] * 20 + ["timeout"] * 10
    rows = [
        attempt(6 * number, url, outcome, final=outcome != "timeout", bytes=None if outcome == "timeout" else 100_000)
        for number, (url, outcome) in enumerate(zip(urls, outcomes, strict=True))
    ]
    rows.append(attempt(3600, stored, "ok", run="two", seconds=None))
    soon = datetime.now(UTC) + timedelta(hours=1)
    states = [
        {"host": "big.example", "at": START, "delay": 5.0, "failures": 0, "run": "one", "batch": 0},
        {"host": "h0.example", "at": START, "failures": 9, "run": "one", "batch": 0},
        {"host": "h0.example", "at": START + timedelta(hours=1), "not_before": soon, "failures": 3, "run": "two"},
    ]
    for table, schema, content in (("attempts", ATTEMPTS, rows), ("hosts", HOSTS, states)):
        arrow = pa.Table.from_pylist(content, to_arrow_schema(schema, timezone="UTC"))
        tables.append_once(spark.createDataFrame(arrow), table, app_id="test", version=0)
    return tables


def printed(found: StatsReport, width: int = 120) -> str:
    console = Console(width=width, record=True, file=sys.stderr, color_system=None)
    console.print(found)
    return console.export_text()


def test_all_runs(tables: Warehouse) -> None:
    found = report(tables, top=2)
    assert {name: (of.attempts, of.bytes, of.mean_seconds) for name, of in found.outcomes.items()} == {
        "ok": (71, 7_100_000, 0.5),
        "http_404": (20, 2_000_000, 0.5),
        "timeout": (10, 0, 0.5),
    }
    assert found.urls is not None
    assert vars(found.urls) == {"known": 102, "final": 91, "waiting": 11}
    assert (found.attempts, found.bytes, found.seconds) == (101, 9_100_000, 3600)
    big, h0 = found.hosts
    assert (found.hosts_total, big.name, big.attempts, big.ok, big.delay) == (5, "big.example", 50, 35, 5.0)
    assert (big.not_before, big.failures, big.median_seconds) == (None, 0, 0.5)
    assert (h0.name, h0.attempts, h0.failures, h0.delay) == ("h0.example", 17, 3, None)
    assert h0.not_before is not None
    assert found.bin_seconds == 300
    assert [each.outcomes.total() for each in found.bins] == [50, 50, *[0] * 10, 1]
    assert found.bins[0].start == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert found.bins[1].outcomes == {"ok": 20, "http_404": 20, "timeout": 10}
    document = json.loads(json.dumps(found.as_json()))
    assert (document["pictures"], document["seconds"], document["pictures_per_second"]) == (71, 3600, 0.02)
    assert document["outcomes"]["http_404"]["share"] == round(20 / 101, 6)
    assert sum(sum(each["outcomes"].values()) for each in document["bins"]) == document["attempts"]
    text = printed(found)
    for part in (
        "102 URLs known = 91 final + 11 waiting",
        "the first 2 of 5",
        "3 visits without",
        "asks for 5 s",
        "12:00",
    ):
        assert part in text
    assert max(map(len, text.splitlines())) <= 120
    assert max(map(len, printed(found, 80).splitlines())) <= 80


def test_a_picture_stays_one_when_a_later_visit_fails(spark: SparkSession, warehouse: Path) -> None:
    """As `cortex label` counts it."""
    tables = Warehouse(spark, str(warehouse))
    seen, new = "http://a.example/1.jpg", "http://a.example/2.jpg"
    discover(spark, tables, [seen, new])
    rows = [attempt(0, seen, "ok"), *(attempt(1, url, "timeout", final=False) for url in (seen, new))]
    arrow = pa.Table.from_pylist(rows, to_arrow_schema(ATTEMPTS, timezone="UTC"))
    tables.append_once(spark.createDataFrame(arrow), "attempts", app_id="test", version=0)
    assert vars(report(tables).urls) == {"known": 2, "final": 1, "waiting": 1}


def test_some_attempts_only(tables: Warehouse) -> None:
    two = report(tables, ["two"])
    assert (two.attempts, two.urls, two.runs, two.seconds) == (1, None, ("two",), 0)
    assert [(host.name, host.attempts, host.median_seconds) for host in two.hosts] == [(None, 1, None)]
    assert "the warehouse's store" in printed(two)
    late = report(tables, since=START + timedelta(seconds=6 * 90))
    assert list(late.outcomes) == ["timeout", "ok"]
    with pytest.raises(CortexError, match="no attempts of three"):
        report(tables, ["three"])
    nothing = report(tables, since=START + timedelta(days=1))
    assert (nothing.attempts, nothing.as_json()["outcomes"]) == (0, {})
    assert "nothing was tried yet" in printed(nothing)


def test_folders_without_attempts(spark: SparkSession, warehouse: Path) -> None:
    tables = Warehouse(spark, str(warehouse))
    with pytest.raises(CortexError, match="is not a warehouse"):
        report(tables)
    assert not warehouse.exists()
    discover(spark, tables, ["http://a.example/1.jpg"])
    assert vars(report(tables).urls or 0) == {"known": 1, "final": 0, "waiting": 1}
    assert [path.name for path in warehouse.iterdir()] == ["image_urls"]


@pytest.mark.parametrize("name", ["stats.png", "stats.svg"])
def test_plot(tables: Warehouse, tmp_path: Path, name: str) -> None:
    plot(report(tables), str(tmp_path / name))
    if name.endswith("png"):
        image = Image.open(tmp_path / name).convert("RGB")
        assert image.width >= 1000
        assert len(image.getcolors(1 << 24) or []) > 50
    else:
        assert "big.example" in (tmp_path / name).read_text()


def test_a_hosts_name_is_neither_markup_nor_a_formula(spark: SparkSession, tmp_path: Path) -> None:
    odd = Warehouse(spark, str(tmp_path / "odd"))
    hosts = ["a$_$.example", "[fd00::1]"]
    (tmp_path / "urls.txt").write_text("".join(f"http://{host}/1.jpg\n" for host in hosts))
    ingest_urls(odd, [str(tmp_path / "urls.txt")])
    rows = [attempt(number, f"http://{host}/1.jpg", "ok") for number, host in enumerate(hosts)]
    arrow = pa.Table.from_pylist(rows, to_arrow_schema(ATTEMPTS, timezone="UTC"))
    odd.append_once(spark.createDataFrame(arrow), "attempts", app_id="test", version=0)
    found = report(odd)
    assert all(host in printed(found) for host in hosts)
    plot(found, str(tmp_path / "stats.svg"))
    assert all(host in (tmp_path / "stats.svg").read_text() for host in hosts)


def test_plot_says_what_is_wrong(tables: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = report(tables, ["two"])
    with pytest.raises(CortexError, match=r"ends with \.png"):
        plot(found, str(tmp_path / "stats.txt"))
    with pytest.raises(CortexError, match="cannot be written"):
        plot(found, str(tmp_path / "none" / "stats.png"))
    with pytest.raises(CortexError, match="nothing to draw"):
        plot(report(tables, since=START + timedelta(days=1)), str(tmp_path / "stats.png"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(CortexError, match="of the extra 'plot'"):
        plot(found, str(tmp_path / "stats.png"))


def test_command(tables: Warehouse, tmp_path: Path) -> None:
    app = Typer()
    app.command()(stats)
    drawn = tmp_path / "stats.svg"
    asked = ["--warehouse", tables.root, "--run", "one", "--top", "1", "--json", "--plot", str(drawn)]
    told = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert [host["name"] for host in json.loads(told.stdout)["hosts"]] == ["big.example"]
    assert drawn.exists()


@pytest.mark.parametrize(
    ("seconds", "width"), [(0, 1), (24, 1), (25, 2), (90, 5), (3600, 300), (86400, 3600), (30 * 86400, 2 * 86400)]
)
def test_bin_width(seconds: float, width: int) -> None:
    assert bin_width(seconds) == width


def test_examples() -> None:
    assert doctest.testmod(view).attempted > 0
    assert doctest.testmod(view).failed == 0


@pytest.mark.parametrize("ok", [0, 0.001, 0.3, 0.5, 0.777, 1.0])
@pytest.mark.parametrize("other", [0, 0.001, 0.25, 0.5])
def test_bars_are_as_long_as_their_share(ok: float, other: float) -> None:
    assert abs(bar(ok, other).cell_len - 40 * (ok + other)) <= 1
