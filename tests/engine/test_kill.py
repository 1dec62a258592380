"""SIGKILL at every point where it could hurt: driver, JVM and workers at once, and the same command again."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from pyspark.sql import SparkSession

from cortex_spark.config import Settings
from cortex_spark.demo.server import Address, Answer, Server
from cortex_spark.detect import resolve_model
from cortex_spark.engine.label import LabelJob
from cortex_spark.engine.pipeline import EngineConfig
from cortex_spark.table import Warehouse
from tests.web import JPEG, asked, discover, photographs, urls

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1500)]

_MODEL = ("models", "yolo11n_int8_openvino_model")
_QUICK = """\
spark.sql.codegen.wholeStage false
spark.sql.codegen.factoryMode NO_CODEGEN
spark.sql.shuffle.partitions 2
spark.master local[2,4]
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    conf = tmp_path / "conf"
    conf.mkdir()
    (conf / "spark-defaults.conf").write_text(_QUICK)
    return {**os.environ, "SPARK_CONF_DIR": str(conf), "CORTEX_ALLOW_PRIVATE_HOSTS": "*.localhost"}


@pytest.fixture
def answers(shared: Path) -> dict[Address, Answer]:
    pictures = photographs(shared, 60) | {
        ("h0.localhost", "/page.jpg"): Answer(b"<html>", JPEG),
        ("h1.localhost", "/gone.jpg"): Answer(status=410),
    }
    return {address: replace(answer, delay=0.05) for address, answer in pictures.items()}


@pytest.fixture
def web(answers: dict[Address, Answer]) -> Iterator[Server]:
    with Server(answers) as server:
        yield server


