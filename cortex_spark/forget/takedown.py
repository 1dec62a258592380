"""One take-down, from the request to the last file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cortex_spark.errors import CortexError
from cortex_spark.forget.requests import Entry
from cortex_spark.schema import TABLES
from cortex_spark.table import Warehouse
from cortex_spark.table.forgotten import recall
from cortex_spark.table.removal import UNFINISHED, Removal, counted, elsewhere, remember, remove

_SHOWN = 5  # files that a person is shown


@dataclass(frozen=True)
class ForgetReport:
    """What was remembered, and what went."""

    remembered: int  # of what was asked, what was not remembered before
    removal: Removal

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "remembered": self.remembered,
            "rows": dict(self.removal.rows),
            "pictures": self.removal.pictures,
            "files": self.removal.files,
            "bytes": self.removal.bytes,
            "waiting": self.removal.waiting,
        }

    def __rich__(self) -> RenderableType:
        removal = self.removal
        table = rows_table(removal.rows, "removed")
        table.add_row("stored pictures", f"{removal.pictures:,}")
        table.add_row("data files", f"{removal.files:,}")
        table.add_row("megabytes", f"{removal.bytes / 1e6:,.1f}")
        if not removal.waiting:
            return table
        hours = UNFINISHED.total_seconds() / 3600
        shown = ", ".join(removal.waiting[:_SHOWN]) + (", ..." if len(removal.waiting) > _SHOWN else "")
        return Group(
            table,
            Text(
                f"not complete: {len(removal.waiting):,} files or folders belong to jobs that run, or were killed "
                f"within {hours:.0f} hours ({shown}). Nothing in them is shown; call `cortex forget` again when the "
                f"jobs have ended, for killed ones {hours:.0f} hours after that",
                style="yellow",
            ),
        )


def rows_table(rows: Counter[str], title: str) -> Table:
    """Rows by table."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name in ("samples", "image_urls", "attempts", "plans", "hosts"):
        table.add_row(f"rows of {name}", f"{rows[name]:,}")
    return table


def would_go(warehouse: Warehouse, asked: Iterable[Entry]) -> Counter[str]:
    """How many rows of each table a take-down of ``asked`` would remove, with what earlier ones left."""
    check(warehouse)
    return counted(warehouse, recall(warehouse).plus(asked))


def forget(warehouse: Warehouse, asked: Iterable[Entry], *, reason: str | None = None, **how: Any) -> ForgetReport:
    """Remember what is ``asked``, and remove all that is remembered; without ``asked``, what was left over.

    It may be killed at any moment: the next call goes on. ``how`` is for ``remove``.

    Raises:
        CortexError: ``warehouse`` is none.
    """
    check(warehouse)
    say: Callable[[str], None] = how.get("say", lambda what: None)
    say("remembering")
    before = recall(warehouse)
    new = {(kind, value) for kind, value in asked if value not in before.of(kind)}
    # With what is found by it, in one commit: there is no moment at which a query shows the one and not the other.
    also = elsewhere(warehouse, before.plus(new)) if new else frozenset()
    remember(warehouse, new | {("url", _id) for _id in also}, reason)
    return ForgetReport(len(new), remove(warehouse, **how))


def check(warehouse: Warehouse) -> None:
    """Raises CortexError unless ``warehouse`` has a table: a mistyped folder must not become one."""
    if not any(warehouse.has(table) for table in TABLES):
        raise CortexError(f"{warehouse.root} is not a warehouse, it has no tables: is --warehouse right?")
