"""A MongoDB filter as a Spark column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pyspark.sql import Column

from cortex_spark.query.derive import derive
from cortex_spark.query.errors import QueryError, warn
from cortex_spark.query.normalise import normalise
from cortex_spark.query.parse import parse
from cortex_spark.query.spark import to_column
from cortex_spark.query.tree import And, At, Or, Some, Tree

#: Conditions of a query in normal form, of which one value on a path through arrays makes several: the planners of
#: both engines take memory for each, DuckDB's 50 KB and more.
MAX_CONDITIONS: Final = 5_000


@dataclass(frozen=True, slots=True)
class Query:
    """A query in normal form, and what its author should know of it."""

    tree: Tree
    warnings: tuple[str, ...]

    @property
    def derived(self) -> Tree:
        """The same for Spark, where the table's derived columns are complete: see ``table.derived.is_complete``."""
        return derive(self.tree)

    @property
    def column(self) -> Column:
        """The predicate; a Spark session must be running."""
        return to_column(self.tree)


def compile_query(query: str | Mapping[str, Any]) -> Query:
    """Parse and normalise a filter.

    Raises:
        QueryError: with the place of what is wrong or not supported.
    """
    tree, warnings = normalise(parse(query))
    conditions = _conditions(tree)
    if conditions > MAX_CONDITIONS:
        raise QueryError(
            "",
            f"the query is {conditions:,} conditions on our columns, at most {MAX_CONDITIONS:,} are taken; "
            "the values of an $in are one",
        )
    return Query(tree, warnings)


def _conditions(tree: Tree) -> int:
    """How many primitives a tree in normal form has, those inside others counted as well."""
    match tree:
        case And(children) | Or(children):
            return sum(map(_conditions, children))
        case Some(_, child) | At(_, _, child):
            return 1 + _conditions(child)
        case _:
            return 1


def mongo(query: str | Mapping[str, Any]) -> Column:
    """A MongoDB filter over the columns of ``samples``, true or false for every row: ``samples.filter(mongo({...}))``.

    Warns (``QueryWarning``) of conditions that can never be true.

    Raises:
        QueryError: with the place of what is wrong or not supported.
    """
    compiled = compile_query(query)
    warn(compiled.warnings)
    return compiled.column
