"""Daft: its own download, with ``staged`` its own decode, then our function as a class that its workers keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import daft
from daft import DataType, Series, col
from daft.functions import decode_image, download

from benchmarks.contenders.analyse import Analyser, tally
from benchmarks.contenders.contender import Done, Task, Work, compete


def prepare(task: Task) -> Work:
    """Settings: ``workers``, detector ``threads`` of each, ``processes`` or threads, ``batch``, ``connections``.

    ``staged``: pictures are decoded by Daft and handed over as its images, as its guides to batch inference do it.
    """
    settings = task.settings
    result = DataType.struct({"boxes": DataType.int64(), "at": DataType.float64()})

    @daft.cls(max_concurrency=settings["workers"], use_process=settings["processes"])
    class Label:
        def __init__(self, model: str, threads: int) -> None:
            self._analyse = Analyser(model, threads)

        @daft.method.batch(return_dtype=result, batch_size=settings["batch"])  # type: ignore[untyped-decorator]
        def __call__(self, bodies: Series) -> list[dict[str, Any]]:
            return [{"boxes": boxes, "at": at} for boxes, at in self._analyse(bodies.to_pylist())]

        @daft.method.batch(return_dtype=result, batch_size=settings["batch"])  # type: ignore[untyped-decorator]
        def decoded(self, bodies: Series, images: Series) -> list[dict[str, Any]]:
            found = self._analyse.decoded(bodies.to_pylist(), images.to_pylist())
            return [{"boxes": boxes, "at": at} for boxes, at in found]

    label = Label(task.model or "", settings["threads"])

    def run(urls: list[str]) -> Callable[[], Done]:
        frame = daft.from_pydict({"url": urls})
        if settings.get("into_batches"):
            frame = frame.into_batches(settings["into_batches"])
        body = download(col("url"), max_connections=settings["connections"])
        if settings.get("staged"):
            frame = frame.select(body.alias("body"))
            frame = frame.with_column("image", decode_image(col("body")))
            found = label.decoded(col("body"), col("image"))
        else:
            found = label(body)
        rows = frame.select(found.alias("row")).to_pydict()["row"]
        boxes, times = tally([(row["boxes"], row["at"]) for row in rows])
        return lambda: Done(len(times), times, boxes)

    run(task.warm_urls)
    return lambda: run(task.urls)


if __name__ == "__main__":
    compete(prepare)
