"""``samples`` of a warehouse in a folder, read by DuckDB: pages, counts and look-ups, without Spark.

One scan of the columns that the filter needs counts the matching rows by file and by the time of landing. That is the
exact length, and tells where each page lies: a page is then a few files and a few values of ``landed_at``, at any
depth. In two phases: first the places of 25 rows (file, row number), then those rows. Where the answer is sorted by a
number or another time, the scan that counts finds the places of page 1 as well.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, NamedTuple

import duckdb
import numpy as np
from numpy.typing import NDArray
from pyspark.sql.types import DoubleType, TimestampType

from cortex_spark.config import Settings
from cortex_spark.errors import CortexError
from cortex_spark.query.cursor import Signer, question_digest
from cortex_spark.query.derive import derive
from cortex_spark.query.duck import ROWS, Parameters, document, quoted, to_hidden, to_key, to_order, to_sql, type_name
from cortex_spark.query.errors import warn
from cortex_spark.query.groups import NO_TIME, NUMBER, Found, Groups, RememberedGroups, has_first, sign
from cortex_spark.query.order import LANDED, after, compared
from cortex_spark.query.request import PAGE_SIZE, Page, Request, ask
from cortex_spark.query.tree import And, Comparison, Constant, OneOf, Operand, Test, Tree
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
    # Footers of files are remembered, also of those that are gone, until this is full; what a query needs besides goes
    # to the disk then.
    "memory_limit": "25%",
    # Else the files that rows are fetched from are read one after the other. What has an order says it.
    "preserve_insertion_order": False,
}
#: Rows whose ids one look-up indexes at most, where there is no index yet: about a second's work.
_INDEXED_AT_ONCE: Final = 500_000
#: Ids that are looked up: each file with one of them is a part of the statement. Measured with an id in each of 600
#: files: 2.6 s for each page; a scan took 1.0 s, later ones 0.4, and its count is remembered.
_BY_INDEX: Final = 100
#: Rows that tell which are on the first page: its own, and the first behind it.
_FIRST: Final = PAGE_SIZE + 1


class Place(NamedTuple):
    """A row: the position of its file in a snapshot, its number there, and its sort keys."""

    file: int
    row: int
    keys: tuple[Any, ...]


@dataclass(frozen=True)
class Window:
    """Some rows in the order of the answer: those of ``files`` of which ``tree`` is true, and which are ``behind``.

    The first ``skipped`` of them stand before the page. With ``numbers``, they are one group of which the first sort
    key is a number (or a string, ...) in all rows: not missing, and not NaN.
    """

    tree: Tree
    behind: Tree  # true of rows behind the cursor
    files: list[int]
    skipped: int
    numbers: bool


@dataclass(frozen=True)
class View:
    """``samples`` at one version as one question sees it.

    ``hidden`` is what must not be shown of it. Unless it is ``mixed``, every file has all columns of ``SAMPLES``.
    """

    snapshot: Snapshot
    hidden: Memory | None
    mixed: bool

    @property
    def is_complete(self) -> bool:
        """Whether all rows have their derived columns."""
        return is_complete(self.snapshot.properties, self.snapshot.version)


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
        self._remembered = RememberedGroups()
        self._mixed: set[Hashable] = set()  # snapshots with files that lack columns
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
        may_move = request.version is None
        while True:
            view = self._view(request.version)
            try:
                return self._page(request, view, signer)
            except duckdb.IOException as error:
                if not view.snapshot.missing:
                    raise
                if not may_move:
                    raise self._gone(view.snapshot.version) from error
                may_move = False  # once
            except (duckdb.BinderException, duckdb.InvalidInputException):
                # There are files of before a column was added. To look for them beforehand takes longer than most
                # questions; to take all files for such ones does, too.
                if view.mixed:
                    raise
                self._mixed.add(view.snapshot.key)

    def count(self, query: str | Mapping[str, Any], *, version: int | None = None) -> int:
        """How many documents match. Warns (``QueryWarning``) of conditions that can never be true."""
        found = self.page(query, version=version, fields=["_id"])
        warn(found.warnings)
        return found.length

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
        return View(snapshot, None if memory.is_settled else memory, snapshot.key in self._mixed)

    def _gone(self, version: int) -> CortexError:
        taken_down = self._forgotten.recall(self._database.cursor())
        return CortexError((TAKEN_DOWN if taken_down else VACUUMED).format(version=version))

    def _page(self, request: Request, view: View, signer: Signer) -> Page:
        request.check_table(view.snapshot.identity)
        tree = derive(request.query.tree, ranks=False) if view.is_complete else request.query.tree
        if (isinstance(tree, Constant) and tree.negated) or not view.snapshot.files:
            request.check(0)
            return request.answer(0, view.snapshot.identity, view.snapshot.version, [], (), signer)
        ids = wanted_ids(tree)
        if ids is None or len(ids) > _BY_INDEX:
            groups = self._groups(request, view, tree)
            length = groups.length
            request.check(length)
            places, rows = self._rows(request, view, tree, groups) if length else ([], [])
        else:
            length, places, rows = self._look_up(request, view, tree, ids)
        last = places[-1].keys if places else ()
        return request.answer(length, view.snapshot.identity, view.snapshot.version, rows, last, signer)

    def _groups(self, request: Request, view: View, tree: Tree) -> Groups:
        """Counts by file, and by the first sort key: landings by the millisecond, others by missing, NaN or number."""
        hidden = view.hidden.digest if view.hidden else None
        key = (view.snapshot.key, question_digest(tree, request.order[:1]), hidden)
        return self._remembered.get(key, lambda: self._count(request, view, tree))

    def _count(self, request: Request, view: View, tree: Tree) -> Groups:
        operand, descending = request.order[0]
        parameters = Parameters()
        value = document(operand.path)
        if operand == LANDED:
            by, code = value, f"coalesce(epoch_us(v), {NO_TIME})"
        elif isinstance(operand.kind, DoubleType):
            by, code = f"CASE WHEN {value} IS NULL THEN 0 WHEN isnan({value}) THEN 1 ELSE 2 END", "v"
        else:
            by, code = f"CASE WHEN {value} IS NULL THEN 0 ELSE 2 END", "v"
        counted = "count(*) AS n"
        # Where few rows match, to look for page 1 as well costs nothing; where all do, as much as a second scan.
        looks = has_first(operand) and not isinstance(tree, Constant) and not request.offset
        if looks:
            end, row, key = "max" if descending else "min", f"{ROWS}.file_row_number", to_key(operand)
            counted += f", {end}({key}, {_FIRST}) AS keys, arg_{end}({row}, {key}, {_FIRST}) AS rows"
        source = _source(view, view.snapshot.files, parameters)
        where = self._where(view, tree, parameters)
        found = self._run(
            f"SELECT * EXCLUDE v, CAST({code} AS BIGINT) AS code FROM (SELECT {ROWS}.file_index AS file, {by} AS v,"
            f" {counted} FROM {source} AS {ROWS} WHERE {where} GROUP BY ALL)",
            parameters,
        ).fetchnumpy()
        codes = np.asarray(found["code"], np.int64)
        if operand == LANDED:
            codes = np.where(codes == NO_TIME, NO_TIME, codes // 1000)
        files = np.asarray(found["file"], np.int64)
        first = _first_rows(codes, files, found["keys"], found["rows"], descending) if looks else ()
        return Groups.of(sign(descending) * codes, files, np.asarray(found["n"], np.int64), first)

    def _rows(
        self, request: Request, view: View, tree: Tree, groups: Groups
    ) -> tuple[list[Place], list[dict[str, Any]]]:
        """The page's rows in order, and their places."""
        if first := groups.first_page(request):
            return self._sorted(request, view, Constant(), _by_file(first), request.fields.columns)
        window = self._window(request, tree, groups)
        if window.numbers:
            window, places = self._narrowed(request, view, window)
            if places is not None:
                return self._sorted(request, view, Constant(), _by_file(places), request.fields.columns)
        places = self._places(request, view, window)
        return places, self._fetch(view, places, request.fields.columns)

    def _window(self, request: Request, tree: Tree, groups: Groups) -> Window:
        """Where the rows of the page are, as far as the groups tell."""
        operand, descending = request.order[0]
        part = groups.part(request)
        only_numbers = part.first == part.last and groups.codes[part.first] * sign(descending) == NUMBER
        return Window(
            And((tree, part.within)),
            part.behind,
            groups.files_of(part.first, part.last),
            part.skipped,
            bool(only_numbers) and operand != LANDED,
        )

    def _narrowed(self, request: Request, view: View, window: Window) -> tuple[Window, list[Place] | None]:
        """A narrower window, by the first sort key alone: the others, mostly ``_id``, are then read of few rows.

        And the page's rows, not in order, where that key says which they are: where none of them has the same as a
        row before or behind the page.
        """
        operand, descending = request.order[0]
        tree = window.tree
        if request.after is not None:
            tree = And((tree, after(request.order[:1], request.after.last)))
        before = min(window.skipped, 1)
        found = self._select(
            view,
            tree,
            window.files,
            f"{to_key(operand)}, {ROWS}.file_index, {ROWS}.file_row_number",
            f"ORDER BY 1 {'DESC' if descending else 'ASC'} LIMIT {before + PAGE_SIZE + 1:d}"
            f" OFFSET {window.skipped - before:d}",
        ).fetchall()
        page = found[before : before + PAGE_SIZE]
        others = {row[0] for row in (*found[:before], *found[before + PAGE_SIZE :])}
        if request.after is None and others.isdisjoint(row[0] for row in page):
            return window, [Place(window.files[file], row, ()) for _, file, row in page]
        earlier: Comparison = "gt" if descending else "lt"
        near: Comparison = "lte" if descending else "gte"
        far: Comparison = "gte" if descending else "lte"
        bounds: list[Tree] = [compared(operand, far, page[-1][0])] if len(page) == PAGE_SIZE else []
        skipped = window.skipped
        if skipped:
            bounds.append(compared(operand, near, page[0][0]))
            elsewhere = And((window.tree, compared(operand, earlier, page[0][0])))
            skipped -= self._select(view, elsewhere, window.files, "count(*)", "").fetchall()[0][0]
        return replace(window, tree=And((window.tree, *bounds)), skipped=skipped), None

    def _places(self, request: Request, view: View, window: Window) -> list[Place]:
        """Where the rows of the page are, in its order."""
        keys = ", ".join(to_key(key) for key, _ in request.order)
        found = self._select(
            view,
            And((window.tree, window.behind)),
            window.files,
            f"{ROWS}.file_index, {ROWS}.file_row_number, {keys}",
            f"ORDER BY {to_order(request.order, numbers=window.numbers)} LIMIT {PAGE_SIZE} OFFSET {window.skipped:d}",
        ).fetchall()
        return [Place(window.files[file], row, tuple(key)) for file, row, *key in found]

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
        wanted = found | dict.fromkeys(unknown)  # a file without an index is read as a whole
        every, rows = self._sorted(request, view, tree, wanted, columns)
        request.check(len(every))
        places = every[request.offset :]
        if request.after is not None:
            behind = And((tree, after(request.order, request.after.last)))
            places, _ = self._sorted(request, view, behind, wanted, ())
        places = places[:PAGE_SIZE]
        return len(every), places, rows if at_once else self._fetch(view, places, request.fields.columns)

    def _sorted(
        self,
        request: Request,
        view: View,
        tree: Tree,
        wanted: Mapping[int, Sequence[int] | None],
        columns: Sequence[str],
    ) -> tuple[list[Place], list[dict[str, Any]]]:
        """Rows of some files, or all where None stands, of which ``tree`` is true: in order, with their places."""
        if not wanted:
            return [], []
        parameters = Parameters()
        scans = [_rows_of(view, number, rows, parameters) for number, rows in wanted.items() if rows is not None]
        if whole := [number for number, rows in wanted.items() if rows is None]:
            scans.append(_all_of(view, whole, parameters))
        selected = ", ".join(["file", "file_row_number", *_shown(columns), *(to_key(key) for key, _ in request.order)])
        found = self._run(
            f"SELECT {selected} FROM ({' UNION ALL '.join(scans)}) AS {ROWS}"
            f" WHERE {self._where(view, tree, parameters)} ORDER BY {to_order(request.order)}",
            parameters,
            few=True,
        ).fetchall()
        end = 2 + len(columns)
        places = [Place(row[0], row[1], row[end:]) for row in found]
        return places, [dict(zip(columns, row[2:end], strict=True)) for row in found]

    def _fetch(self, view: View, places: Sequence[Place], columns: Sequence[str]) -> list[dict[str, Any]]:
        """The rows at ``places``, in that order."""
        if not places or not columns:
            return [{} for _ in places]
        parameters = Parameters()
        scans = [_rows_of(view, file, rows, parameters, columns) for file, rows in _by_file(places).items()]
        selected = ", ".join(["file", "file_row_number", *_shown(columns)])
        sql = f"SELECT {selected} FROM ({' UNION ALL '.join(scans)}) AS {ROWS}"
        rows = self._run(sql, parameters, few=True).fetchall()
        found = {(file, row): dict(zip(columns, values, strict=True)) for file, row, *values in rows}
        return [found[place.file, place.row] for place in places]

    def _where(self, view: View, tree: Tree, parameters: Parameters) -> str:
        condition = to_sql(tree, parameters)
        return condition if view.hidden is None else f"{condition} AND NOT {to_hidden(view.hidden, parameters)}"

    def _run(self, sql: str, parameters: Parameters, *, few: bool = False) -> duckdb.DuckDBPyConnection:
        """``few``: single rows are wanted out of large row groups."""
        cursor = self._database.cursor()
        if few:  # else all pages of those are read: measured, for 25 rows in 25 files, 296 MB instead of 63
            cursor.execute("SET SESSION disable_parquet_prefetching = true")
        return cursor.execute(sql, parameters.values)


