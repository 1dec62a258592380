"""Where an ``_id`` is: for each data file of ``samples`` a small file with the hashes of its ids, sorted.

Ids are hashes, so a file's least and greatest say nothing, and to look for one means to read them all. An index file
is a pure function of one immutable data file: it is never stale, has no commit of its own, and may be deleted at any
time. It lies at ``<warehouse>/_index/samples/<data file>.ids`` and tells no ``_id``, only 64 bits of its MD5. What it
finds are places to look at: another ``_id`` may have the same 64 bits.

Layout, little-endian: 8 bytes ``MAGIC``, the number of rows (8 bytes), the data file's size in bytes (8 bytes); then
for each row its hash (8 bytes), ascending; then the row's number in the data file (4 bytes), in the same order.
"""

from __future__ import annotations

import hashlib
import resource
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import numpy as np
from numpy.typing import NDArray

from cortex_spark.sources.store import local_path
from cortex_spark.table.snapshot import DataFile

MAGIC: Final = b"cortexI1"
FOLDER: Final = "_index"
_HEADER: Final = np.dtype("<u8").itemsize * 3
#: Index files that stay mapped, at most; each holds a file descriptor, of which a process has perhaps 1,024.
_OPEN: Final = 20_000
#: How many of those may be theirs.
_SHARE: Final = 1 / 4


class Index(NamedTuple):
    """Of one data file: ``hashes`` (rows,), ascending, and the ``rows`` (rows,) they are of."""

    hashes: NDArray[np.uint64]
    rows: NDArray[np.uint32]

    def find(self, wanted: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """The rows whose hash is one of ``wanted``."""
        first = self.hashes.searchsorted(wanted, side="left")
        last = self.hashes.searchsorted(wanted, side="right")
        spans = [self.rows[start:end] for start, end in zip(first, last, strict=True) if start < end]
        return np.concatenate(spans) if spans else np.empty(0, np.uint32)


def index_path(root: str, file: DataFile) -> Path:
    """Where the index of a data file of ``samples`` is, or would be."""
    return local_path(root) / FOLDER / "samples" / f"{file.name}.ids"


def id_hash(_id: str) -> int:
    """The last 64 bits of an id's MD5, as DuckDB's ``md5_number_lower`` has them."""
    return int.from_bytes(hashlib.md5(_id.encode(), usedforsecurity=False).digest()[8:], "little")


class Indexes:
    """The indexes of a warehouse's ``samples``. Safe to be shared by threads."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Index] = OrderedDict()
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = _OPEN if limit == resource.RLIM_INFINITY else min(_OPEN, int(limit * _SHARE))

    def find(self, files: Sequence[DataFile], ids: Iterable[str]) -> tuple[dict[int, list[int]], list[int]]:
        """Where ``ids`` may be: row numbers by position in ``files``, and the files that have no index yet."""
        wanted = np.unique(np.array([id_hash(one) for one in ids], np.uint64))
        found: dict[int, list[int]] = {}
        unknown = []
        for number, file in enumerate(files):
            index = self.opened(file)
            if index is None:
                unknown.append(number)
            elif len(rows := index.find(wanted)):
                found[number] = sorted(rows.tolist())
        return found, unknown

    def opened(self, file: DataFile) -> Index | None:
        """The index of ``file``; None if there is none, or one that is not whole."""
        with self._lock:
            index = self._open.get(file.path)
        if index is None:
            index = read_index(index_path(self._root, file), file)
            if index is not None:
                with self._lock:
                    self._open[file.path] = index
                    while len(self._open) > self._most:
                        self._open.popitem(last=False)
        return index

    def build(
        self,
        connection: duckdb.DuckDBPyConnection,
        files: Iterable[DataFile],
        progress: Callable[[DataFile], None] = lambda file: None,
    ) -> int:
        """Make the indexes that ``files`` lack, and say how many. A folder that cannot be written to has none."""
        made = 0
        for file in files:
            if self.opened(file) is None:
                try:
                    write_index(connection, file, index_path(self._root, file))
                except OSError:
                    return made
                except duckdb.IOException:
                    if Path(file.path).exists():
                        raise
                    continue  # a take-down has removed it meanwhile
                made += 1
            progress(file)
        return made


def read_index(path: Path, file: DataFile) -> Index | None:
    """The index at ``path``, mapped; None if it is not there, or not of ``file``."""
    try:
        # A plain array: as np.memmap each view of it would cost more than the search.
        content = np.asarray(np.memmap(path, np.uint8, mode="r"))
    except (OSError, ValueError):
        return None  # not there, not for us, or empty
    if len(content) < _HEADER or content[:8].tobytes() != MAGIC:
        return None
    count, size = (int(number) for number in content[8:_HEADER].view("<u8"))
    middle = _HEADER + 8 * count
    if size != file.size or len(content) != middle + 4 * count:
        return None
    return Index(content[_HEADER:middle].view("<u8"), content[middle:].view("<u4"))


def write_index(connection: duckdb.DuckDBPyConnection, file: DataFile, path: Path) -> None:
    """Make the index of ``file`` at ``path``: there as a whole or not at all. Raises OSError."""
    found = connection.execute(
        "SELECT md5_number_lower(_id) AS hash, file_row_number AS row"
        " FROM read_parquet($1, hive_partitioning = false) WHERE _id IS NOT NULL",
        [file.path],
    ).fetchnumpy()
    hashes = np.asarray(found["hash"], "<u8")
    order = np.argsort(hashes, kind="stable")
    header = np.array([len(hashes), file.size], "<u8")
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".new-{uuid.uuid4().hex}")  # not by tempfile: other users read it
    try:
        with new.open("xb") as sink:
            sink.write(MAGIC + header.tobytes() + hashes[order].tobytes())
            sink.write(np.asarray(found["row"], "<u4")[order].tobytes())
        new.replace(path)
        if not Path(file.path).exists():  # taken down meanwhile, and perhaps its index before this one was there
            path.unlink(missing_ok=True)
    finally:
        new.unlink(missing_ok=True)


def prune_indexes(root: str, live: Iterable[str]) -> list[Path]:
    """Delete the indexes of data files that are not among the names ``live``; what was deleted."""
    kept = {f"{name}.ids" for name in live}
    gone = []
    for path in (local_path(root) / FOLDER / "samples").glob("*"):
        if path.name not in kept:
            path.unlink(missing_ok=True)
            gone.append(path)
    return gone
