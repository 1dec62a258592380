"""Where the pages of an answer lie: its rows counted by groups that follow each other in its order.

Groups are of the first sort key: the time of landing by the millisecond, for it has few values, one a commit; others
by missing, NaN or number (or string, ...). The sum is the exact length; and a page, however deep, is in few groups, so
that other rows need not be sorted for it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pyspark.sql.types import DoubleType, NumericType, TimestampType

from cortex_spark.query.order import LANDED, after, landed_between
from cortex_spark.query.request import PAGE_SIZE, Request
from cortex_spark.query.tree import And, Constant, IsNan, IsNull, Operand, Or, Tree

#: Codes of groups: of a landing that is missing (the least integer has no negative), and of other keys.
NO_TIME: Final = int(np.iinfo(np.int64).min) + 1
MISSING, NAN, NUMBER = range(3)

#: Answers of which the groups are remembered, and their bytes.
_REMEMBERED: Final = 128
_REMEMBERED_BYTES: Final = 50_000_000


class Found(NamedTuple):
    """A row: its first sort key, a number or a time, and where it is, as the engine says that."""

    key: float
    place: Any


class Part(NamedTuple):
    """Where a page lies: in the groups ``first`` through ``last``, behind ``skipped`` of their rows."""

    first: int
    last: int
    skipped: int
    within: Tree  # true of the rows of these groups
    behind: Tree  # true of rows behind the cursor


@dataclass(frozen=True)
class Groups:
    """Matching rows by groups that follow each other in the order of the answer.

    ``codes`` (groups,) ascend. The entries, one for each file and group, are sorted by group: those of group ``g`` are
    ``entries[g]:entries[g + 1]`` of ``files``. ``first`` are the first rows whose key is a number, in the order of the
    answer, a page's and one more, if whoever counted has looked for them.
    """

    codes: NDArray[np.int64]
    ends: NDArray[np.int64]  # rows of the answer through this group
    entries: NDArray[np.int64]
    files: NDArray[np.int64]
    first: Sequence[Found]

    @classmethod
    def of(
        cls,
        codes: NDArray[np.int64],
        files: NDArray[np.int64],
        counts: NDArray[np.int64],
        first: Sequence[Found] = (),
    ) -> Groups:
        """Of the entries' codes, files and counts, in any order."""
        order = np.argsort(codes, kind="stable")
        unique, starts = np.unique(codes[order], return_index=True)
        totals = np.add.reduceat(counts[order], starts) if len(unique) else np.empty(0, np.int64)
        return cls(unique, np.cumsum(totals), np.append(starts, len(codes)), files[order], first)

    @property
    def length(self) -> int:
        """Rows of the answer."""
        return int(self.ends[-1]) if len(self.ends) else 0

    @property
    def bytes(self) -> int:
        """How large they are: each group is three numbers, each entry one."""
        return sum(one.nbytes for one in (self.codes, self.ends, self.entries, self.files))

    def start(self, group: int) -> int:
        """Rows of the answer before ``group``."""
        return int(self.ends[group - 1]) if group else 0

    def at(self, offset: int) -> int:
        """The group that row ``offset`` (from 0) of the answer is in; the last one, for those behind the end."""
        return min(int(np.searchsorted(self.ends, offset, side="right")), len(self.ends) - 1)

    def files_of(self, first: int, last: int) -> list[int]:
        """The files that have rows of the groups ``first`` through ``last``."""
        return [int(one) for one in np.unique(self.files[self.entries[first] : self.entries[last + 1]])]

    def first_page(self, request: Request) -> list[Any]:
        """Where the rows of page 1 are, not in order; none where it takes more than the first sort key to say that."""
        page, behind = self.first[:PAGE_SIZE], self.first[PAGE_SIZE:]
        if request.offset or len(page) < min(PAGE_SIZE, self.length) or not page:
            return []
        is_theirs = self.codes[0] == NUMBER * sign(request.order[0][1])  # nothing comes before the numbers
        is_clear = not behind or behind[0].key != page[-1].key
        return [found.place for found in page] if is_theirs and is_clear else []

    def part(self, request: Request) -> Part:
        """Where the page that is asked for lies; there is a row."""
        operand, descending = request.order[0]
        behind: Tree = Constant()
        if request.after is None:
            first = self.at(request.offset)
            last = self.at(request.offset + PAGE_SIZE - 1)
            skipped = request.offset - self.start(first)
        else:
            code = code_of(operand, request.after.last[0]) * sign(descending)
            first = min(int(np.searchsorted(self.codes, code)), len(self.codes) - 1)
            # How many of this group are behind the cursor is not known: as many as a page of those that follow.
            last = self.at(int(self.ends[first]) + PAGE_SIZE - 1)
            skipped = 0
            behind = after(request.order, request.after.last)
        codes = [int(code) * sign(descending) for code in self.codes[first : last + 1]]
        within = _within(operand, codes) if len(codes) < len(self.codes) else Constant()
        return Part(first, last, skipped, within, behind)


class RememberedGroups:
    """The groups of the latest answers. Threads may share it; a process has one for each engine and warehouse."""

    def __init__(self) -> None:
        self._groups: OrderedDict[Hashable, Groups] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Groups]) -> Groups:
        """Those of the answer ``key``, which are made where they are not known; it says all that they depend on."""
        with self._lock:
            if key in self._groups:
                self._groups.move_to_end(key)
                return self._groups[key]
        made = make()
        with self._lock:
            if made.bytes <= _REMEMBERED_BYTES and key not in self._groups:  # two may have made it
                self._groups[key] = made
                self._bytes += made.bytes
            while len(self._groups) > _REMEMBERED or self._bytes > _REMEMBERED_BYTES:
                self._bytes -= self._groups.popitem(last=False)[1].bytes
        return made


def sign(descending: bool) -> int:
    """What codes are multiplied with, so that they ascend in the order of the answer."""
    return -1 if descending else 1


def code_of(operand: Operand, key: Any) -> int:
    """The code of rows with this first sort key, times in milliseconds since 1970; in ascending order."""
    if operand == LANDED:
        return NO_TIME if key is None else int(key)
    return MISSING if key is None else NAN if key != key else NUMBER


def has_first(operand: Operand) -> bool:
    """Whether counting looks for the first rows as well: the groups of landings tell as much, other keys are longer."""
    return operand != LANDED and isinstance(operand.kind, NumericType | TimestampType)


def _within(operand: Operand, codes: Sequence[int]) -> Tree:
    """True of the rows of neighbouring groups."""
    if operand == LANDED:
        least, greatest = (None if code == NO_TIME else code for code in (min(codes), max(codes)))
        return landed_between(least, greatest)
    present = IsNull(operand, negated=True)
    number: Tree = And((present, IsNan(operand, negated=True))) if isinstance(operand.kind, DoubleType) else present
    groups: dict[int, Tree] = {MISSING: IsNull(operand), NAN: IsNan(operand), NUMBER: number}
    return Or(tuple(groups[code] for code in codes))