#: What is said where files of an older version are gone.
TAKEN_DOWN: Final = (
    "version {version} of samples cannot be read any more: pictures in it were taken down, or its files are vacuumed; "
    "begin again with the newest"
)
VACUUMED: Final = "version {version} of samples cannot be read any more, its files are vacuumed: begin with the newest"


def wanted_ids(tree: Tree) -> tuple[str, ...] | None:
    """The ids of which a matching row must have one; None where the filter does not say."""
    for part in tree.children if isinstance(tree, And) else (tree,):
        match part:
            case Test(Operand(("_id",)), "eq", str() as one, False):
                return (one,)
            case OneOf(Operand(("_id",)), values, False):
                return tuple(str(one) for one in values)
    return None


def _first_rows(
    codes: NDArray[np.int64], files: NDArray[np.int64], keys: Any, rows: Any, descending: bool
) -> list[Found]:
    """The first rows of all entries, from those of each that is of numbers."""
    entries = np.flatnonzero(codes == NUMBER)
    if not len(entries):
        return []
    key, row = (np.concatenate([column[entry] for entry in entries]) for column in (keys, rows))
    file = np.repeat(files[entries], [len(keys[entry]) for entry in entries])
    order = np.argsort(key)[:: -1 if descending else 1][:_FIRST]  # the least integer has no negative
    return [Found(key[one], Place(int(file[one]), int(row[one]), ())) for one in order]


