"""Hypothesis strategies for the accepted query language, its literals drawn from what is stored."""

import json
import math
from datetime import datetime
from typing import Any, TypeVar

from hypothesis import strategies as st
from pyspark.sql.types import ArrayType, DataType, StructType

from cortex_spark.schema import SAMPLES

from .conftest import ANNOTATOR_POOLS, BOX_POOLS, POOLS

T = TypeVar("T")

UNLIKE: list[Any] = [True, 1, 0.5, "cat", {"$date": "2023-01-04T09:58:14.082Z"}]
COMPARISONS = ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]


def _json(value: Any) -> list[Any]:
    """A stored value as literals: itself, and its neighbours."""
    if isinstance(value, bool | str):
        return [value]
    if isinstance(value, datetime):
        text = value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return [{"$date": text}]
    if isinstance(value, float):
        return [value] if math.isfinite(value) else []
    around = [value, float(value), value + 1, value - 0.5]
    return [number for number in around if isinstance(number, float) or -(2**63) <= number < 2**63]


def weighted(times: int, usual: st.SearchStrategy[T], rare: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """``usual`` so many times as often as ``rare``."""
    return st.integers(0, times).flatmap(lambda roll: rare if roll == times else usual)


def literals(pool: list[Any]) -> st.SearchStrategy[Any]:
    like = [literal for value in pool for literal in _json(value)]
    common = st.sampled_from(like)
    rare = st.one_of(st.none(), st.sampled_from(UNLIKE))
    return weighted(14, common, rare)


def operators(kind: DataType, pool: list[Any], depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """Objects of an operator or two for a field, or an element, of a kind."""
    literal = literals(pool)
    compare = st.tuples(st.sampled_from(COMPARISONS), literal)
    within = st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(literal, max_size=4))
    exists = st.tuples(st.just("$exists"), st.booleans())
    size = st.tuples(st.just("$size"), st.integers(0, 3))
    if isinstance(kind, ArrayType):
        matching = st.tuples(st.just("$elemMatch"), elem_match(kind, depth - 1))
        usual = [matching, matching, matching, size]
        rare = [compare, within, exists]
    else:
        usual = [compare, compare, compare, within]
        rare = [exists, size]
    if depth > 0:
        usual.append(st.tuples(st.just("$not"), st.deferred(lambda: operators(kind, pool, depth - 1))))
    one = weighted(7, st.one_of(usual), st.one_of(rare))
    return weighted(3, one.map(lambda pair: dict([pair])), st.lists(one, min_size=2, max_size=2).map(dict))


def elem_match(kind: ArrayType, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    inner = kind.elementType
    value_form = operators(inner, [0, 1, 2, 3], max(depth, 0))
    if isinstance(inner, StructType):
        pools = BOX_POOLS if "classname" in inner.names else ANNOTATOR_POOLS
        by_field = document(inner, pools, max(depth, 0))
        return weighted(9, by_field, value_form)
    return st.one_of(value_form, value_form, value_form, st.just({}))


def condition(name: str, kind: DataType, pool: list[Any], depth: int) -> st.SearchStrategy[dict[str, Any]]:
    by_operator = operators(kind, pool, depth)
    if isinstance(kind, ArrayType):
        return by_operator.map(lambda argument: {name: argument})
    return st.one_of(by_operator, by_operator, by_operator, literals(pool)).map(lambda argument: {name: argument})


def document(scope: StructType, pools: dict[str, list[Any]], depth: int) -> st.SearchStrategy[dict[str, Any]]:
    fields = [condition(name, scope[name].dataType, pool, depth) for name, pool in pools.items()]
    leaf = st.one_of(fields)
    both = st.tuples(leaf, leaf).map(lambda parts: parts[0] | parts[1])
    if depth <= 0:
        return weighted(3, leaf, both)
    deeper = st.deferred(lambda: document(scope, pools, depth - 1))
    joined = st.tuples(st.sampled_from(["$and", "$or", "$or", "$nor"]), st.lists(deeper, min_size=1, max_size=3))
    logical = joined.map(lambda pair: dict([pair]))
    beside = st.tuples(leaf, logical).map(lambda parts: parts[0] | parts[1])
    # Not one_of: it would flatten the many fields of a leaf into as many alternatives.
    return st.sampled_from([leaf, leaf, both, logical, logical, beside]).flatmap(lambda chosen: chosen)


ARRAYS: dict[str, list[Any]] = {"object_analysis": [1], "annotators": [1], "histogram": [1]}


def queries() -> st.SearchStrategy[str]:
    """Texts of queries, half of them about arrays."""
    boxes = document(SAMPLES, {"object_analysis": [1]}, 3)
    mixed = document(SAMPLES, POOLS | ARRAYS, 2)
    return st.one_of(boxes, mixed).map(json.dumps)
