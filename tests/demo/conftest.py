from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cortex_spark.demo.server import Server
from cortex_spark.demo.site import Web, build
from cortex_spark.demo.warc import write_warc
from cortex_spark.demo.wat import derive_wat


@pytest.fixture(scope="session")
def demo_server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(scope="session")
def demo_web(demo_server: Server) -> Web:
    web = build(demo_server.port)
    demo_server.publish(web.answers)
    return web


@pytest.fixture(scope="session")
def demo_wat(demo_web: Web, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo-crawl")
    warc, wat = folder / "demo.warc.gz", folder / "demo.warc.wat.gz"
    write_warc(demo_web.pages, warc, "CC-DEMO")
    derive_wat(warc, wat)
    return wat
