"""The jobs on a real cluster, one of whose workers dies: the same tables as on one machine."""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pyspark.sql import DataFrame, SparkSession

from cortex_spark.cli import main
from cortex_spark.config import Settings
from cortex_spark.demo.server import Server
from cortex_spark.demo.site import build
from cortex_spark.demo.warc import write_warc
from cortex_spark.demo.wat import derive_wat
from cortex_spark.table import Warehouse
from tests.cluster.standalone import Cluster, Node

ALLOWED = {"CORTEX_ALLOW_PRIVATE_HOSTS": "*.localhost"}
MODEL = "shipped"
#: What a request may take longer than the one before it, from there to here, on cores that others use as well.
JITTER = 0.25
# Of the demo's web: about 60 pictures, some of which are missing, or not to be used.
HOSTS = {"cats.localhost", "coffee.localhost", "old.localhost", "press.localhost"}


@pytest.mark.cluster
@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_worker_killed_inside_the_engine_leaves_no_trace_in_the_tables(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Server() as server:
        web = build(server.port)
        wat = str(tmp_path / "pages.warc.wat.gz")
        pages = [page for page in web.pages if urlsplit(page.url).hostname in HOSTS]
        write_warc(pages, tmp_path / "pages.warc.gz", "CC-CLUSTER")
        derive_wat(tmp_path / "pages.warc.gz", Path(wat))

        there = str(tmp_path / "cluster")
        # Each picture takes a moment, so that tasks are still inside the engine when one is killed.
        pictures = {address for address, answer in web.answers.items() if answer.body and "/img/" in address[1]}
        server.publish({a: replace(b, delay=max(b.delay, 0.2)) if a in pictures else b for a, b in web.answers.items()})
        with Cluster(tmp_path, workers=2) as cluster:
            cluster.submit("extract", "--wat", wat, "--warehouse", there, **ALLOWED).wait()
            job = cluster.submit("label", "--warehouse", there, "--model", MODEL, **ALLOWED)
            victim = worker_inside_the_engine(cluster, job, server)
            victim.kill()
            assert "Lost executor" in job.wait()
        after_a_kill = asked(server)
        # Nobody is hurried by two machines, one of which takes over what the other was about.
        assert {host: pause for host, pause in pauses(server).items() if pause < Settings().host_delay - JITTER} == {}

        here = str(tmp_path / "one machine")
        server.publish(web.answers)
        server.forget()
        monkeypatch.setenv(*next(iter(ALLOWED.items())))
        for command in (["extract", "--wat", wat], ["label", "--model", MODEL]):
            with pytest.raises(SystemExit) as ended:
                main([*command, "--warehouse", here])
            assert ended.value.code == 0

        # One kill, one more try for what was under way; what was finished is not fetched again.
        once = asked(server)
        assert after_a_kill.keys() == once.keys()
        assert {address: times for address, times in after_a_kill.items() if times > 2 * once[address]} == {}
        assert sum(after_a_kill.values()) < 2 * sum(once.values())
        assert tables(spark, there) == tables(spark, here)
        counts = Warehouse(spark, there).read("samples").selectExpr("count(*)", "count(DISTINCT _id)").first()
        assert counts is not None
        assert counts[0] == counts[1] > 0


def worker_inside_the_engine(cluster: Cluster, job: Node, server: Server) -> Node:
    """A worker one of whose tasks is downloading, as soon as there is one."""
    while not job.ended:
        if server.requests():
            for worker in cluster.workers:
                if worker.talks_to(server.port):
                    return worker
        time.sleep(0.2)
    pytest.fail(f"the job ended before a worker was seen inside the engine:\n{job.said}")


def asked(server: Server) -> Counter[str]:
    """How often each picture's address was asked for; two URLs may lead to one address."""
    return Counter(line.host + line.path for line in server.requests() if line.path != "/robots.txt")


def pauses(server: Server) -> dict[str, float]:
    """By host, the shortest time in seconds from one request's start to the next one's."""
    times = {host: sorted(line.at for line in server.requests(host)) for host in HOSTS}
    return {host: min((late - early for early, late in pairwise(at)), default=math.inf) for host, at in times.items()}


def tables(spark: SparkSession, warehouse: str) -> dict[str, list[str]]:
    """What stands in a warehouse, less times and runs, in an order of its own."""
    read = Warehouse(spark, warehouse).read
    final = read("attempts").where("final").select("_id", "outcome", "http_status", "final_url", "bytes")
    return {
        "image_urls": rows(read("image_urls").drop("discovered_at")),
        "attempts": rows(final),
        "samples": rows(read("samples").drop("datetime", "landed_at")),
    }


def rows(frame: DataFrame) -> list[str]:
    return sorted(str(row) for row in frame.collect())
