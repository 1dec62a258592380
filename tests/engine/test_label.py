"""The labelling job: real Spark, real Delta tables, a real web, a real detector."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from cortex_spark.config import Settings
from cortex_spark.demo.server import Answer, Server
from cortex_spark.detect import Model, resolve_model
from cortex_spark.engine.label import LabelJob, LabelReport
from cortex_spark.engine.pipeline import EngineConfig
from cortex_spark.engine.runs import AT_WORK, Run, Runs
from cortex_spark.engine.udf import register_analyze
from cortex_spark.errors import CortexError
from cortex_spark.schema import FORGOTTEN, SAMPLES
from cortex_spark.sources import store
from cortex_spark.sources.urls import image_id
from cortex_spark.table import Warehouse
from cortex_spark.table.forgotten import hashed
from tests.engine.planted import PlantedDecoder
from tests.web import JPEG, asked, discover, photographs, urls

SETTINGS = Settings(allow_private_hosts=("*.localhost",), decode_timeout=3.0)


@pytest.fixture(scope="module")
def model(shared: Path) -> Model:
    return resolve_model(str(shared / "models" / "yolo11n_int8_openvino_model"))


@pytest.fixture
def web() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def tables(spark: SparkSession, warehouse: Path) -> Warehouse:
    return Warehouse(spark, str(warehouse))


def job(tables: Warehouse, model: Model, *, decode: PlantedDecoder | None = None, batch_urls: int = 100) -> LabelJob:
    config = EngineConfig(SETTINGS, tables.root, decode=decode)
    return LabelJob(tables, model, config, batch_urls=batch_urls, show=False)


class DiesBetweenTheCommits(LabelJob):
    """Interrupted when a batch has its attempts, and not yet its samples."""

    def _checked(self, run: str, batch: int, urls: int) -> None:  # type: ignore[override]
        raise KeyboardInterrupt


def ids(tables: Warehouse, table: str) -> list[str]:
    return sorted(row["_id"] for row in tables.read(table).select("_id").collect())


def test_urls_in_are_outcomes_and_waiting(tables: Warehouse, web: Server, shared: Path, model: Model) -> None:
    answers = photographs(shared, 8) | {
        ("busy.localhost", "/busy.jpg"): Answer(status=503),
        ("h1.localhost", "/page.jpg"): Answer(b"<html>", JPEG),
    }
    web.publish(answers)
    found = [*urls(web, answers), f"http://h2.localhost:{web.port}/gone.jpg"]
    private = shared / "photos" / "images" / "train"
    picture = next(private.glob("*.jpg"))
    found.append(store.store_url(store.put(tables.root, picture)))
    assert discover(tables.spark, tables, found) == 12
    assert discover(tables.spark, tables, found) == 0

    for where, said in (("hots = 'x'", "hots"), ("host = ", "PARSE_SYNTAX_ERROR"), ("count(*) > 1", "count")):
        says = rf"--where {re.escape(where)}: .*{said}.*; image_urls has _id, url, host,"
        with pytest.raises(CortexError, match=says):
            job(tables, model).run(where=where)
    with pytest.raises(CortexError, match="a condition is true or false, this is string"):
        job(tables, model).run(where="host")
    some = job(tables, model).run(where="host = 'busy.localhost' OR url LIKE '%/gone.jpg'")
    assert (some.outcomes, some.known, some.waiting) == ({"http_503": 1, "http_404": 1}, 12, 11)

    first = job(tables, model, batch_urls=4).run(limit=7)
    assert (first.urls, first.known, sum(first.outcomes.values())) == (7, 12, 7)
    assert sum(first.final.values()) + first.waiting == 12

    second = job(tables, model).run()
    assert second.urls == 3
    assert first.outcomes + second.outcomes == {"ok": 9, "not_an_image": 1}
    assert (second.final, second.waiting) == ({"ok": 9, "not_an_image": 1, "http_404": 1}, 1)
    assert len(asked(web)) == 11  # each once; the private picture is on no server

    third = job(tables, model).run()
    assert third.urls == 0  # the busy server is left alone until its time
    assert len(asked(web)) == 11
    assert job(tables, model).run(retry=True).urls == 0  # and so is its host, whoever asks
    tables.delta("hosts").update(set={"not_before": F.current_timestamp()})
    again = job(tables, model).run(retry=True)
    assert (again.urls, again.outcomes) == (1, {"http_503": 1})

    samples = tables.read("samples")
    assert samples.schema.names == SAMPLES.names
    assert samples.count() == samples.select("_id").distinct().count() == 9
    attempts = {row["_id"]: row for row in tables.read("attempts").where("outcome = 'http_503'").collect()}
    busy = attempts[image_id(f"http://busy.localhost:{web.port}/busy.jpg")]
    assert busy["retry_at"] > busy["attempted_at"]
    row = samples.where(F.col("url").startswith("cortex-store:")).first()
    assert row is not None
    assert row["hash"] == hashlib.sha256(picture.read_bytes()).hexdigest()
    assert row["datetime"] == datetime(2026, 1, 1)


def test_a_second_model_stands_behind_the_first(tables: Warehouse, web: Server, shared: Path, model: Model) -> None:
    answers = photographs(shared, 4)
    web.publish(answers)
    found = urls(web, answers)
    discover(tables.spark, tables, found)
    job(tables, model).run()
    before = {row["_id"]: row for row in tables.read("samples").collect()}

    # The same weights with another floor are another annotator; one picture has changed on its server meanwhile.
    other = resolve_model(str(shared / "models" / "yolo11n_int8_openvino_model"), confidence=0.6)
    addresses = list(answers)
    web.publish(answers | {addresses[0]: answers[addresses[1]]})
    report = job(tables, other).run()
    assert report.outcomes == {"ok": 3, "changed": 1}
    assert job(tables, other).run().urls == 0
    assert job(tables, model).run().urls == 0

    changed = image_id(found[0])
    for row in tables.read("samples").collect():
        earlier = before[row["_id"]]
        assert row["object_analysis"][0] == earlier["object_analysis"][0]
        assert len(row["object_analysis"]) == len(row["annotators"]) == (1 if row["_id"] == changed else 2)
        if row["_id"] != changed:
            assert '"confidence": 0.6' in row["annotators"][1]["settings"]
            assert all(box["confidence"] > 0.6 for box in row["object_analysis"][1])


def test_a_picture_can_cost_one_row(tables: Warehouse, web: Server, shared: Path, model: Model) -> None:
    answers = photographs(shared, 10, hosts=2)
    web.publish(answers)
    found = urls(web, answers)
    discover(tables.spark, tables, found)
    bodies = [hashlib.sha256(answer.body).hexdigest() for answer in answers.values()]
    decode = PlantedDecoder({bodies[2]: "crash", bodies[4]: "hang", bodies[5]: "crash"})
    report = job(tables, model, decode=decode).run()
    assert report.outcomes == {"ok": 7, "decoder_crash": 2, "decoder_hang": 1}
    outcomes = {row["_id"]: row["outcome"] for row in tables.read("attempts").collect()}
    assert [outcomes[image_id(found[place])] for place in (2, 4, 5)] == [
        "decoder_crash",
        "decoder_hang",
        "decoder_crash",
    ]
    # What was finished when a worker died is not fetched again: at most what was under way at each death.
    assert all(len(web.requests(host, path)) <= 3 for host, path in answers)


@pytest.mark.soak
def test_two_jobs_at_once_double_nothing(tables: Warehouse, web: Server, shared: Path, model: Model) -> None:
    answers = photographs(shared, 12)
    web.publish(answers)
    found = urls(web, answers)
    discover(tables.spark, tables, found[:10])
    reports: list[LabelReport] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            reports.append(job(tables, model, batch_urls=3).run(limit=6))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    discover(tables.spark, tables, found)  # an extract beside them
    for thread in threads:
        thread.join()
    assert errors == []
    last = job(tables, model).run()
    assert sum(report.urls for report in reports) + last.urls == 12
    for table in ("image_urls", "samples", "attempts", "plans"):
        assert len(ids(tables, table)) == len(set(ids(tables, table))) == 12, table
    assert len(asked(web)) == 12


def test_a_run_of_a_dead_process_is_finished(tables: Warehouse, web: Server, shared: Path, model: Model) -> None:
    answers = photographs(shared, 6)
    web.publish(answers)
    discover(tables.spark, tables, urls(web, answers))

    config = EngineConfig(SETTINGS, tables.root)
    with pytest.raises(KeyboardInterrupt):
        DiesBetweenTheCommits(tables, model, config, batch_urls=2, show=False).run()
    assert tables.read("samples").count() == 0
    attempted = tables.read("attempts").count()
    assert 0 < attempted < 6

    # While another process lives its run is its own: this job does not touch its URLs.
    other = psutil.Process(os.getppid())
    tables.delta("runs").update(set={"owner_pid": F.lit(other.pid), "owner_started": F.lit(other.create_time())})
    assert job(tables, model).run().urls == 0
    # Process numbers are used again: a later process with that number is not the owner.
    tables.delta("runs").update(set={"owner_started": "owner_started - 1000"})
    report = job(tables, model).run()
    assert len(report.runs) == 1
    assert report.urls == 6 - attempted
    assert tables.read("samples").count() == 6
    fetched = [request.path for request in asked(web)]
    assert len(set(fetched)) == 6
    assert len(fetched) <= 6 + 2  # the other lane's batch of two was under way, and is asked for once more


def test_a_dead_run_whose_urls_another_job_has_planned_is_closed(
    tables: Warehouse, web: Server, shared: Path, model: Model
) -> None:
    """Two at work on the same hosts would ask them twice as often."""
    answers = photographs(shared, 4, hosts=4)
    web.publish(answers)
    discover(tables.spark, tables, urls(web, answers))

    with pytest.raises(KeyboardInterrupt):
        DiesBetweenTheCommits(tables, model, EngineConfig(SETTINGS, tables.root), batch_urls=1, show=False).run()
    done = set(ids(tables, "attempts"))
    assert 0 < len(done) < 4
    other = psutil.Process(os.getppid())
    living = {"run": F.lit("other"), "owner_pid": F.lit(other.pid), "owner_started": F.lit(other.create_time())}
    theirs = tables.read("plans").where(~F.col("_id").isin(list(done)))
    for table, rows in (("runs", tables.read("runs").withColumns(living)), ("plans", theirs)):
        tables.append_once(rows.withColumn("run", F.lit("other")).localCheckpoint(), table, app_id="other", version=1)
    before = len(asked(web))
    assert job(tables, model).run().urls == 0
    assert [run.run for run in Runs(tables).open()] == ["other"]
    assert set(ids(tables, "samples")) == done  # what it had labelled is not lost
    assert len(asked(web)) == before
    tables.delta("runs").update("run = 'other'", {"owner_started": "owner_started - 1000"})
    assert job(tables, model).run().runs == ["other"]
    assert len(ids(tables, "samples")) == 4


def test_an_error_while_runs_are_taken_over_leaves_none_at_work(
    tables: Warehouse, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a notebook they would be another job's until it ends."""
    for name in ("first", "second"):
        Runs(tables).record(name, "open", model=model.identity, number=1)
    take_over = Runs.take_over

    def once(runs: Runs, run: Run) -> Run | None:
        if run.run == "second":
            raise KeyboardInterrupt
        return take_over(runs, run)

    monkeypatch.setattr(Runs, "take_over", once)
    with pytest.raises(KeyboardInterrupt):
        job(tables, model).run()
    assert not AT_WORK


