"""What a row of ``samples`` is as a document: for JSON, and for loading MongoDB alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from pyspark.sql import Row

from cortex_spark.errors import CortexError
from cortex_spark.query.errors import nearest
from cortex_spark.schema import DERIVED, SAMPLES

#: Shown where nobody says otherwise: all but what follows from the boxes, and the histogram, whose 96 numbers bury the
#: rest of a page.
DEFAULT_FIELDS: Final = tuple(name for name in SAMPLES.names if name not in ("histogram", *DERIVED))


def choose_fields(names: Sequence[str] | None) -> tuple[str, ...]:
    """The named columns of ``samples``, in its order and with ``_id``; ``all`` names them all, None the default ones.

    Raises:
        CortexError: for a name that is no column.
    """
    if names is None:
        return DEFAULT_FIELDS
    for name in names:
        if name != "all" and name not in SAMPLES.names:
            raise CortexError(f"there is no field {name!r}, the nearest is {nearest(name, SAMPLES.names)!r}")
    return tuple(field for field in SAMPLES.names if field == "_id" or field in names or "all" in names)


def to_document(row: Row | Mapping[str, Any]) -> dict[str, Any]:
    """The document of a row: a NULL column or box field is missing, a NULL array element is None, ``[]`` stays ``[]``.

    Fields keep the order of the row; times are aware, in UTC. ``row`` is one of Spark's, or of Arrow's ``to_pylist``.
    """
    fields = row.asDict() if isinstance(row, Row) else row
    return {name: _value(value) for name, value in fields.items() if value is not None}


def to_json(document: Any) -> Any:
    """A document with JSON's types only: times as ``2023-01-04 09:58:14.082248``, UTC; NaN and infinities as null."""
    match document:
        case dict():
            return {name: to_json(value) for name, value in document.items()}
        case list():
            return [to_json(value) for value in document]
        case datetime():
            return document.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "microseconds")
        case float() if not math.isfinite(document):
            return None
        case _:
            return document


def _value(value: Any) -> Any:
    match value:
        case Row() | dict():
            return to_document(value)
        case list():
            return [_value(item) for item in value]
        case datetime():
            return value.astimezone(UTC)  # a naive one is of Spark's Row, in this machine's time zone
        case _:
            return value
