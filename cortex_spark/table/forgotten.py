"""What was asked to be taken down, and how every door asks for it.

The table remembers hashes, never names, so it can be read without naming what it forbids. It is small and comes to
the driver as a whole; rows are compared with it by broadcast joins. As long as nothing was ever taken down, asking
costs a look for a folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial, reduce
from operator import or_
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import arrow_udf
from pyspark.sql.types import StringType, StructField, StructType

from cortex_spark.config import Settings
from cortex_spark.errors import CortexError
from cortex_spark.sources.urls import Address, UrlError, address
from cortex_spark.table.warehouse import Warehouse

#: What is remembered. ``domain`` is all hosts below a name: the value is the hash of ``*.example.org``.
KINDS: Final = ("url", "host", "domain", "hash", "page")
#: A row that says: everything with this ``digest`` is removed, down to the files.
REMOVED: Final = "removed"

#: For so long after something was remembered, a job that had looked before may still bring a row, and take it out
#: again.
_GRACE: Final = timedelta(hours=1)


@dataclass(frozen=True)
class Memory:
    """The values of the table ``forgotten`` by kind, see ``schema.FORGOTTEN``."""

    values: Mapping[str, frozenset[str]] = field(default_factory=dict)
    removed: frozenset[str] = frozenset()  # digests of what was removed completely
    last: datetime | None = None  # when something was remembered last

    def __bool__(self) -> bool:
        return any(self.values.values())

    def of(self, kind: str) -> frozenset[str]:
        """The values of ``kind``."""
        return self.values.get(kind, frozenset())

    def has_url(self, url: str | None) -> bool:
        """Whether ``url``, its host or a domain above that is remembered: what ``marked`` says of rows, for one URL."""
        found = _parsed(url)
        if found is None:
            return False
        host = (found.host or "").lower().rstrip(".")
        labels = host.split(".")
        above = {hashed(f"*.{'.'.join(labels[first:])}") for first in range(1, len(labels))}
        return found.id in self.of("url") or hashed(host) in self.of("host") or bool(above & self.of("domain"))

    def plus(self, more: Iterable[tuple[str, str]]) -> Memory:
        """The memory with some more of (kind, value)."""
        values = {kind: set(self.of(kind)) for kind in KINDS}
        for kind, value in more:
            values[kind].add(value)
        return Memory({kind: frozenset(of) for kind, of in values.items() if of}, self.removed, self.last)

    @property
    def digest(self) -> str:
        """Names exactly this set of values."""
        lines = sorted(f"{kind}:{value}\n" for kind in KINDS for value in self.of(kind))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def is_removed(self) -> bool:
        """Whether nothing of it is in the warehouse any more."""
        return self.digest in self.removed

    @property
    def is_settled(self) -> bool:
        """Whether nothing of it is in the warehouse, nor under way to it: who only reads need not compare rows."""
        return not self or (self.is_removed and self.last is not None and self.last < datetime.now(UTC) - _GRACE)


def recall(warehouse: Warehouse) -> Memory:
    """What is remembered now. No Spark job, and no table made, where nothing ever was."""
    if not warehouse.has("forgotten"):
        return Memory()
    seconds = F.col("at").cast("double").alias("at")  # of Spark's times the collected ones have no zone
    rows = warehouse.read("forgotten").select("kind", "value", seconds).collect()
    return memory_of((row["kind"], row["value"], row["at"]) for row in rows)


def memory_of(rows: Iterable[tuple[str, str, float]]) -> Memory:
    """The memory that rows of ``forgotten`` are: (kind, value, seconds since 1970)."""
    values: dict[str, set[str]] = {kind: set() for kind in (*KINDS, REMOVED)}
    last: float | None = None
    for kind, value, at in rows:
        values.setdefault(kind, set()).add(value)
        if kind != REMOVED and (last is None or at > last):
            last = at
    return Memory(
        {kind: frozenset(values[kind]) for kind in KINDS},
        frozenset(values[REMOVED]),
        None if last is None else datetime.fromtimestamp(last, UTC),
    )


def without_forgotten(rows: DataFrame, warehouse: Warehouse, memory: Memory | None = None) -> DataFrame:
    """``rows`` less those that may not be in the warehouse, with the same columns.

    Looked at are the columns ``_id``, ``host``, ``page_url``, ``hash``, ``labelled_hash``, ``expected_hash``,
    ``final_url`` and ``location``, as far as ``rows`` has them. ``memory`` is what ``recall`` gives, by default now.
    """
    memory = recall(warehouse) if memory is None else memory
    if not memory:
        return rows
    return marked(rows, memory).where(~F.col(MARK)).drop(MARK)


#: The column that ``marked`` adds.
MARK: Final = "forgotten"


def marked(rows: DataFrame, memory: Memory, columns: Collection[str] | None = None) -> DataFrame:
    """``rows`` with a column ``MARK``: whether ``memory`` has something of it, in any of ``columns`` or all."""
    names = rows.columns
    spark = rows.sparkSession
    flags: list[Column] = []
    for name in names if columns is None else columns:
        if name in _ADDRESSES and (memory.of("url") or memory.of("host") or memory.of("domain")):
            rows = rows.withColumn(f"__{name}", _address(F.col(name)))
    for name, kind, key in _keys(names if columns is None else columns):
        values = memory.of(kind)
        if not values:
            continue
        number = len(flags)
        if kind == "domain":  # few, and several keys per row: no join
            below = partial(_is_one_of, sorted(values))
            flags.append(F.coalesce(F.exists(key(name), below), F.lit(False)))
            continue
        value = f"__value_{number}"
        known = spark.createDataFrame(pa.table({value: sorted(values)}))
        rows = rows.withColumn(f"__key_{number}", key(name))
        rows = rows.join(F.broadcast(known), F.col(f"__key_{number}") == F.col(value), "left")
        flags.append(F.col(value).isNotNull())
    return rows.select(*names, reduce(or_, flags, F.lit(False)).alias(MARK))


def refused_hashes(warehouse: Warehouse, settings: Settings) -> frozenset[str]:
    """The sha256 (lower-case hexadecimal) of pictures that are not taken in: forgotten, or on the configured list.

    Raises:
        CortexError: the list cannot be read, or has a line that is no sha256.
    """
    return recall(warehouse).of("hash") | configured_hashes(settings.refused_hashes)


def configured_hashes(path: str | None) -> frozenset[str]:
    """The hashes of the file at ``path``: one per line; empty lines, and what follows a ``#``, do not count.

    Raises:
        CortexError: it cannot be read, or has a line that is no sha256.
    """
    if not path:
        return frozenset()
    try:
        lines = Path(path).expanduser().read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CortexError(f"CORTEX_REFUSED_HASHES: {path} cannot be read as text: {error}") from error
    hashes = set()
    for number, line in enumerate(lines, start=1):
        value = line.partition("#")[0].strip().lower()
        if value and not is_sha256(value):
            raise CortexError(
                f"CORTEX_REFUSED_HASHES: {path}, line {number}: {value[:80]!r} is not a sha256 of 64 digits"
            )
        hashes.add(value)
    return frozenset(hashes - {""})


def is_sha256(value: str) -> bool:
    """Whether ``value`` is 64 lower-case hexadecimal digits."""
    return len(value) == 64 and set(value) <= set("0123456789abcdef")


def hashed(name: str) -> str:
    """What is remembered of a host's or a page's name."""
    return hashlib.sha256(name.encode()).hexdigest()


def _above(host: Column) -> Column:
    """The keys of all domains that ``host`` is below: of ``a.example.org`` those of ``*.example.org`` and ``*.org``."""
    labels = F.split(_undotted(host), r"\.")
    count = F.size(labels)
    above = F.transform(
        F.sequence(F.lit(2), count),
        lambda first: F.sha2(F.concat(F.lit("*."), F.array_join(F.slice(labels, first, count), ".")), 256),
    )
    return F.when(count > 1, above)  # a sequence from 2 to 1 would count downwards


def _is_one_of(values: list[str], value: Column) -> Column:
    return value.isin(values)


_Key = Callable[[str], Column]


def _plain(name: str) -> Column:
    return F.col(name)


def _name(name: str) -> Column:
    return F.sha2(F.col(name), 256)


def _undotted(host: Column) -> Column:
    """A host's name without the root's dot, with which rows of before may have it."""
    return F.rtrim(F.lower(host), F.lit("."))


def _host(name: str) -> Column:
    return F.sha2(_undotted(F.col(name)), 256)


#: Columns with URLs whose rows belong to other URLs: where a redirect led.
_ADDRESSES: Final = ("final_url", "location")

#: What a column is compared with, and how.
_COMPARED: Final[dict[str, tuple[tuple[str, _Key], ...]]] = {
    "_id": (("url", _plain),),
    "hash": (("hash", _plain),),
    "labelled_hash": (("hash", _plain),),
    "expected_hash": (("hash", _plain),),
    "page_url": (("page", _name),),
    "host": (("host", _host), ("domain", lambda name: _above(F.col(name)))),
    **{
        name: (
            ("url", lambda name: F.col(f"__{name}._id")),
            ("host", lambda name: _host(f"__{name}.host")),
            ("domain", lambda name: _above(F.col(f"__{name}.host"))),
        )
        for name in _ADDRESSES
    },
}


def _keys(names: Collection[str]) -> list[tuple[str, str, _Key]]:
    return [(name, kind, key) for name in names for kind, key in _COMPARED.get(name, ())]


# Not `udf(useArrow=True)`: above a scan of Parquet, Spark 4.2.0 writes to its worker what that does not understand, and
# waits for ever (SPARK-58241).
def _addresses(urls: pa.Array) -> pa.Array:  # type: ignore[type-arg]  # Spark reads the hints
    """What the URL rule makes of redirects' targets; NULL: nothing."""
    found = [_parsed(url) for url in urls.to_pylist()]
    rows = [None if one is None else {"_id": one.id, "host": one.host} for one in found]
    return pa.array(rows, pa.struct([("_id", pa.string()), ("host", pa.string())]))


_make: Any = arrow_udf  # its overloads ask for what Spark reads from the function's hints
_address = _make(_addresses, StructType([StructField("_id", StringType()), StructField("host", StringType())]))


def _parsed(url: str | None) -> Address | None:
    try:
        return None if url is None else address(url)
    except UrlError:
        return None
