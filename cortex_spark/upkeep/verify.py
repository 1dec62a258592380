"""Looks whether the tables are as they say: ids that stand once, derived columns that follow from the boxes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

from pyspark.sql import Column, Row
from pyspark.sql import functions as F
from rich.table import Table

from cortex_spark.errors import CortexError
from cortex_spark.table import Warehouse
from cortex_spark.table.derived import expressions, is_complete

#: Tables with one row per ``_id``.
_UNIQUE: Final = ("image_urls", "samples")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at in ``rows`` rows; in ``differences`` of them it is not so."""

    table: str
    what: str
    rows: int
    differences: int


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was found. ``is_derived``: whether the table says that its derived columns are complete."""

    checks: tuple[Check, ...]
    is_derived: bool

    @property
    def differences(self) -> int:
        """In all checks."""
        return sum(check.differences for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self) | {"differences": self.differences}

    def __rich__(self) -> Table:
        caption = None if self.is_derived else "derived columns are not complete: `cortex optimize` makes them"
        table = Table(caption=caption, caption_justify="left")
        table.add_column("table")
        table.add_column("what")
        table.add_column("rows", justify="right")
        table.add_column("differences", justify="right")
        for check in self.checks:
            style = "red" if check.differences else None
            table.add_row(check.table, check.what, f"{check.rows:,}", f"{check.differences:,}", style=style)
        return table


def verify(warehouse: Warehouse) -> VerifyReport:
    """Recompute every derived column, and count ids.

    Raises:
        CortexError: there is no such table.
    """
    tables = [table for table in _UNIQUE if warehouse.has(table)]
    if not tables:
        raise CortexError(f"{warehouse.root} has no tables to look at: is --warehouse right?")
    is_derived = "samples" in tables and is_complete(warehouse.properties("samples"), warehouse.version("samples"))
    checks: list[Check] = []
    for table in tables:
        counts = {"_id stands once": F.count("*") - F.count_distinct("_id")}
        if table == "samples" and is_derived:
            counts |= {f"{name} follows from the boxes": _differing(name) for name in _made()}
        columns = [F.count("*").alias("rows"), *(count.alias(name) for name, count in counts.items())]
        found = warehouse.retried(partial(_first, warehouse, table, columns))
        assert found is not None
        checks += [Check(table, what, found["rows"], found[what]) for what in counts]
    return VerifyReport(tuple(checks), is_derived)


def _first(warehouse: Warehouse, table: str, columns: list[Column]) -> Row | None:
    return warehouse.read(table).agg(*columns).first()


def _made() -> dict[str, str]:
    return expressions("object_analysis", "width", "height")


def _differing(name: str) -> Column:
    return F.count_if(F.expr(f"NOT ({name} <=> {_made()[name]})"))
