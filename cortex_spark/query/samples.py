"""``samples`` of a warehouse in a folder, read by DuckDB: pages, counts and look-ups, without Spark.

One scan of the columns that the filter needs counts the matching rows by file and by the time of landing. That is the
exact length, and tells where each page lies: a page is then a few files and a few values of ``landed_at``, at any
depth. In two phases: first the places of 25 rows (file, row number), then those rows.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, NamedTuple

import duckdb
import numpy as np
from numpy.typing import NDArray
from pyspark.sql.types import DoubleType, TimestampType

from cortex_spark.config import Settings
from cortex_spark.errors import CortexError
from cortex_spark.query.cursor import Signer
from cortex_spark.query.duck import ROWS, Parameters, document, quoted, to_hidden, to_key, to_order, to_sql, type_name
from cortex_spark.query.order import after, between
from cortex_spark.query.request import PAGE_SIZE, Page, Request, ask
from cortex_spark.query.tree import And, Comparison, Constant, IsNan, IsNull, OneOf, Operand, Or, Test, Tree
from cortex_spark.schema import SAMPLES
from cortex_spark.sources.store import local_path
from cortex_spark.table.derived import is_complete
from cortex_spark.table.forgotten import Memory
from cortex_spark.table.index import Indexes
from cortex_spark.table.snapshot import DataFile, Forgotten, Snapshot, Table

#: Pinned, whatever DuckDB's defaults become: a query has one meaning. Nothing is fetched from the network.
_SETTINGS: Final[dict[str, str | bool | int | float | list[str]]] = {
    "default_null_order": "NULLS_FIRST",
    "default_collation": "",
    "ieee_floating_point_ops": True,
    "integer_division": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
    # DuckDB 2.0.0 reads a filtered field of a struct as the struct where it joins a page's rows by itself, and ends
    # with an internal error. We do that ourselves.
    "disabled_optimizers": "late_materialization",
    # Else the files that rows are fetched from are read one after the other. What has an order says it.
    "preserve_insertion_order": False,
}
#: Rows whose ids one look-up indexes at most, where there is no index yet: about a second's work.
_INDEXED_AT_ONCE: Final = 500_000
#: Answers whose places are remembered, and how many numbers each may have.
_REMEMBERED: Final = 128
_REMEMBERED_ENTRIES: Final = 1_000_000

_NULL: Final = np.iinfo(np.int64).min


class Place(NamedTuple):
    """A row: the position of its file in a snapshot, its number there, and its sort keys."""

    file: int
    row: int
    keys: tuple[Any, ...]


@dataclass(frozen=True)
class View:
    """``samples`` at one version as one question sees it; ``hidden`` is what must not be shown of it."""

    snapshot: Snapshot
    hidden: Memory | None

    @property
    def is_complete(self) -> bool:
        """Whether every file has all columns of ``SAMPLES``."""
        return is_complete(self.snapshot.properties, self.snapshot.version)


@dataclass(frozen=True)
class Groups:
    """Matching rows by groups that follow each other in the order of the answer.

    ``codes`` (groups,) ascend. The entries, one for each file and group, are sorted by group: those of group ``g`` are
    ``entries[g]:entries[g + 1]`` of ``files``.
    """

    codes: NDArray[np.int64]
    ends: NDArray[np.int64]  # rows of the answer through this group
    entries: NDArray[np.int64]
    files: NDArray[np.int64]

    @classmethod
    def of(cls, codes: NDArray[np.int64], files: NDArray[np.int64], counts: NDArray[np.int64]) -> Groups:
        """Of the entries' codes, files and counts, in any order."""
        order = np.argsort(codes, kind="stable")
        unique, first = np.unique(codes[order], return_index=True)
        totals = np.add.reduceat(counts[order], first) if len(unique) else np.empty(0, np.int64)
        return cls(unique, np.cumsum(totals), np.append(first, len(codes)), files[order])

    @property
    def length(self) -> int:
        """Rows of the answer."""
        return int(self.ends[-1]) if len(self.ends) else 0

    def start(self, group: int) -> int:
        """Rows of the answer before ``group``."""
        return int(self.ends[group - 1]) if group else 0

    def at(self, offset: int) -> int:
        """The group that row ``offset`` (from 0) of the answer is in; the last one, for those behind the end."""
        return min(int(np.searchsorted(self.ends, offset, side="right")), len(self.ends) - 1)

    def files_of(self, first: int, last: int) -> list[int]:
        """The files that have rows of the groups ``first`` through ``last``."""
        return [int(one) for one in np.unique(self.files[self.entries[first] : self.entries[last + 1]])]


