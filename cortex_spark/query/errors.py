"""What is wrong with a query, and where."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Final

from cortex_spark.errors import CortexError

#: Characters of a name that are compared with ours, and that are shown.
_LOOKED_AT: Final = 1_000
_SHOWN: Final = 40


class QueryError(CortexError):
    """A query that cannot be answered; ``place`` is the way to the culprit, as ``object_analysis.$elemMatch.$foo``."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem}" if place else problem)
        self.place = place


class QueryWarning(UserWarning):
    """A condition that can never be true, of a query that is answered all the same."""


def warn(texts: Iterable[str]) -> None:
    """Issue warnings of a query as Python's, at the line that called the function that calls this."""
    for text in texts:
        warnings.warn(text, QueryWarning, stacklevel=3)


def inside(place: str, name: str) -> str:
    """The place of ``name`` inside ``place``."""
    return f"{place}.{name}" if place else name


def nearest(name: str, valid: Iterable[str]) -> str:
    """The name among ``valid`` that looks most like ``name``.

    >>> nearest("$gte=", ["$gt", "$gte", "$lte"])
    '$gte'
    """
    lowered = name[:_LOOKED_AT].lower()
    return max(valid, key=lambda other: SequenceMatcher(None, lowered, other.lower()).ratio())


def quoted(name: str) -> str:
    """A name in quotes, of a long one its beginning.

    >>> quoted("w" * 1000)
    "'wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww...'"
    """
    return repr(name if len(name) <= _SHOWN else name[:_SHOWN] + "...")
