"""How far an export is, by the shards that lie there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from cortex_spark.export.folder import Folder

_SECONDS: Final = 0.5


@contextmanager
def watching(folder: Folder, shards: int, progress: Callable[[int, int], None] | None) -> Iterator[None]:
    """While the block runs, tell ``progress`` how many of ``shards`` are whole; at its end, once more."""
    if progress is None:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_SECONDS):
            progress(folder.shards(), shards)

    watcher = threading.Thread(target=watch, name="export-progress", daemon=True)
    watcher.start()
    try:
        yield
        progress(folder.shards(), shards)
    finally:
        done.set()
        watcher.join()
