"""Lists of URLs: text, CSV (and TSV) and Parquet, each also gzipped.

Text has one URL per line; blank lines and lines that begin with ``#`` say nothing. CSV and Parquet have a column
``url``, and may have ``alt_text`` and ``page_url``; upper or lower case.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cortex_spark.errors import CortexError
from cortex_spark.sources.files import open_seekable, open_stream
from cortex_spark.sources.staged import StagedFile
from cortex_spark.sources.urls import UrlError, address
from cortex_spark.sources.warc import Read

_TEXT: Final = (".txt", ".lst", ".urls")
_CSV: Final = {".csv": ",", ".tsv": "\t"}
_PARQUET: Final = ".parquet"
#: Endings of lists, for folders; a single file may be called as it likes, and is text unless it says otherwise.
LIST_SUFFIXES: Final = (*(suffix + packed for suffix in (*_TEXT, *_CSV) for packed in ("", ".gz")), _PARQUET)

_COLUMNS: Final = ("url", "alt_text", "page_url")
_EXCERPT: Final = 200  # characters of a bad URL that are shown
_FIELD_LIMIT: Final = 1 << 24


class _Row(NamedTuple):
    line: int
    url: str | None
    alt_text: str | None
    page_url: str | None


def read_list(path: str, staged: StagedFile) -> Iterator[None]:
    """Puts the rows of the list at ``path`` into ``staged``; gives way after each.

    Raises:
        CortexError: the list has no column ``url``, or is damaged.
        OSError: it cannot be read.
    """
    now = datetime.now(UTC)  # nobody says when these were seen first: we do
    suffix = Path(path.partition("?")[0].lower().removesuffix(".gz")).suffix
    for row in _parquet(path) if suffix == _PARQUET else _lines(path, suffix):
        staged.tally["records"] += 1
        try:
            found = address(row.url or "")
        except UrlError as error:
            staged.tally[f"dropped:{error.fault}"] += 1
            staged.finding(row.line, error.fault, (row.url or "")[:_EXCERPT].encode(errors="replace").decode())
        else:
            staged.reference("list", found, alt=row.alt_text, page_url=row.page_url, seen=now)
        yield


def _lines(path: str, suffix: str) -> Iterator[_Row]:
    with open_stream(path) as read, io.BufferedReader(_Raw(read)) as raw:
        stored = gzip.GzipFile(fileobj=raw) if raw.peek(2)[:2] == b"\x1f\x8b" else raw
        # An undecodable byte makes one bad URL, not an end of the list.
        with io.TextIOWrapper(stored, encoding="utf-8-sig", errors="surrogateescape", newline="") as text:
            try:
                yield from _csv(path, text, _CSV[suffix]) if suffix in _CSV else _text(text)
            except (EOFError, csv.Error, zlib.error) as error:
                raise CortexError(f"the list is damaged: {error}") from error


def _text(text: io.TextIOWrapper) -> Iterator[_Row]:
    for number, line in enumerate(text, start=1):
        url = line.strip()
        if url and not url.startswith("#"):
            yield _Row(number, url, None, None)


def _csv(path: str, text: io.TextIOWrapper, delimiter: str) -> Iterator[_Row]:
    csv.field_size_limit(_FIELD_LIMIT)
    reader = csv.reader(text, delimiter=delimiter)
    places = _places(path, next(reader, []))
    for cells in reader:
        if cells:
            yield _row(reader.line_num, *(_cell(cells, place) for place in places))


def _cell(cells: Sequence[str], place: int | None) -> str | None:
    return cells[place] or None if place is not None and place < len(cells) else None


def _row(line: int, url: str | None, *others: str | None) -> _Row:
    """Bytes that are no text make a URL a bad one, and question marks of other texts."""
    return _Row(line, url, *(None if text is None else text.encode(errors="replace").decode() for text in others))


def _parquet(path: str) -> Iterator[_Row]:
    with open_seekable(path) as stream:
        try:
            yield from _parquet_rows(path, stream)
        except (ValueError, pa.ArrowException) as error:
            raise CortexError(f"not a Parquet file of texts: {error}") from error


def _parquet_rows(path: str, stream: IO[bytes]) -> Iterator[_Row]:
    file = pq.ParquetFile(stream)
    names = file.schema_arrow.names
    places = _places(path, names)
    wanted = [names[place] for place in places if place is not None]
    number = 0
    for batch in file.iter_batches(columns=wanted):
        columns = {name: _texts(batch.column(name)) for name in wanted}
        empty = [None] * batch.num_rows
        values = [empty if place is None else columns[names[place]] for place in places]
        for cells in zip(*values, strict=True):
            number += 1
            yield _row(number, *cells)


def _texts(column: pa.Array) -> list[str | None]:  # type: ignore[type-arg]
    """As text, in which bytes that are none can be told."""
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return [None if cell is None else cell.decode(errors="surrogateescape") for cell in column.to_pylist()]
    texts: list[str | None] = column.cast(pa.string()).to_pylist()
    return texts


def _places(path: str, names: Sequence[str]) -> list[int | None]:
    """Where the columns stand that we use."""
    lowered = [name.strip().lower() for name in names]
    if "url" not in lowered:
        raise CortexError(f"{path}: no column 'url' among {', '.join(names) or 'none'}")
    return [lowered.index(name) if name in lowered else None for name in _COLUMNS]


class _Raw(io.RawIOBase):
    """A ``read`` function as a stream."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
