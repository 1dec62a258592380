"""One task without Spark: a real web, real photographs, a real detector."""

from __future__ import annotations

import hashlib
import multiprocessing
import uuid
import weakref
from asyncio import StreamWriter
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cortex_spark.config import Settings
from cortex_spark.demo.server import Answer, Request, Server
from cortex_spark.detect import Model, resolve_model
from cortex_spark.engine.download import Row, fetch_same
from cortex_spark.engine.journal import Journal
from cortex_spark.engine.pipeline import EngineConfig, Pipeline, attempt_row
from cortex_spark.engine.worker import ATTEMPTS_ARROW
from cortex_spark.fetch import Fetched
from cortex_spark.measure import Picture, measure
from cortex_spark.schema import PLANS
from cortex_spark.sources import store
from cortex_spark.sources.urls import image_id
from tests.engine.planted import PlantedDecoder
from tests.fetch.web import Asked, RawWeb
from tests.web import JPEG, photographs, urls

SETTINGS = Settings(
    allow_private_hosts=("*.localhost",),
    contact="tests@example.org",
    host_delay=0,
    download_timeout=1.0,
    max_bytes=1_000_000,
)


@pytest.fixture(scope="module")
def model(shared: Path) -> Model:
    return resolve_model(str(shared / "models" / "yolo11n_int8_openvino_model"))


@pytest.fixture
def web() -> Iterator[Server]:
    with Server() as server:
        yield server


def rows_of(found: list[str]) -> list[Row]:
    return [
        {**dict.fromkeys(PLANS.names), "_id": image_id(url), "url": url, "tries": 0, "source": "public"}
        for url in found
    ]


def asked_pictures(web: Server) -> list[Request]:
    """What was asked of ``web`` beside robots.txt."""
    return [request for request in web.requests() if request.path != "/robots.txt"]


def outcomes_of(found: list[str], pipeline: Pipeline) -> dict[str, str]:
    by_id = {image_id(url): url for url in found}
    return {by_id[row["_id"]]: row["outcome"] for row in pipeline.run(rows_of(found))}


def test_photographs_are_measured_and_labelled(web: Server, shared: Path, model: Model, tmp_path: Path) -> None:
    answers = photographs(shared, 6)
    web.publish(answers)
    found = urls(web, answers)
    attempts = {
        row["_id"]: row for row in Pipeline(EngineConfig(SETTINGS, str(tmp_path)), model, None).run(rows_of(found))
    }
    assert len(attempts) == len(found)
    for url, answer in zip(found, answers.values(), strict=True):
        attempt = attempts[image_id(url)]
        assert (attempt["outcome"], attempt["final"], attempt["http_status"]) == ("ok", True, 200)
        sample = attempt["sample"]
        assert sample["hash"] == hashlib.sha256(answer.body).hexdigest()
        assert sample["bytes"] == attempt["bytes"] == len(answer.body)
        assert sample["format"] == "jpeg"
        assert [sum(channel) for channel in sample["histogram"]] == [sample["width"] * sample["height"]] * 3
        assert sample["object_analysis_processed"] is True
        (boxes,) = sample["object_analysis"]
        for box in boxes:
            assert 0 <= box["x1"] <= box["x2"] <= sample["width"]
            assert 0 <= box["y1"] <= box["y2"] <= sample["height"]
            assert box["classname"] in model.names
        assert boxes == sorted(boxes, key=lambda box: -box["confidence"])
        assert sample["annotators"][0]["model"] == model.sha256
    # Photographs of everyday scenes: a detector that finds nothing in any of them does not work.
    assert sum(len(attempt["sample"]["object_analysis"][0]) for attempt in attempts.values()) >= 6


