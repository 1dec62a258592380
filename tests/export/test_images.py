"""Shards with the pictures' bytes, fetched again from a real server."""

import hashlib
import io
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyspark.sql import Row, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from cortex_spark.config import Settings
from cortex_spark.demo.server import Answer, Server
from cortex_spark.detect import resolve_model
from cortex_spark.engine.label import LabelJob
from cortex_spark.engine.pipeline import EngineConfig
from cortex_spark.engine.plan import latest_hosts
from cortex_spark.engine.runs import AT_WORK, Runs
from cortex_spark.errors import CortexError
from cortex_spark.export.parquet import _remember_hosts as remember_hosts
from cortex_spark.export.parquet import export
from cortex_spark.fetch import HostState
from cortex_spark.forget.requests import entries
from cortex_spark.forget.takedown import forget
from cortex_spark.schema import HOSTS, SAMPLES
from cortex_spark.sources import store
from cortex_spark.table import Warehouse
from tests.web import discover, photographs, urls

PICTURES = {f"/{number}.jpg": bytes([number]) * (1000 + number) for number in range(8)}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = PICTURES.get(self.path)
        self.send_response(200 if body is not None else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("CORTEX_ALLOW_PRIVATE_HOSTS", "*.localhost")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://pictures.localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_same_pictures_or_none(spark: SparkSession, warehouse: Path, tmp_path: Path, web: str) -> None:
    """Each row that comes has the bytes of its hash; what is gone or has changed is counted, a job beside it named.

    A warehouse that cannot be written to costs no export.
    """
    (tmp_path / "secret.jpg").write_bytes(b"a private picture")
    digest = store.put(str(warehouse), tmp_path / "secret.jpg")

    def row(name: str, url: str, body: bytes, source: str = "public") -> dict[str, Any]:
        return {"_id": name, "url": url, "hash": hashlib.sha256(body).hexdigest(), "source": source}

    rows = [row(f"{number:032x}", f"{web}{path}", body) for number, (path, body) in enumerate(PICTURES.items())]
    rows.append(row("a" * 32, f"{web}/0.jpg", b"as it was"))
    rows.append(row("b" * 32, f"{web}/gone.jpg", b"gone"))
    rows.append(row("c" * 32, store.store_url(digest), b"a private picture", "private"))
    table = Warehouse(spark, str(warehouse))
    frame = spark.createDataFrame(pa.Table.from_pylist(rows, to_arrow_schema(SAMPLES, timezone="UTC")))
    table.append_once(frame, "samples", app_id="test", version=0)

    (warehouse / "hosts").write_text("no table, and no folder for one")
    Runs(table).record("beside", "open", model="m", number=1)
    AT_WORK.add("beside")
    try:
        report = export(table, "{}", str(tmp_path / "out"), shard_rows=6, with_bytes=True, private=True, columns="hash")
    finally:
        AT_WORK.remove("beside")
    beside, unwritten = report.warnings
    assert beside.startswith("run beside of ")
    assert unwritten.startswith(f"what hosts asked for could not be written into {warehouse}/hosts: ")
    assert (report.rows, report.shards, report.left_out) == (9, 2, {"changed": 1, "http_404": 1})
    found = pq.read_table(tmp_path / "out")
    assert found.schema.names == ["_id", "hash", "image"]
    assert found["_id"].to_pylist() == [*(f"{number:032x}" for number in range(8)), "c" * 32]
    images: list[Any] = found["image"].to_pylist()
    assert [hashlib.sha256(image).hexdigest() for image in images] == found["hash"].to_pylist()


def test_hosts_have_their_limits_over_all_shards(
    spark: SparkSession, warehouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host is asked as slowly as when it was labelled, one that wanted peace not at all, nor for what is refused.

    And who wants peace now has it from the jobs that come after.
    """
    refused = tmp_path / "refused.txt"
    refused.write_text(hashlib.sha256(b"11").hexdigest())
    delay = 0.25
    for name, value in {
        "ALLOW_PRIVATE_HOSTS": "*.localhost",
        "HOST_DELAY": str(delay),
        "HOST_SECONDS": "1",  # of a batch; an export has one, of any length
        "REFUSED_HASHES": str(refused),
    }.items():
        monkeypatch.setenv(f"CORTEX_{name}", value)
    bodies = {("a.localhost", f"/{number}.jpg"): str(number).encode() for number in range(12)}
    bodies |= {("busy.localhost", f"/{number}.jpg"): b"b" for number in range(2)}
    bodies["tired.localhost", "/0.jpg"] = b"t"
    answers = {address: Answer(body) for address, body in bodies.items()}
    answers["tired.localhost", "/0.jpg"] = Answer(status=429, headers=(("Retry-After", "3600"),))
    with Server(answers) as web:
        # One has moved to where pictures were taken down.
        leads = (("Location", f"http://gone.localhost:{web.port}/10.jpg"),)
        answers["a.localhost", "/10.jpg"] = Answer(status=302, headers=leads)
        web.publish({**answers, ("gone.localhost", "/10.jpg"): Answer(b"10")})
        rows = [
            {
                "_id": f"{number:032x}",
                "url": f"http://{host}:{web.port}{path}",
                "host": host,
                "hash": hashlib.sha256(body).hexdigest(),
                "source": "public",
            }
            for number, ((host, path), body) in enumerate(bodies.items())
        ]
        now = datetime.now(UTC)
        busy = {"host": "busy.localhost", "at": now, "not_before": now + timedelta(hours=1), "failures": 1}
        table = Warehouse(spark, str(warehouse))
        for name, schema, content in (("samples", SAMPLES, rows), ("hosts", HOSTS, [busy])):
            arrow = pa.Table.from_pylist(content, to_arrow_schema(schema, timezone="UTC"))
            table.append_once(spark.createDataFrame(arrow), name, app_id="test", version=0)
        forget(table, entries(hosts=["gone.localhost"]))
        report = export(table, "{}", str(tmp_path / "out"), shard_rows=3, with_bytes=True)
        assert (report.rows, report.shards, report.left_out) == (10, 5, {"deferred": 2, "forgotten": 2, "http_429": 1})
        times = sorted(request.at for request in web.requests("a.localhost"))
        assert len(times) == 11 + 1  # robots.txt, once
        assert min(later - earlier for earlier, later in pairwise(times)) > 0.8 * delay
        assert web.requests("busy.localhost") == web.requests("a.localhost", "/11.jpg") == []
    at_peace = latest_hosts(table).where("not_before > current_timestamp() + INTERVAL 50 MINUTES")
    assert sorted(row["host"] for row in at_peace.collect()) == ["busy.localhost", "tired.localhost"]
    (visited,) = latest_hosts(table).where("host = 'a.localhost'").collect()
    assert visited["answered_at"] is not None
    assert [robots["origin"] for robots in visited["robots"]] == [f"http://a.localhost:{web.port}"]


def test_hosts_that_were_taken_down_meanwhile_are_not_remembered(spark: SparkSession, warehouse: Path) -> None:
    table = Warehouse(spark, str(warehouse))
    table.delta("hosts")
    forget(table, entries(hosts=["gone.example"]))
    now = datetime.now(UTC)
    states = [HostState(name, at=now, answered_at=now).as_row() for name in ("gone.example", "there.example")]
    assert remember_hosts(table, [Row(hosts=states)]) == []
    assert [row["host"] for row in table.read("hosts").collect()] == ["there.example"]


@pytest.mark.parametrize("is_in_it", [True, False])
def test_what_is_taken_down_meanwhile(
    spark: SparkSession, warehouse: Path, tmp_path: Path, web: str, is_in_it: bool
) -> None:
    """The table is read before the pictures are fetched, which may take hours."""
    rows = [
        {"_id": f"{number:032x}", "url": f"{web}{path}", "hash": hashlib.sha256(body).hexdigest(), "source": "public"}
        for number, (path, body) in enumerate(PICTURES.items())
    ]
    table = Warehouse(spark, str(warehouse))
    frame = spark.createDataFrame(pa.Table.from_pylist(rows, to_arrow_schema(SAMPLES, timezone="UTC")))
    table.append_once(frame, "samples", app_id="test", version=0)
    out = tmp_path / "out"

    def take_down(done: int, total: int) -> None:
        if done == total:
            forget(table, [("url", rows[0]["_id"] if is_in_it else "f" * 32)])

    def run() -> Any:
        return export(table, "{}", str(out), with_bytes=True, columns="hash", progress=take_down)

    if is_in_it:
        with pytest.raises(CortexError, match="taken down"):
            run()
        assert list(out.iterdir()) == []
    else:
        assert run().rows == len(rows)


def test_without_a_contact_an_export_of_public_pictures_is_not_begun(
    spark: SparkSession, warehouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CORTEX_CONTACT", raising=False)
    monkeypatch.setenv("CORTEX_ALLOW_PRIVATE_HOSTS", "*.localhost")
    rows = [
        {"_id": "a", "url": "http://h.localhost/1.jpg", "host": "h.localhost", "hash": "0" * 64, "source": "public"},
        {"_id": "b", "url": "http://example.org/1.jpg", "host": "example.org", "hash": "0" * 64, "source": "public"},
    ]
    table = Warehouse(spark, str(warehouse))
    frame = spark.createDataFrame(pa.Table.from_pylist(rows, to_arrow_schema(SAMPLES, timezone="UTC")))
    table.append_once(frame, "samples", app_id="test", version=0)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "_manifest.json").write_text("{}")
    with pytest.raises(CortexError, match=r"example\.org is on the public web: set CORTEX_CONTACT"):
        export(table, "{}", str(tmp_path / "out"), with_bytes=True, overwrite=True)
    with pytest.raises(CortexError, match="version 7"):
        export(table, "{}", str(tmp_path / "out"), version=7, overwrite=True)
    assert (tmp_path / "out" / "_manifest.json").exists()  # the earlier export is still there


def test_the_training_loop_of_the_docs(
    spark: SparkSession, warehouse: Path, tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each picture once over ranks and workers, upright, as boxes and sizes are."""
    monkeypatch.setenv("CORTEX_ALLOW_PRIVATE_HOSTS", "*.localhost")
    monkeypatch.chdir(tmp_path)
    answers = photographs(shared, 5)
    turned = Image.open(io.BytesIO(answers.pop(next(iter(answers))).body))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    answers["h.localhost", "/turned.jpg"] = Answer((tmp_path / "turned.jpg").read_bytes())
    table = Warehouse(spark, str(warehouse))
    with Server(answers) as web:
        discover(spark, table, urls(web, answers))
        LabelJob(table, resolve_model("shipped"), EngineConfig(Settings(), table.root), show=False).run()
        export(table, "{}", "shards", with_bytes=True, shard_rows=2)
    page = (Path(__file__).parents[2] / "docs" / "query.md").read_text()
    (code,) = [block for block in re.findall(r"^```python\n(.*?)^```$", page, re.M | re.S) if "torch" in block]
    scope: dict[str, Any] = {}
    exec(code, scope)
    (batch,) = scope["loader"]
    rows = table.read("samples").orderBy("_id").collect()
    assert [(image.shape[:2], boxes) for image, boxes in batch] == [
        ((row["height"], row["width"]), [box.asDict() for box in row["object_analysis"][0]]) for row in rows
    ]
    ranks = [scope["Shards"]("shards", rank, 2) for rank in range(2)]
    counts = [sum(1 for _ in rank) for rank in ranks]
    assert (min(counts) > 0, sum(counts)) == (True, 5)
