"""What tests of the engine share: photographs on a small web, and their URLs in a warehouse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from pyspark.sql import SparkSession

from cortex_spark.demo.server import Address, Answer, Request, Server
from cortex_spark.schema import IMAGE_URLS
from cortex_spark.sources.urls import URL_RULE, image_id
from cortex_spark.table import Warehouse

JPEG = (("Content-Type", "image/jpeg"),)


def photographs(shared: Path, count: int, hosts: int = 3) -> dict[Address, Answer]:
    """Photographs of the test material, spread over ``hosts``."""
    files = sorted((shared / "photos" / "images" / "val").glob("*.jpg"))[:count]
    assert len(files) == count
    return {
        (f"h{number % hosts}.localhost", f"/{file.name}"): Answer(file.read_bytes(), JPEG)
        for number, file in enumerate(files)
    }


def urls(server: Server, answers: Mapping[Address, Answer]) -> list[str]:
    """Where ``server`` has ``answers``."""
    return [f"http://{host}:{server.port}{path}" for host, path in answers]


def discover(spark: SparkSession, warehouse: Warehouse, found: Sequence[str]) -> int:
    """Put URLs into ``image_urls`` as ``cortex ingest`` would; the number of new ones."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    rows: list[tuple[object, ...]] = [
        (image_id(url), url, urlsplit(url).hostname, "public", "list", None, None, None, now, [], URL_RULE)
        for url in found
    ]
    return warehouse.insert_new(spark.createDataFrame(rows, IMAGE_URLS), "image_urls")


def asked(server: Server) -> list[Request]:
    """What ``server`` was asked for beside robots.txt."""
    return [request for request in server.requests() if request.path != "/robots.txt"]