def test_every_url_ends_in_a_named_outcome(web: Server, shared: Path, model: Model, tmp_path: Path) -> None:
    photograph = next(iter(photographs(shared, 1).values())).body
    body_and_outcome = {
        "/good.jpg": (Answer(photograph, JPEG), "ok"),
        "/liar.html": (Answer(photograph, (("Content-Type", "text/html"),)), "ok"),
        "/moved.jpg": (Answer(b"", (("Location", "/good.jpg"),), 302), "ok"),
        "/loop.jpg": (Answer(b"", (("Location", "/loop.jpg"),), 302), "too_many_redirects"),
        "/inside.jpg": (Answer(b"", (("Location", "http://169.254.169.254/latest"),), 302), "blocked_address"),
        "/file.jpg": (Answer(b"", (("Location", "file:///etc/passwd"),), 302), "bad_url"),
        "/gone.jpg": (Answer(b"", status=410), "http_410"),
        "/page.jpg": (Answer(b"<html>not a picture</html>", JPEG), "not_an_image"),
        "/half.jpg": (Answer(photograph[:600], JPEG), "decode_error"),
        "/empty.jpg": (Answer(b"", JPEG), "empty"),
        "/large.jpg": (Answer(b"x" * 1_000_001, JPEG), "too_large"),
        "/slow.jpg": (Answer(photograph, JPEG, delay=3), "timeout"),
    }
    web.publish(
        {("h.localhost", path): answer for path, (answer, _) in body_and_outcome.items()}
        | {("busy.localhost", "/busy.jpg"): Answer(b"", (("Retry-After", "999999999999"),), 503)}
    )
    base = f"http://h.localhost:{web.port}"
    expected = {base + path: outcome for path, (_, outcome) in body_and_outcome.items()}
    expected |= {
        base + "/nowhere.jpg": "http_404",
        base.replace("h.", "busy.") + "/busy.jpg": "http_503",
        "http://127.0.0.1/x.jpg": "blocked_address",
        "http://2130706433/y.jpg": "blocked_address",
        "http://[::ffff:127.0.0.1]/x.jpg": "blocked_address",
        "ftp://example.org/x.jpg": "bad_url",
        f"http://h.localhost:{_unused_port()}/x.jpg": "connection_error",
        store.store_url("0" * 64): "not_in_store",
    }
    pipeline = Pipeline(EngineConfig(SETTINGS, str(tmp_path)), model, None)
    assert outcomes_of(list(expected), pipeline) == expected


def _unused_port() -> int:
    with Server() as server:
        return server.port


def test_whatever_a_header_holds_the_row_can_be_written() -> None:
    (row,) = rows_of(["http://h.localhost/odd.jpg"])
    odd = "caf\udce9"  # as aiohttp hands over bytes that are no UTF-8
    attempt = attempt_row(
        row, Fetched("http_503", detail=odd, etag=odd, last_modified=odd, final_url=odd), None, None, None
    )
    assert attempt["etag"] == "caf?"
    pa.RecordBatch.from_pylist([attempt], schema=ATTEMPTS_ARROW)


