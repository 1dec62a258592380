"""Versions of a warehouse's tables as lists of Parquet files: read from Delta's log, without Spark.

For readers that take the files as they are (DuckDB). Nothing here is older than the log says: a version never changes,
and which one is the newest is asked every time.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import unquote

import duckdb
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from cortex_spark.errors import CortexError
from cortex_spark.sources.store import local_path
from cortex_spark.table.features import beside_files, commit_file, identity
from cortex_spark.table.forgotten import Memory, memory_of

#: Versions of a table whose files are remembered.
_KEPT: Final = 32


@dataclass(frozen=True, slots=True)
class DataFile:
    """One immutable Parquet file; ``path`` is absolute, ``rows`` None where the log does not say."""

    path: str
    size: int
    rows: int | None

    @property
    def name(self) -> str:
        """Its own name, which is unique in the table."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of a table at one version, and the table's properties then; for ``identity`` see ``table.features``.

    ``opened`` tells apart what has the same identity and version and is not the same, in this process.
    """

    identity: str
    opened: int
    version: int
    files: tuple[DataFile, ...]
    properties: Mapping[str, str]

    @property
    def key(self) -> tuple[str, int, int]:
        """Tells it from all others that this process has seen."""
        return self.identity, self.opened, self.version

    @property
    def missing(self) -> list[DataFile]:
        """Files that are not there any more: taken down, or vacuumed."""
        there: dict[Path, set[str]] = {}
        for folder in {Path(file.path).parent for file in self.files}:
            there[folder] = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
        return [file for file in self.files if file.name not in there[Path(file.path).parent]]


#: Device, inode and the time of the last change to it, which no copy keeps.
_Identity: TypeAlias = tuple[int, int, int]


def _identity(path: Path) -> _Identity | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino, 0 if path.is_dir() else status.st_ctime_ns


class Table:
    """A Delta table in a folder of this machine. Safe to be shared by threads."""

    def __init__(self, root: str, name: str) -> None:
        self.name = name
        self._folder = local_path(root).absolute() / name
        self._lock = threading.Lock()
        self._log: DeltaTable | None = None
        self._opened = 0  # how often
        self._made: _Identity | None = None  # of the folder, and of the newest commit that was read
        self._latest: _Identity | None = None
        self._snapshots: OrderedDict[int, Snapshot] = OrderedDict()

    def exists(self) -> bool:
        """Whether there is such a table."""
        made = self._identity()
        if made is None:
            return False
        return (self._log is not None and made == self._made) or DeltaTable.is_deltatable(str(self._folder))

    def snapshot(self, version: int | None = None) -> tuple[Snapshot, bool]:
        """The files at ``version``, by default the newest; and whether that is the newest now.

        Raises:
            CortexError: there is no such table, or no longer such a version; or files alone do not tell its rows.
        """
        with self._lock:
            log = self._refreshed()
            newest = log.version()
            version = newest if version is None else version
            if not 0 <= version <= newest:
                raise CortexError(f"{self.name} has no version {version}, the newest is {newest}")
            if version not in self._snapshots:
                self._snapshots[version] = self._read(log if version == newest else self._at(version, newest))
                while len(self._snapshots) > _KEPT:
                    self._snapshots.popitem(last=False)
            self._snapshots.move_to_end(version)
            return self._snapshots[version], version == newest

    def _identity(self) -> _Identity | None:
        """Tells a table from another one that was made in its place."""
        return _identity(self._folder / "_delta_log")

    def _refreshed(self) -> DeltaTable:
        made = self._identity()
        if self._log is None or made != self._made or self._commit(self._log) != self._latest:
            self._snapshots.clear()
            self._log = None
            try:
                self._log = DeltaTable(self._folder)
            except TableNotFoundError:
                raise CortexError(f"there is no Delta table at {self._folder}") from None
            except DeltaError as error:  # as of a folder with '%41' in its name
                raise CortexError(
                    f"the log of {self._folder} cannot be read without Spark (--engine spark): {error}"
                ) from error
            self._made = made
            self._opened += 1
        else:
            self._log.update_incremental()
        self._latest = self._commit(self._log)
        return self._log

    def _commit(self, log: DeltaTable) -> _Identity | None:
        """Tells the newest commit of ``log`` from another one of its number: where a backup was put back."""
        return _identity(self._folder / commit_file(log.version()))

    def _at(self, version: int, newest: int) -> DeltaTable:
        try:
            return DeltaTable(self._folder, version=version)
        except DeltaError as error:
            raise CortexError(
                f"version {version} of {self.name} cannot be read any more, the newest is {newest}"
            ) from error

    def _read(self, log: DeltaTable) -> Snapshot:
        properties = dict(log.metadata().configuration)
        if what := beside_files(log.protocol().reader_features or (), properties):
            raise CortexError(
                f"{self._folder} uses {', '.join(what)}: its files alone do not tell its rows (--engine spark reads it)"
            )
        actions = pa.table(log.get_add_actions(flatten=True)).select(["path", "size_bytes", "num_records"])
        files = [
            DataFile(self._path(row["path"]), row["size_bytes"], row["num_records"]) for row in actions.to_pylist()
        ]
        ordered = tuple(sorted(files, key=lambda file: file.path))
        return Snapshot(self._named(log), self._opened, log.version(), ordered, properties)

    def _named(self, log: DeltaTable) -> str:
        try:
            commit = hashlib.sha256((self._folder / commit_file(log.version())).read_bytes()).hexdigest()
        except FileNotFoundError:
            commit = ""
        return identity(str(log.metadata().id), commit)

    def _path(self, path: str) -> str:
        """Of a path as the log has it: relative as a rule, absolute in a clone, with escapes."""
        if path.startswith("file:"):
            return str(local_path(path))
        return str(self._folder / unquote(path))


class Forgotten:
    """What was asked to be taken down, read without Spark; see ``table.forgotten``."""

    def __init__(self, root: str) -> None:
        self._table = Table(root, "forgotten")
        self._known: tuple[Snapshot, Memory] | None = None

    def recall(self, connection: duckdb.DuckDBPyConnection) -> Memory:
        """What is remembered now."""
        if not self._table.exists():
            return Memory()
        snapshot, _ = self._table.snapshot()
        if self._known is None or self._known[0] is not snapshot:
            rows = []
            if snapshot.files:
                found = connection.execute(
                    'SELECT kind, value, epoch("at") FROM read_parquet($1, union_by_name = true,'
                    " hive_partitioning = false)",
                    [[file.path for file in snapshot.files]],
                )
                rows = found.fetchall()
            self._known = snapshot, memory_of(rows)
        return self._known[1]