class Job:
    """``cortex`` in processes of its own."""

    def __init__(self, arguments: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cortex_spark.cli", *arguments],
            env=environment,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def kill(self) -> None:
        """Driver, JVM, the workers' daemon and the workers: all of them at once."""
        family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(family, timeout=10)

    def kill_when(self, reached: Callable[[], bool], seconds: float = 240.0) -> bool:
        """Kill as soon as ``reached``; False if the command ended first."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if reached():
                self.kill()
                return True
            if self.process.poll() is not None:
                return False
            time.sleep(0.002)
        self.kill()
        pytest.fail(f"not reached in {seconds:g} s")

    def finish(self) -> str:
        output, _ = self.process.communicate(timeout=400)
        assert self.process.returncode == 0, output
        return output


class Watch:
    """What has come into a table's folder since the watch began."""

    def __init__(self, table: Path) -> None:
        self._table = table
        self._before = self._files()

    def _files(self) -> set[Path]:
        # Not rglob: what is temporary comes and goes while one looks.
        return {*self._table.glob("*.parquet"), *(self._table / "_delta_log").glob("*.json")}

    def commits(self) -> list[Path]:
        return [path for path in self._files() - self._before if path.suffix == ".json"]

    def written(self) -> list[Path]:
        """Data files that are complete."""
        return [path for path in self._files() - self._before if path.suffix == ".parquet" and _complete(path)]


def _complete(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        return file.read() == b"PAR1"
    return False


def contents(tables: Warehouse) -> dict[str, list[dict[str, Any]]]:
    """The tables but for times and run ids."""
    samples = tables.read("samples").drop("landed_at")
    attempts = tables.read("attempts").drop(
        "run", "batch", "task", "attempted_at", "retry_at", "seconds", "final_url", "host_state"
    )
    return {
        name: [row.asDict(recursive=True) for row in rows.orderBy("_id").collect()]
        for name, rows in (("samples", samples), ("attempts", attempts))
    }


def test_killed_anywhere_the_same_table_comes_out(
    spark: SparkSession,
    tmp_path: Path,
    web: Server,
    answers: dict[Address, Answer],
    shared: Path,
    environment: dict[str, str],
) -> None:
    model = shared.joinpath(*_MODEL)
    straight, killed = Warehouse(spark, str(tmp_path / "straight")), Warehouse(spark, str(tmp_path / "killed"))
    found = urls(web, answers)
    discover(spark, straight, found)
    shutil.copytree(straight.path("image_urls"), killed.path("image_urls"))
    config = EngineConfig(Settings(allow_private_hosts=("*.localhost",)), straight.root)
    LabelJob(straight, resolve_model(str(model)), config, batch_urls=6, show=False).run()
    web.forget()

    root = Path(killed.root)
    arguments = ["label", "--warehouse", killed.root, "--model", str(model), "--batch", "6"]
    kills = 0

    def at(point: str) -> bool:
        """Start the command and kill it at ``point``; whether that point was met."""
        nonlocal kills
        attempts, samples = Watch(root / "attempts"), Watch(root / "samples")
        before = len(asked(web))
        points: dict[str, Callable[[], bool]] = {
            "download": lambda: len(asked(web)) >= before + 2,
            "attempts written": lambda: bool(attempts.written()) and not attempts.commits(),
            "attempts committed": lambda: bool(attempts.commits()),
            "samples written": lambda: bool(samples.written()),
        }
        job = Job(arguments, environment)
        if not job.kill_when(points[point]):
            return False
        kills += 1
        return {
            "download": not attempts.commits(),
            "attempts written": not attempts.commits(),
            "attempts committed": len(attempts.commits()) == 1 and not samples.commits(),
            "samples written": not samples.commits(),
        }[point]

    for point in ("download", "attempts written", "attempts committed", "samples written"):
        # The windows are some ten milliseconds wide: one that was missed is tried again at the next batch.
        assert any(at(point) for _ in range(8)), f"never killed at {point!r}"
    chance = random.Random(2)
    for _ in range(2):
        job = Job(arguments, environment)
        with contextlib.suppress(subprocess.TimeoutExpired):
            job.process.wait(chance.uniform(4, 20))
        if job.process.poll() is None:
            job.kill()
            kills += 1
    Job(arguments, environment).finish()

    assert contents(killed) == contents(straight)
    for table in ("samples", "attempts", "plans"):
        rows = killed.read(table)
        assert rows.count() == rows.select("_id").distinct().count(), table
    most = max(len(web.requests(host, path)) for host, path in answers)
    assert most <= 1 + kills
    # Far less, in fact: what was finished when a worker died is read from its journal.
    assert len(asked(web)) <= len(found) + 8 * kills


def test_terminated_it_stops_cleanly_and_goes_on_later(
    spark: SparkSession,
    tmp_path: Path,
    web: Server,
    answers: dict[Address, Answer],
    shared: Path,
    environment: dict[str, str],
) -> None:
    tables = Warehouse(spark, str(tmp_path / "warehouse"))
    discover(spark, tables, urls(web, answers))
    arguments = ["label", "--warehouse", tables.root, "--model", str(shared.joinpath(*_MODEL)), "--batch", "20"]
    job = Job(arguments, environment)
    attempts = Watch(Path(tables.root) / "attempts")
    while len(attempts.commits()) < 2:  # one that makes the table, one of a batch
        assert job.process.poll() is None, job.process.communicate()[0]
        time.sleep(0.05)
    family = psutil.Process(job.process.pid).children(recursive=True)
    job.process.terminate()
    output, _ = job.process.communicate(timeout=60)
    assert job.process.returncode == 128 + signal.SIGTERM, output
    assert "terminated; what was committed stays, the same command does the rest" in output
    assert "Traceback" not in output
    assert "URLs per second" in output  # what was done
    assert "warehouse:" not in output  # and not how the whole stands
    _, left = psutil.wait_procs(family, timeout=30)
    assert left == []  # neither the JVM nor a worker outlives the command
    Job(arguments, environment).finish()
    assert tables.read("samples").count() == 60
    # What was finished is not asked for again; what was under way is, once.
    assert {len(web.requests(host, path)) for host, path in answers} <= {1, 2}


def test_processes_side_by_side_double_nothing(
    spark: SparkSession,
    tmp_path: Path,
    web: Server,
    answers: dict[Address, Answer],
    shared: Path,
    environment: dict[str, str],
) -> None:
    tables = Warehouse(spark, str(tmp_path / "warehouse"))
    found = urls(web, answers)
    discover(spark, tables, found[:40])
    listed = tmp_path / "urls.txt"
    listed.write_text("\n".join(found))
    label = ["label", "--warehouse", tables.root, "--model", str(shared.joinpath(*_MODEL)), "--batch", "8"]
    jobs = [
        Job([*label, "--limit", "24"], environment),
        Job([*label, "--limit", "24"], environment),
        Job(["ingest", "--urls", str(listed), "--source", "public", "--warehouse", tables.root], environment),
    ]
    for job in jobs:
        job.finish()
    Job(label, environment).finish()
    for table in ("image_urls", "attempts", "plans"):
        rows = tables.read(table)
        assert rows.count() == rows.select("_id").distinct().count() == len(found), table
    samples = tables.read("samples")
    assert samples.count() == samples.select("_id").distinct().count() == 60
    assert len(asked(web)) == len(found)
