"""Shards with the pictures' bytes, fetched again from a real server."""

import hashlib
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
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from cortex_spark.demo.server import Answer, Server
from cortex_spark.engine.runs import AT_WORK, Runs
from cortex_spark.export.parquet import export
from cortex_spark.schema import HOSTS, SAMPLES
from cortex_spark.sources import store
from cortex_spark.table import Warehouse

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
    """Each row that comes has the bytes of its hash; what is gone or has changed is counted, a job beside it named."""
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

    Runs(table).record("beside", "open", model="m", number=1)
    AT_WORK.add("beside")
    try:
        report = export(table, "{}", str(tmp_path / "out"), shard_rows=6, with_bytes=True, private=True, columns="hash")
    finally:
        AT_WORK.remove("beside")
    assert [warning.split()[:2] for warning in report.warnings] == [["run", "beside"]]
    assert (report.rows, report.shards, report.left_out) == (9, 2, {"changed": 1, "http_404": 1})
    found = pq.read_table(tmp_path / "out")
    assert found.schema.names == ["_id", "hash", "image"]
    assert found["_id"].to_pylist() == [*(f"{number:032x}" for number in range(8)), "c" * 32]
    images: list[Any] = found["image"].to_pylist()
    assert [hashlib.sha256(image).hexdigest() for image in images] == found["hash"].to_pylist()


def test_hosts_have_their_limits_over_all_shards(
    spark: SparkSession, warehouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host is asked as slowly as when it was labelled, one that wanted peace not at all, nor for what is refused."""
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
    with Server({address: Answer(body) for address, body in bodies.items()}) as web:
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
        report = export(table, "{}", str(tmp_path / "out"), shard_rows=3, with_bytes=True)
        assert (report.rows, report.shards, report.left_out) == (11, 5, {"deferred": 2, "forgotten": 1})
        times = sorted(request.at for request in web.requests("a.localhost"))
        assert len(times) == 11 + 1  # robots.txt, once
        assert min(later - earlier for earlier, later in pairwise(times)) > 0.8 * delay
        assert web.requests("busy.localhost") == web.requests("a.localhost", "/11.jpg") == []