def _shown(columns: Sequence[str]) -> list[str]:
    """The columns as they are selected. Of older files times have no zone, which is UTC."""
    return [
        f"CAST({document((name,))} AS TIMESTAMPTZ)"
        if isinstance(SAMPLES[name].dataType, TimestampType)
        else document((name,))
        for name in columns
    ]


def _by_file(places: Sequence[Place]) -> dict[int, list[int]]:
    """The rows' numbers by file."""
    by_file: dict[int, list[int]] = {}
    for place in places:
        by_file.setdefault(place.file, []).append(place.row)
    return by_file


def _source(view: View, files: Sequence[DataFile], parameters: Parameters) -> str:
    """A relation of ``files`` with all columns, and ``file_index`` and ``file_row_number``."""
    paths = parameters.plain([file.path for file in files])
    # Nor does a folder with a name like ``crawl=x`` make a column.
    if not view.mixed:
        return f"read_parquet({paths}, hive_partitioning = false)"
    # What a file lacks is NULL there, even where no file has it.
    types = ", ".join(f"CAST(NULL AS {type_name(part.dataType)}) AS {quoted(part.name)}" for part in SAMPLES.fields)
    return (
        f"(SELECT {types}, 0::UBIGINT AS file_index, 0::BIGINT AS file_row_number WHERE FALSE UNION ALL BY NAME"
        " SELECT *, file_index, file_row_number"
        f" FROM read_parquet({paths}, union_by_name = true, hive_partitioning = false))"
    )


def _rows_of(
    view: View, number: int, rows: Sequence[int], parameters: Parameters, columns: Sequence[str] = SAMPLES.names
) -> str:
    """Some rows of one file, with ``file`` and ``file_row_number``."""
    names = ", ".join(quoted(name) for name in columns)
    source = _source(view, [view.snapshot.files[number]], parameters)
    wanted = ", ".join(f"{row:d}" for row in rows)
    return f"SELECT {names}, {number:d} AS file, file_row_number FROM {source} WHERE file_row_number IN ({wanted})"


def _all_of(view: View, numbers: Sequence[int], parameters: Parameters) -> str:
    """All rows of some files, as ``_rows_of`` gives them."""
    names = ", ".join(quoted(name) for name in SAMPLES.names)
    source = _source(view, [view.snapshot.files[number] for number in numbers], parameters)
    number = f"list_extract({parameters.add(list(numbers), 'BIGINT[]')}, CAST(file_index AS BIGINT) + 1)"
    return f"SELECT {names}, {number} AS file, file_row_number FROM {source}"


@lru_cache
def _signer(root: str, key: str | None) -> Signer:
    return Signer(root, key)
