"""The stages of one task, overlapping: download, decode and measure, detect.

An asynchronous client downloads in one thread, a few threads decode, one thread runs the detector, and the caller takes
finished rows out. The queues between them are bounded by bytes and pixels. Picture bytes never leave the process.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import cv2
import numpy as np

from cortex_spark import outcomes
from cortex_spark.config import Settings
from cortex_spark.detect import Detections, Model, load_detector
from cortex_spark.detect.base import Meter, Prepared
from cortex_spark.engine.download import WAITING_BYTES, Row, download, into
from cortex_spark.engine.isolation import Decode, IsolatedDecoder
from cortex_spark.engine.journal import Journal
from cortex_spark.engine.queues import Closed, WeightedQueue
from cortex_spark.fetch import Fetched, HostState
from cortex_spark.headers import as_text
from cortex_spark.measure import MEASURED_SIZE, BadPictureError, Picture, measure

#: Pixels of detector input that wait: some ten batches.
_WAITING_PIXELS: Final = 32 << 20
#: Redirects from host to host, each of which waits for that host's turn.
_MAX_HOPS: Final = 10
#: How often the watchdog looks for decoders that hang.
_WATCHDOG_SECONDS: Final = 1.0
#: The exit code of a worker that ends itself because a decoder hangs (EX_SOFTWARE of sysexits.h).
_HANG_EXIT: Final = 70


@dataclass(frozen=True)
class EngineConfig:
    """How the engine runs in one task."""

    settings: Settings
    root: str  # the warehouse, for pictures that are kept in its store
    device: str = "cpu"
    #: Two batches share the slots, so that a task has two cores where the other's waits for its last hosts.
    detector_threads: int = 2
    decode_threads: int = 2
    task_seconds: float = 600.0  # what has not begun by then is deferred
    #: Bytes to a measured picture; tests plant decoders that crash or hang.
    decode: Decode | None = None

    def decoder(self, model: Model | None) -> Decode:
        """The function that decodes: for ``model`` as that says, without one as the settings say."""
        scaled = (model.decode if model is not None else self.settings.decode) == "scaled"
        fit = (model.imgsz if model is not None else MEASURED_SIZE) if scaled else None
        return self.decode or partial(measure, max_pixels=self.settings.max_pixels, fit=fit)


@dataclass(frozen=True)
class Visits:
    """How a task visits its hosts, see ``Fetcher``; by default it knows nothing of them and goes where it is sent."""

    hosts: Mapping[str, HostState] = field(default_factory=dict)
    across_hosts: bool = True
    retried: bool = False
    canaries: Sequence[str] = ()


@dataclass(slots=True)
class _Item:
    """One URL on its way through the stages."""

    row: Row
    fetched: Fetched
    picture: Picture | None = None
    prepared: Prepared | None = None
    boxes: Detections | None = None


@dataclass
class _Decoding:
    """Which ids are being decoded in this process, and since when."""

    since: dict[str, float] = field(default_factory=dict)

    def overdue(self, limit: float) -> list[str]:
        now = time.monotonic()
        return [key for key, began in list(self.since.items()) if now - began > limit]


class Pipeline:
    """Takes rows of a plan, gives rows of attempts."""

    def __init__(
        self,
        config: EngineConfig,
        model: Model | None,
        journal: Journal | None,
        attempt: int = 0,
        *,
        visits: Visits | None = None,
        refused: frozenset[str] = frozenset(),
    ) -> None:
        self._config = config
        self._visits = visits or Visits()
        self._refused = refused
        self._model = model
        self._journal = journal
        self._detector = (
            load_detector(model, device=config.device, threads=config.detector_threads) if model is not None else None
        )
        # What was being decoded when the process of the first try died is decoded in a child process. Where that is not
        # known (another machine), or another picture was the cause after all, everything is.
        self._isolate_all = attempt >= 2 or (attempt == 1 and not (journal and journal.found))
        self._suspects = journal.suspects if journal else set()
        self._decode = config.decoder(model)
        self._decoding = _Decoding()
        self._downloaded: WeightedQueue[tuple[Row, Fetched]] = WeightedQueue(WAITING_BYTES)
        self._prepared: WeightedQueue[_Item] = WeightedQueue(_WAITING_PIXELS)
        self._results: queue.SimpleQueue[Row | BaseException] = queue.SimpleQueue()
        #: When the detector is at work.
        self.meter = self._detector.meter if self._detector is not None else Meter()
        warnings.filterwarnings("ignore", module=r"PIL\.")  # damaged pictures end in outcomes, not in a worker's log
        cv2.setNumThreads(1)  # pictures are decoded side by side, not each in pieces

    def run(self, rows: Sequence[Row]) -> Iterator[Row]:
        """Yield one attempt per row, in the order in which they finish."""
        finished = self._journal.finished if self._journal else {}
        waiting = [row for row in rows if row["_id"] not in finished]
        for row in rows:
            if row["_id"] in finished:
                yield finished[row["_id"]]
        if not waiting:
            return
        with IsolatedDecoder(self._decode, self._config.settings.decode_timeout) as isolated:
            work: list[Callable[[], None]] = [
                partial(self._download, waiting),
                *[partial(self._decode_stage, isolated)] * self._config.decode_threads,
                self._detect_stage,
            ]
            stages = [threading.Thread(target=self._guarded(stage), daemon=True) for stage in work]
            for stage in stages:
                stage.start()
            try:
                for _ in waiting:
                    yield self._next_result()
            finally:
                self._downloaded.close(discard=True)
                self._prepared.close(discard=True)

    def _guarded(self, stage: Callable[[], None]) -> Callable[[], None]:
        """A stage whose error ends the task, not only its thread."""

        def run() -> None:
            try:
                stage()
            except Closed:
                pass
            except BaseException as error:
                self._results.put(error)

        return run

    def _next_result(self) -> Row:
        while True:
            self._check_for_hangs()  # however many results there are of the other decoders
            try:
                result = self._results.get(timeout=_WATCHDOG_SECONDS)
            except queue.Empty:
                continue
            if isinstance(result, BaseException):
                raise result
            return result

    def _check_for_hangs(self) -> None:
        hung = self._decoding.overdue(self._config.settings.decode_timeout)
        if hung and self._journal is not None:
            # A thread cannot be stopped. This process ends, and the retried task finds the ids in the journal.
            sys.stderr.write(f"decoding {', '.join(hung)} hangs: this worker ends itself, its task is tried again\n")
            sys.stderr.flush()
            os._exit(_HANG_EXIT)

    def _download(self, rows: Sequence[Row]) -> None:
        config = self._config
        visits = self._visits
        asyncio.run(
            download(
                rows,
                config.settings,
                config.root,
                into(self._downloaded),
                config.task_seconds,
                visits.hosts,
                across_hosts=visits.across_hosts,
                retried=visits.retried,
                canaries=visits.canaries,
            )
        )

    def _decode_stage(self, isolated: IsolatedDecoder) -> None:
        while True:
            ((row, fetched),) = self._downloaded.get()
            item = _Item(row, _not_in_circles(row, fetched))
            if item.fetched.outcome == outcomes.OK:
                item = self._decode_one(item, isolated)
            if item.picture is not None and self._detector is not None:
                item.prepared = self._detector.prepare(item.picture.image, (item.picture.width, item.picture.height))
                # The pixels are not needed any more; a view of none of them would keep them all.
                item.picture = replace(item.picture, image=np.empty((0, 0, 3), np.uint8))
                self._prepared.put(item, item.prepared.tensor.size // 3)
            else:
                self._finish(item)

    def _decode_one(self, item: _Item, isolated: IsolatedDecoder) -> _Item:
        key, body = item.row["_id"], item.fetched.body or b""
        alone = self._isolate_all or key in self._suspects
        if not alone:
            self._decoding.since[key] = time.monotonic()
            if self._journal is not None:
                self._journal.begun(key)
        try:
            item.picture = isolated(body) if alone else self._decode(body)
        except BadPictureError as bad:
            item.fetched = replace(item.fetched, outcome=bad.outcome, detail=bad.detail)
        finally:
            self._decoding.since.pop(key, None)
        expected = item.row.get("expected_hash")
        if item.picture is not None and item.picture.hash in self._refused:
            item.fetched = replace(item.fetched, outcome="forgotten", detail=f"sha256 {item.picture.hash}")
            item.picture = None
        elif item.picture is not None and expected is not None and item.picture.hash != expected:
            item.fetched = replace(
                item.fetched, outcome="changed", detail=f"sha256 was {expected}, is {item.picture.hash}"
            )
            item.picture = None
        item.fetched = replace(item.fetched, body=None)  # nor are the bytes, once they are decoded
        return item

    def _detect_stage(self) -> None:
        while self._detector is not None:
            items = self._prepared.get(most=self._detector.batch_size)
            found = self._detector.submit([item.prepared for item in items if item.prepared is not None])
            for item, boxes in zip(items, found, strict=True):
                boxes.add_done_callback(partial(self._detected, item))

    def _detected(self, item: _Item, boxes: Future[Detections]) -> None:
        try:
            item.boxes, item.prepared = boxes.result(), None
            self._finish(item)
        except BaseException as error:  # which a future's callback would only log
            self._results.put(error)

    def _finish(self, item: _Item) -> None:
        row = attempt_row(item.row, item.fetched, item.picture, item.boxes, self._model)
        if self._journal is not None:
            self._journal.done(item.row["_id"], row)
        self._results.put(row)


def _not_in_circles(row: Row, fetched: Fetched) -> Fetched:
    """``fetched``, where it is one more redirect to another host, and not one too many."""
    if fetched.outcome != "moved":
        return fetched
    again = fetched.final_url in (row["url"], row.get("location"))
    if again or (row.get("hops") or 0) >= _MAX_HOPS:
        return replace(fetched, outcome="too_many_redirects", detail="from host to host" + ", in a circle" * again)
    return fetched


def attempt_row(
    row: Row, fetched: Fetched, picture: Picture | None, boxes: Detections | None, model: Model | None
) -> Row:
    """The row of ``attempts`` for one finished URL."""
    now = datetime.now(UTC)
    counted = fetched.outcome not in outcomes.UNCOUNTED
    tries = row["tries"] + counted
    final = not outcomes.passes(fetched.outcome) or (counted and tries >= outcomes.MAX_TRIES)
    delay = max(outcomes.retry_delay(tries) if counted else 0.0, fetched.retry_after or 0.0)
    return {
        "run": row["run"],
        "batch": row["batch"],
        "task": row["task"],
        "_id": row["_id"],
        "attempted_at": now,
        "model": model.identity if model is not None else None,
        "outcome": fetched.outcome,
        "final": final,
        "retry_at": None if final else now + timedelta(seconds=delay),
        "detail": as_text(fetched.detail),
        "http_status": fetched.status,
        # Where it is to be asked for, if its turn did not come.
        "final_url": as_text(fetched.final_url or (None if counted else row.get("location"))),
        "etag": as_text(fetched.etag),
        "last_modified": as_text(fetched.last_modified),
        "bytes": fetched.size,
        "seconds": fetched.seconds,
        "host_state": fetched.host_state.as_row() if fetched.host_state is not None else None,
        "sample": _sample(row, picture, boxes, model) if picture is not None else None,
    }


def _sample(row: Row, picture: Picture, boxes: Detections | None, model: Model | None) -> dict[str, Any]:
    analysed = boxes is not None and model is not None
    return {
        "_id": row["_id"],
        "url": row["url"],
        "datetime": row["discovered_at"],
        "type": "image",
        "width": picture.width,
        "height": picture.height,
        "hash": picture.hash,
        "source": row["source"],
        "object_analysis_processed": analysed,
        "pose_estimation_processed": False,
        "face_analysis_processed": False,
        "object_analysis": [boxes.boxes(model.names, picture.width, picture.height)]
        if boxes is not None and model
        else None,
        "label_quality_estimation": None,
        "annotators": [model.annotator] if analysed and model is not None else None,
        "format": picture.format,
        "bytes": picture.bytes,
        "histogram": picture.histogram,
        "host": row["host"],
        "page_url": row["page_url"],
        "alt_text": row["alt_text"],
        "crawl": row["crawl"],
    }