class Samples:
    """``samples`` of the warehouse ``root``, a folder of this machine.

    It keeps a connection, the files' footers and the log of the table, so that it is worth keeping. Threads may share
    it.

    Raises:
        CortexError: the warehouse is not a folder.
    """

    def __init__(self, root: str, threads: int | None = None) -> None:
        self.root = str(local_path(root).absolute())
        settings = Settings()
        self._table = Table(self.root, "samples")
        self._forgotten = Forgotten(self.root)
        self._indexes = Indexes(self.root)
        self._cursor_key = settings.cursor_key
        self._remembered: OrderedDict[tuple[Any, ...], Groups] = OrderedDict()
        self._lock = threading.Lock()
        # What does not fit into memory goes where temporary files go, not into the folder we were called in.
        scratch = os.path.join(tempfile.gettempdir(), f"cortex-duckdb-{os.getpid()}")  # noqa: PTH118
        config = _SETTINGS | {"temp_directory": scratch}
        if threads is not None:
            config["threads"] = threads
        self._database = duckdb.connect(":memory:", config=config)
        # Those of extensions, which are there only now.
        self._database.execute("SET GLOBAL TimeZone = 'UTC'; SET GLOBAL parquet_metadata_cache = true")

    def page(
        self,
        query: str | Mapping[str, Any],
        page: int | str | None = None,
        *,
        version: int | None = None,
        fields: Any = None,
        sort: Any = None,
        cursor: str | None = None,
    ) -> Page:
        """One page of the documents that match ``query``; see ``query.page.page``."""
        signer = self.signer
        request = ask(query, page, version=version, fields=fields, sort=sort, cursor=cursor, signer=signer)
        # Without a version, the newest may change under our hands: files that a take-down removes go at once.
        for attempt in range(2):
            view = self._view(request.version)
            try:
                return self._page(request, view, signer)
            except duckdb.IOException as error:
                if not view.snapshot.missing:
                    raise
                if request.version is not None or attempt:
                    raise self._gone(view.snapshot.version) from error
        raise AssertionError("unreachable")

    def count(self, query: str | Mapping[str, Any], *, version: int | None = None) -> int:
        """How many documents match."""
        return self.page(query, version=version, fields=["_id"]).length

    def index(self, version: int | None = None) -> int:
        """Make the indexes of ``_id`` that are missing, and say how many."""
        return self._indexes.build(self._database.cursor(), self._table.snapshot(version)[0].files)

    @property
    def signer(self) -> Signer:
        """Who signs the cursors."""
        return _signer(self.root, self._cursor_key)

    def _view(self, version: int | None) -> View:
        if not self._table.exists():
            raise CortexError(f"{self.root} has no samples yet: is --warehouse right, and has `cortex label` run?")
        snapshot, is_newest = self._table.snapshot(version)
        memory = self._forgotten.recall(self._database.cursor())
        # The newest version's files are there, or the answer is asked for again.
        if not is_newest and snapshot.missing:
            raise self._gone(snapshot.version)
        return View(snapshot, None if memory.is_settled else memory)

    def _gone(self, version: int) -> CortexError:
        if self._forgotten.recall(self._database.cursor()):
            return CortexError(TAKEN_DOWN.format(version=version))
        return CortexError(
            f"version {version} of samples cannot be read any more, its files are vacuumed: begin with the newest"
        )

    def _page(self, request: Request, view: View, signer: Signer) -> Page:
        tree = request.query.derived if view.is_complete else request.query.tree
        if (isinstance(tree, Constant) and tree.negated) or not view.snapshot.files:
            request.check(0)
            return request.answer(0, view.snapshot.version, [], (), signer)
        ids = wanted_ids(tree)
        if ids is None:
            groups = self._groups(view, tree, request.order[0])
            length = groups.length
            request.check(length)
            places = self._places(request, view, tree, groups) if length else []
            rows = self._fetch(view, places, request.fields.columns)
        else:
            length, places, rows = self._look_up(request, view, tree, ids)
        last = places[-1].keys if places else ()
        return request.answer(length, view.snapshot.version, rows, last, signer)

    def _groups(self, view: View, tree: Tree, first: tuple[Operand, bool]) -> Groups:
        """Counts by file, and by the first sort key: times by the millisecond, others by missing, NaN or number."""
        key = (view.snapshot.version, repr((tree, first)), view.hidden.digest if view.hidden else None)
        with self._lock:
            if key in self._remembered:
                self._remembered.move_to_end(key)
                return self._remembered[key]
        operand, descending = first
        made = self._count(view, tree, operand, -1 if descending else 1)
        if len(made.files) <= _REMEMBERED_ENTRIES:
            with self._lock:
                self._remembered[key] = made
                while len(self._remembered) > _REMEMBERED:
                    self._remembered.popitem(last=False)
        return made

    def _count(self, view: View, tree: Tree, operand: Operand, sign: int) -> Groups:
        parameters = Parameters()
        value = document(operand.path)
        match operand.kind:
            case TimestampType():
                by, code = value, f"coalesce(epoch_us(v), {_NULL})"
            case DoubleType():
                by, code = f"CASE WHEN {value} IS NULL THEN 0 WHEN isnan({value}) THEN 1 ELSE 2 END", "v"
            case _:
                by, code = f"CASE WHEN {value} IS NULL THEN 0 ELSE 2 END", "v"
        source = _source(view, view.snapshot.files, parameters)
        where = self._where(view, tree, parameters)
        found = self._run(
            f"SELECT file, CAST({code} AS BIGINT) AS code, n FROM (SELECT {ROWS}.file_index AS file, {by} AS v,"
            f" count(*) AS n FROM {source} AS {ROWS} WHERE {where} GROUP BY ALL)",
            parameters,
        ).fetchnumpy()
        codes = np.asarray(found["code"], np.int64)
        if isinstance(operand.kind, TimestampType):
            codes = np.where(codes == _NULL, _NULL + 1, codes // 1000)  # the least has no negative
        files = np.asarray(found["file"], np.int64)
        return Groups.of(sign * codes, files, np.asarray(found["n"], np.int64))

    def _places(self, request: Request, view: View, tree: Tree, groups: Groups) -> list[Place]:
        """Where the rows of the page are, in its order."""
        operand, descending = request.order[0]
        parts = [tree]
        if request.after is None:
            first = groups.at(request.offset)
            last = groups.at(request.offset + PAGE_SIZE - 1)
            skipped = request.offset - groups.start(first)
        else:
            code = _code(operand, request.after.last[0]) * (-1 if descending else 1)
            first = min(int(np.searchsorted(groups.codes, code)), len(groups.codes) - 1)
            # How many of this group are behind the cursor is not known: as many as a page of those that follow.
            last = groups.at(int(groups.ends[first]) + PAGE_SIZE - 1)
            skipped = 0
            parts.append(after(request.order, request.after.last))
        codes = [int(groups.codes[one]) * (-1 if descending else 1) for one in range(first, last + 1)]
        within = _within(operand, codes) if len(codes) < len(groups.codes) else Constant()
        parts.append(within)
        files = groups.files_of(first, last)
        numbers = codes == [_NUMBER] and not isinstance(operand.kind, TimestampType)
        if numbers:
            bounds, skipped = self._bounds(request, view, And((tree, within)), files, skipped)
            parts += bounds
        keys = ", ".join(to_key(key) for key, _ in request.order)
        found = self._select(
            view,
            And(tuple(parts)),
            files,
            f"{ROWS}.file_index, {ROWS}.file_row_number, {keys}",
            f"ORDER BY {to_order(request.order, numbers=numbers)} LIMIT {PAGE_SIZE} OFFSET {skipped:d}",
        ).fetchall()
        return [Place(files[file], row, tuple(key)) for file, row, *key in found]

    def _bounds(
        self, request: Request, view: View, within: Tree, files: list[int], skipped: int
    ) -> tuple[list[Tree], int]:
        """Bounds of the first sort key on the page, and how many rows within them stand before it.

        By the first key alone: the others, mostly ``_id``, are then read of few rows.
        """
        operand, descending = request.order[0]
        near: Comparison = "lte" if descending else "gte"
        far: Comparison = "gte" if descending else "lte"
        if request.after is not None:
            within = And((within, after(request.order[:1], request.after.last)))
        key, direction = to_key(operand), "DESC" if descending else "ASC"
        found = self._select(
            view, within, files, key, f"ORDER BY {key} {direction} LIMIT {PAGE_SIZE} OFFSET {skipped:d}"
        ).fetchall()
        bounds: list[Tree] = []
        if len(found) == PAGE_SIZE:
            bounds.append(Test(operand, far, found[-1][0]))
        if skipped:
            start = Test(operand, near, found[0][0])
            bounds.append(start)
            before = self._select(view, And((within, replace(start, negated=True))), files, "count(*)", "").fetchall()
            skipped -= before[0][0]
        return bounds, skipped

    def _select(
        self, view: View, tree: Tree, files: Sequence[int], selected: str, rest: str
    ) -> duckdb.DuckDBPyConnection:
        """What is ``selected`` of the rows of some files of which ``tree`` is true."""
        parameters = Parameters()
        source = _source(view, [view.snapshot.files[one] for one in files], parameters)
        where = self._where(view, tree, parameters)
        return self._run(f"SELECT {selected} FROM {source} AS {ROWS} WHERE {where} {rest}", parameters)

    def _look_up(
        self, request: Request, view: View, tree: Tree, ids: Sequence[str]
    ) -> tuple[int, list[Place], list[dict[str, Any]]]:
        """How many rows match that have one of ``ids``; of the page the places, and the rows."""
        files = view.snapshot.files
        found, unknown = self._indexes.find(files, ids)
        if unknown:
            budget, chosen = _INDEXED_AT_ONCE, []
            for number in unknown:
                budget -= files[number].rows or _INDEXED_AT_ONCE
                if budget < 0:
                    break
                chosen.append(files[number])
            self._indexes.build(self._database.cursor(), chosen)
            found, unknown = self._indexes.find(files, ids)
        # What fits on a page is read at once: row groups cost more than rows.
        at_once = not unknown and sum(map(len, found.values())) <= PAGE_SIZE and request.after is None
        columns = request.fields.columns if at_once else ()
        parameters = Parameters()
        # A file without an index is read as a whole.
        scans = [_rows_of(view, number, rows, parameters) for number, rows in found.items()]
        scans += [_rows_of(view, number, None, parameters) for number in unknown]
        matching: list[tuple[Any, ...]] = []
        if scans:
            selected = ", ".join(
                ["file", "file_row_number", *_shown(columns), *(to_key(key) for key, _ in request.order)]
            )
            matching = self._run(
                f"SELECT {selected} FROM ({' UNION ALL '.join(scans)}) AS {ROWS}"
                f" WHERE {self._where(view, tree, parameters)} ORDER BY {to_order(request.order)}",
                parameters,
            ).fetchall()
        request.check(len(matching))
        end = 2 + len(columns)
        places = _slice([Place(row[0], row[1], row[end:]) for row in matching], request)
        if not at_once:
            return len(matching), places, self._fetch(view, places, request.fields.columns)
        rows = [dict(zip(columns, row[2:end], strict=True)) for row in matching]
        return len(matching), places, rows

    def _fetch(self, view: View, places: Sequence[Place], columns: Sequence[str]) -> list[dict[str, Any]]:
        """The rows at ``places``, in that order."""
        if not places or not columns:
            return [{} for _ in places]
        by_file: dict[int, list[int]] = {}
        for place in places:
            by_file.setdefault(place.file, []).append(place.row)
        parameters = Parameters()
        scans = [_rows_of(view, file, rows, parameters, columns) for file, rows in by_file.items()]
        selected = ", ".join(["file", "file_row_number", *_shown(columns)])
        rows = self._run(f"SELECT {selected} FROM ({' UNION ALL '.join(scans)}) AS {ROWS}", parameters).fetchall()
        found = {(file, row): dict(zip(columns, values, strict=True)) for file, row, *values in rows}
        return [found[place.file, place.row] for place in places]

    def _where(self, view: View, tree: Tree, parameters: Parameters) -> str:
        condition = to_sql(tree, parameters)
        return condition if view.hidden is None else f"{condition} AND NOT {to_hidden(view.hidden, parameters)}"

    def _run(self, sql: str, parameters: Parameters) -> duckdb.DuckDBPyConnection:
        return self._database.cursor().execute(sql, parameters.values)


#: What is said where files of an older version are gone.
TAKEN_DOWN: Final = (
    "version {version} of samples cannot be read any more: pictures in it were taken down; begin again with the newest"
)

_MISSING, _NAN, _NUMBER = range(3)


def wanted_ids(tree: Tree) -> tuple[str, ...] | None:
    """The ids of which a matching row must have one; None where the filter does not say."""
    for part in tree.children if isinstance(tree, And) else (tree,):
        match part:
            case Test(Operand(("_id",)), "eq", str() as one, False):
                return (one,)
            case OneOf(Operand(("_id",)), values, False):
                return tuple(str(one) for one in values)
    return None


def _code(operand: Operand, last: Any) -> int:
    """The group that a row with the first sort key ``last`` is in."""
    if isinstance(operand.kind, TimestampType):
        return _NULL + 1 if last is None else int(last)
    return _MISSING if last is None else _NAN if last != last else _NUMBER


def _within(operand: Operand, codes: Sequence[int]) -> Tree:
    """True of the rows of neighbouring groups."""
    if isinstance(operand.kind, TimestampType):
        least, greatest = (None if code == _NULL + 1 else code for code in (min(codes), max(codes)))
        return between(operand, least, greatest)
    present = IsNull(operand, negated=True)
    number: Tree = And((present, IsNan(operand, negated=True))) if isinstance(operand.kind, DoubleType) else present
    groups: dict[int, Tree] = {_MISSING: IsNull(operand), _NAN: IsNan(operand), _NUMBER: number}
    return Or(tuple(groups[code] for code in codes))


def _shown(columns: Sequence[str]) -> list[str]:
    """The columns as they are selected. Of older files times have no zone, which is UTC."""
    return [
        f"CAST({document((name,))} AS TIMESTAMPTZ)"
        if isinstance(SAMPLES[name].dataType, TimestampType)
        else document((name,))
        for name in columns
    ]


def _slice(places: list[Place], request: Request) -> list[Place]:
    """The page's part of all places."""
    start = request.offset
    if request.after is not None:  # as behind the key, should rows have been hidden since
        keys = [place.keys for place in places]
        start = keys.index(request.after.last) + 1 if request.after.last in keys else request.after.shown
    return places[start : start + PAGE_SIZE]


def _source(view: View, files: Sequence[DataFile], parameters: Parameters) -> str:
    """A relation of ``files`` with all columns, and ``file_index`` and ``file_row_number``."""
    paths = parameters.plain([file.path for file in files])
    if view.is_complete:
        return f"read_parquet({paths})"
    # Files of before a column was added: it is NULL there, even where no file has it.
    types = ", ".join(f"CAST(NULL AS {type_name(part.dataType)}) AS {quoted(part.name)}" for part in SAMPLES.fields)
    return (
        f"(SELECT {types}, 0::UBIGINT AS file_index, 0::BIGINT AS file_row_number WHERE FALSE UNION ALL BY NAME"
        f" SELECT *, file_index, file_row_number FROM read_parquet({paths}, union_by_name = true))"
    )


def _rows_of(
    view: View, number: int, rows: Sequence[int] | None, parameters: Parameters, columns: Sequence[str] = SAMPLES.names
) -> str:
    """Some rows of one file, or all, with ``file`` and ``file_row_number``."""
    names = ", ".join(quoted(name) for name in columns)
    source = _source(view, [view.snapshot.files[number]], parameters)
    wanted = "" if rows is None else f" WHERE file_row_number IN ({', '.join(f'{row:d}' for row in rows)})"
    return f"SELECT {names}, {number:d} AS file, file_row_number FROM {source}{wanted}"


@lru_cache
def _signer(root: str, key: str | None) -> Signer:
    return Signer(root, key)