def test_rounds_that_a_plan_leaves_out_come_in_the_next(
    tables: Warehouse, web: Server, shared: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cortex_spark.engine.plan._LEAST_ROUNDS", 2)
    answers = photographs(shared, 3, hosts=1)
    web.publish(answers)
    discover(tables.spark, tables, urls(web, answers))
    config = EngineConfig(SETTINGS, tables.root)
    report = LabelJob(tables, model, config, batch_urls=100, host_urls=1, show=False).run()
    assert (len(report.runs), report.urls, report.outcomes["ok"]) == (2, 3, 3)
    assert len(asked(web)) == 3


def test_an_interrupted_job_of_this_process_is_gone_on_with(
    tables: Warehouse, web: Server, shared: Path, model: Model
) -> None:
    """As when a notebook's cell is interrupted; what was labelled is kept, whichever model comes next."""
    answers = photographs(shared, 4)
    web.publish(answers)
    discover(tables.spark, tables, urls(web, answers))

    with pytest.raises(KeyboardInterrupt):
        DiesBetweenTheCommits(tables, model, EngineConfig(SETTINGS, tables.root), show=False).run()
    assert tables.read("samples").count() == 0
    other = resolve_model(str(shared / "models" / "yolo11n_int8_openvino_model"), confidence=0.6)
    assert job(tables, other).run().outcomes == {"ok": 4}
    settings = [row["annotators"] for row in tables.read("samples").collect()]
    assert [['"confidence": 0.25' in by["settings"] for by in annotators] for annotators in settings] == [
        [True, False]
    ] * 4


def test_udf_gives_the_same_as_the_job(tables: Warehouse, web: Server, shared: Path, model: Model) -> None:
    answers = photographs(shared, 5)
    web.publish(answers)
    found = urls(web, answers)
    discover(tables.spark, tables, found)
    job(tables, model).run()
    # A host's delay takes as long as it takes: there is no later batch for what is left.
    impatient = SETTINGS.model_copy(update={"host_seconds": 0.01})
    register_analyze(tables.spark, model, EngineConfig(impatient, tables.root, task_seconds=0.01))
    column = [*found, "not a url", found[1] + "#top", f"http://h0.localhost:{web.port}/none.jpg", None, found[0]]
    tables.spark.createDataFrame([(url,) for url in column], "url string").createOrReplaceTempView("links")
    rows = tables.spark.sql("SELECT url, a.* FROM (SELECT url, analyze(url) AS a FROM links)").collect()
    samples = {row["url"]: row for row in tables.read("samples").collect()}
    assert sorted(str(row["url"]) for row in rows) == sorted(map(str, column))
    for row in rows:
        if row["url"] is None:
            assert row["outcome"] is None
        elif row["url"] == "not a url":
            assert (row["outcome"], row["width"]) == ("bad_url", None)
        elif row["url"].endswith("none.jpg"):
            assert (row["outcome"], row["width"]) == ("http_404", None)
        else:
            sample = samples[row["url"].removesuffix("#top")]
            for name in ("width", "height", "hash", "format", "bytes", "histogram", "object_analysis", "annotators"):
                assert row[name] == sample[name], name


def test_udf_knows_what_is_refused_and_who_wants_peace(
    tables: Warehouse, web: Server, shared: Path, model: Model, compiled: None
) -> None:
    answers = photographs(shared, 5, hosts=5)
    busy = {("h4.localhost", f"/{n}.jpg"): Answer(status=503, headers=(("Retry-After", "7200"),)) for n in range(3)}
    moved = {("h2.localhost", "/moved.jpg"): Answer(status=302, headers=(("Location", "/gone.jpg"),))}
    moved["h2.localhost", "/gone.jpg"] = next(iter(answers.values()))
    web.publish(answers | busy | moved)
    found = urls(web, answers)
    remembered = {"url": image_id(found[0]), "host": hashed("h1.localhost"), "domain": hashed("*.h2.localhost")}
    remembered["hash"] = hashlib.sha256(list(answers.values())[3].body).hexdigest()
    leads, gone = urls(web, moved)
    rows = [(kind, value, datetime.now(UTC), None) for kind, value in [*remembered.items(), ("url", image_id(gone))]]
    memory = tables.spark.createDataFrame(rows, FORGOTTEN)
    tables.append_once(memory, "forgotten", app_id="test", version=0)
    register_analyze(tables.spark, model, EngineConfig(SETTINGS, tables.root))
    below = f"http://a.h2.localhost:{web.port}/1.jpg"
    column = [*found[:4], below, leads, *urls(web, busy)]
    links = tables.spark.createDataFrame([(url,) for url in column], "url string").coalesce(1)
    links.createOrReplaceTempView("links")
    tables.spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", 1)
    try:
        query = "SELECT url, a.outcome FROM (SELECT url, analyze(url) AS a FROM links)"
        outcomes = {row["url"]: row["outcome"] for row in tables.spark.sql(query).collect()}
    finally:
        tables.spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")
    assert [outcomes[url] for url in column[:6]] == ["forgotten", "forgotten", "ok", *["forgotten"] * 3]
    assert sorted(outcomes[url] for url in column[6:]) == ["deferred", "deferred", "http_503"]
    assert {request.host for request in asked(web)} == {"h2.localhost", "h3.localhost", "h4.localhost"}
    assert len([request for request in asked(web) if request.host == "h4.localhost"]) == 1


def test_waiting_urls_come_at_their_time(tables: Warehouse, web: Server, shared: Path, model: Model) -> None:
    web.publish({("h.localhost", "/busy.jpg"): Answer(status=503, headers=(("Retry-After", "7200"),))})
    discover(tables.spark, tables, [f"http://h.localhost:{web.port}/busy.jpg"])
    job(tables, model).run()
    attempt = tables.read("attempts").first()
    assert attempt is not None
    assert attempt["retry_at"] - attempt["attempted_at"] == timedelta(hours=2)
    # Two hours later:
    web.publish({("h.localhost", "/busy.jpg"): next(iter(photographs(shared, 1).values()))})
    past = datetime.now(UTC) - timedelta(hours=3)
    tables.delta("attempts").update(set={"retry_at": F.lit(past), "attempted_at": F.lit(past)})
    tables.delta("hosts").update(set={"not_before": F.lit(past), "at": F.lit(past)})
    report = job(tables, model).run()
    assert (report.outcomes, report.waiting) == ({"ok": 1}, 0)