def test_whatever_a_header_of_robots_holds_the_row_can_be_written() -> None:
    async def odd(_: Asked, writer: StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: caf\xe9\r\nLast-Modified: 11 Ao\xfb 2026\r\n\r\n")
        await writer.drain()

    with RawWeb({"/robots.txt": odd}) as web:
        (attempt,) = Pipeline(EngineConfig(SETTINGS, "nowhere"), None, None).run(rows_of([web.url("/1.jpg")]))
    (robots,) = attempt["host_state"]["robots"]
    assert (robots["etag"], robots["last_modified"]) == ("caf?", "11 Ao? 2026")
    pa.RecordBatch.from_pylist([attempt], schema=ATTEMPTS_ARROW)


@pytest.mark.parametrize("tries", [0, 3, 4])
@pytest.mark.parametrize("outcome", ["deferred", "moved", "outage"])
def test_what_was_put_off_is_never_final(outcome: str, tries: int) -> None:
    """Nor asked for sooner than the host wants, though all tries were used up before it was asked for once more."""
    (row,) = rows_of(["http://h.localhost/late.jpg"])
    attempt = attempt_row(row | {"tries": tries}, Fetched(outcome, retry_after=3600.0), None, None, None)
    assert not attempt["final"]
    assert attempt["retry_at"] - attempt["attempted_at"] == timedelta(hours=1)


def test_decoded_pixels_are_not_kept_for_what_waits(web: Server, shared: Path, model: Model, tmp_path: Path) -> None:
    answers = photographs(shared, 3)
    web.publish(answers)
    images: list[weakref.ref[object]] = []

    def decode(body: bytes) -> Picture:
        picture = measure(body, max_pixels=10**8)
        images.append(weakref.ref(picture.image))
        return picture

    pipeline = Pipeline(EngineConfig(SETTINGS, str(tmp_path), decode=decode, decode_threads=1), model, None)
    put, alive = pipeline._prepared.put, []

    def watched(item: Any, weight: int) -> None:
        alive.append(images[-1]() is not None)
        put(item, weight)

    pipeline._prepared.put = watched  # type: ignore[method-assign]
    assert len(list(pipeline.run(rows_of(urls(web, answers))))) == 3
    assert alive == [False] * 3


def test_many_pictures_of_one_host_are_asked_for_few_at_a_time(
    web: Server, shared: Path, model: Model, tmp_path: Path
) -> None:
    photograph = next(iter(photographs(shared, 1).values())).body
    answers = {("one.localhost", f"/{n}.jpg"): Answer(photograph, JPEG, delay=0.2) for n in range(12)}
    web.publish(answers)
    settings = SETTINGS.model_copy(update={"host_connections": 2})
    found = urls(web, answers)
    assert set(outcomes_of(found, Pipeline(EngineConfig(settings, str(tmp_path)), model, None)).values()) == {"ok"}
    times = sorted(request.at for request in asked_pictures(web))
    # Two at a time, each 0.2 s: the third is not asked for before the first is answered.
    assert all(later - earlier > 0.15 for earlier, later in zip(times, times[2:], strict=False))


def test_what_has_not_begun_in_time_is_deferred(web: Server, shared: Path, model: Model, tmp_path: Path) -> None:
    photograph = next(iter(photographs(shared, 1).values())).body
    answers = {("one.localhost", f"/{n}.jpg"): Answer(photograph, JPEG, delay=0.3) for n in range(12)}
    web.publish(answers)
    config = EngineConfig(SETTINGS, str(tmp_path), task_seconds=0.5)
    attempts = list(Pipeline(config, model, None).run(rows_of(urls(web, answers))))
    deferred = [row for row in attempts if row["outcome"] == "deferred"]
    assert len(attempts) == 12
    assert 0 < len(deferred) < 12
    assert len(asked_pictures(web)) == 12 - len(deferred)
    assert not any(row["final"] for row in deferred)


def test_another_picture_than_before_is_not_labelled(web: Server, shared: Path, model: Model, tmp_path: Path) -> None:
    answers = photographs(shared, 2)
    web.publish(answers)
    rows = rows_of(urls(web, answers))
    rows[0]["expected_hash"] = hashlib.sha256(next(iter(answers.values())).body).hexdigest()
    rows[1]["expected_hash"] = "0" * 64
    attempts = {row["_id"]: row for row in Pipeline(EngineConfig(SETTINGS, str(tmp_path)), model, None).run(rows)}
    assert [attempts[row["_id"]]["outcome"] for row in rows] == ["ok", "changed"]


def test_fetch_same_gives_the_bytes_or_the_reason(web: Server, shared: Path, tmp_path: Path) -> None:
    answers = photographs(shared, 3)
    web.publish(answers)
    rows = rows_of([*urls(web, answers), f"http://h0.localhost:{web.port}/gone.jpg"])
    for row, answer in zip(rows, answers.values(), strict=False):
        row["hash"] = hashlib.sha256(answer.body).hexdigest()
    rows[2]["hash"] = rows[3]["hash"] = "0" * 64
    results = {row["_id"]: fetched for row, fetched in fetch_same(rows, SETTINGS, str(tmp_path))}
    assert [results[row["_id"]].outcome for row in rows] == ["ok", "ok", "changed", "http_404"]
    assert [results[row["_id"]].body for row in rows[:2]] == [answer.body for answer in list(answers.values())[:2]]
    assert results[rows[2]["_id"]].body is None


def test_a_failing_stage_ends_the_task_with_its_error(web: Server, shared: Path, model: Model, tmp_path: Path) -> None:
    answers = photographs(shared, 2)
    web.publish(answers)

    def broken(body: bytes) -> Picture:
        raise ZeroDivisionError("planted")

    config = EngineConfig(SETTINGS, str(tmp_path), decode=broken)
    with pytest.raises(ZeroDivisionError, match="planted"):
        list(Pipeline(config, model, None).run(rows_of(urls(web, answers))))


def _work(config: EngineConfig, rows: list[Row], key: str) -> None:
    with Journal(key) as journal:
        for _ in Pipeline(config, None, journal).run(rows):
            pass


def test_a_decoder_that_hangs_is_noticed_beside_one_that_works(web: Server, shared: Path, tmp_path: Path) -> None:
    answers = photographs(shared, 40)
    web.publish(answers)
    first = hashlib.sha256(next(iter(answers.values())).body).hexdigest()
    settings = SETTINGS.model_copy(update={"decode_timeout": 1.0})
    config = EngineConfig(settings, str(tmp_path), decode=PlantedDecoder({first: "hang"}, slow=0.2))
    key = f"test-{uuid.uuid4().hex}"
    # The whole process ends itself, so it is not this one.
    worker = multiprocessing.get_context("spawn").Process(target=_work, args=(config, rows_of(urls(web, answers)), key))
    worker.start()
    worker.join(60)
    with Journal(key) as journal:
        journal.remove()
        assert worker.exitcode == 70
        assert image_id(urls(web, answers)[0]) in journal.suspects
        assert 0 < len(journal.finished) < 30
