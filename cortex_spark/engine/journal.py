"""What a task has done so far, on local disk, for the attempt that follows when its process dies.

A picture that crashes the decoder takes the whole Python worker with it. The retried task finds here what is finished
(it is not fetched again), what was being decoded at that moment (it is decoded in a child process), and what hosts have
asked for (it holds).
"""

from __future__ import annotations

import contextlib
import pickle
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cortex_spark.engine.download import Row
from cortex_spark.fetch import HostState
from cortex_spark.local import local_folder

_STALE_SECONDS: Final = 7 * 86400.0


class Journal:
    """An append-only file of pickled records; a torn one at the end, of a process that was killed, is cut off."""

    def __init__(self, key: str) -> None:
        self._path = _path(key)
        self._lock = threading.Lock()
        #: Finished rows by id, of earlier attempts.
        self.finished: dict[str, Row] = {}
        #: Ids whose decoding began and did not end.
        self.suspects: set[str] = set()
        #: What hosts have asked for, by host.
        self.hosts: dict[str, HostState] = {}
        self.found = self._path.exists()
        self._file = self._path.open("a+b")  # whoever else writes, too, appends
        self._replay()

    def _replay(self) -> None:
        good = 0
        self._file.seek(0)
        try:
            while True:
                key, value = pickle.load(self._file)
                good = self._file.tell()
                if value is None:
                    self.suspects.add(key)
                elif isinstance(value, HostState):
                    self.hosts[key] = value
                else:
                    self.finished[key] = value
                    self.suspects.discard(key)
        except Exception:  # torn bytes make pickle raise anything
            self._file.truncate(good)

    def begun(self, key: str) -> None:
        """Decoding of ``key`` begins."""
        self._append((key, None))

    def done(self, key: str, row: Row) -> None:
        """``key`` is finished."""
        self._append((key, row))

    def learned(self, state: HostState) -> None:
        """A host asks for patience, or says what it permits."""
        self._append((state.host, state))

    def _append(self, record: tuple[str, Row | HostState | None]) -> None:
        content = pickle.dumps(record)
        with self._lock:
            self._file.write(content)
            self._file.flush()  # the page cache outlives the process; no need to wait for the disk

    def remove(self) -> None:
        """The task is finished: nobody needs this any more."""
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _path(key: str) -> Path:
    folder = local_folder("journals")
    for old in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # a task beside us has ended
            if old.stat().st_mtime < time.time() - _STALE_SECONDS:
                old.unlink()
    return folder / f"{key}.journal"
