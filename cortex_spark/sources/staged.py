"""The rows that every source yields, on their way to ``image_urls``."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

import pyarrow as pa
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import IntegerType, LongType, StringType, StructField, StructType

from cortex_spark.schema import IMAGE_URLS
from cortex_spark.sources.urls import URL_RULE, Address

#: Rows of a staged file: references (with the columns of ``image_urls``), tallies (``name``, ``count``), and findings:
#: what was wrong (``name``) at ``position``, with an excerpt (``detail``).
STAGED: Final = StructType(
    [
        StructField("event", StringType()),
        StructField("file", IntegerType()),
        StructField("position", LongType()),
        *IMAGE_URLS.fields,
        StructField("name", StringType()),
        StructField("count", LongType()),
        StructField("detail", StringType()),
    ]
)
#: The same for Arrow.
ARROW: Final = to_arrow_schema(STAGED, timezone="UTC")
REFERENCE, TALLY, FINDING = "reference", "tally", "finding"

_BATCH_ROWS: Final = 8192
#: Pictures of which it is known that the file has referred to them already: others are staged once more, and ``land``
#: takes the first of all.
_REMEMBERED: Final = 1_000_000
#: Findings of a file that are passed on; all are counted.
_FINDINGS: Final = 100


class StagedFile:
    """Collects the rows of one input file as Arrow batches.

    Of a picture's references the first in the file is kept, and those from pages with further directives; of a file
    with more pictures than are remembered some more.
    """

    def __init__(self, file: int, source: str) -> None:
        self._file = file
        self._source = source
        self._rows: list[tuple[Any, ...]] = []
        self._seen: dict[str, frozenset[str]] = {}  # the directives by _id
        self._started = time.perf_counter()
        self.tally: Counter[str] = Counter()

    def reference(
        self,
        kind: str,
        found: Address,
        *,
        page_url: str | None = None,
        alt: str | None = None,
        crawl: str | None = None,
        seen: datetime | None = None,
        directives: Sequence[str] = (),
    ) -> None:
        """A picture that the file refers to."""
        self.tally["references"] += 1
        self.tally[f"kind:{kind}"] += 1
        known = self._seen.get(found.id)
        if known is not None and known.issuperset(directives):
            return
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen[found.id] = known.union(directives) if known else frozenset(directives)
        # In the order of STAGED.
        position = self.tally["references"]
        row = (found.id, found.url, found.host, self._source, kind, page_url, alt, crawl, seen, directives, URL_RULE)
        self._rows.append((REFERENCE, self._file, position, *row, None, None, None))

    def finding(self, position: int | None, reason: str, detail: str | None = None) -> None:
        """Something wrong at ``position``."""
        self.tally["findings"] += 1
        if self.tally["findings"] <= _FINDINGS:
            self._note(FINDING, position, reason, None, detail)

    def batches(self, *, end: bool = False) -> Iterator[pa.RecordBatch]:
        """The rows so far if they fill a batch; at the ``end`` all of them, and the tallies."""
        if end:
            self.tally["microseconds"] = int((time.perf_counter() - self._started) * 1e6)
            for name, count in self.tally.items():
                self._note(TALLY, None, name, count, None)
        if self._rows and (end or len(self._rows) >= _BATCH_ROWS):
            columns = zip(*self._rows, strict=True)
            yield pa.RecordBatch.from_arrays(
                [pa.array(column, field.type) for column, field in zip(columns, ARROW, strict=True)], schema=ARROW
            )
            self._rows = []

    def _note(self, event: str, position: int | None, name: str, count: int | None, detail: str | None) -> None:
        blank = (None,) * len(IMAGE_URLS)
        self._rows.append((event, self._file, position, *blank, name, count, detail))
