"""The suite is proven by faults that it has to catch: each changes what a query means, and MongoDB has to differ.

A fault that passes would mean that the queries of ``cases`` could not tell a right translator from a wrong one.
"""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, StructType

from cortex_spark.query import derive, document, duck, leaf, normalise, order, parse, regex, spark
from cortex_spark.query.tree import (
    And,
    At,
    Constant,
    ElemMatch,
    Exists,
    HasType,
    In,
    IsNull,
    Mod,
    On,
    Operand,
    Or,
    Size,
    Some,
    Test,
    Tree,
)

from .cases import CASES
from .conftest import Stored
from .judge import BACKENDS, Ids, in_mongo
from .test_document import PROJECTIONS, SORTS, by_duckdb, plain

TEXTS = [json.dumps(case) for case in CASES]

Fault = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(scope="module")
def expected(stored: Stored) -> list[Ids]:
    return [in_mongo(stored, text) for text in TEXTS]


def patched(target: Any, name: str, make: Callable[[Any], Any]) -> Fault:
    """A fault that puts ``make(the right function)`` in the place of a function."""
    return lambda patch: patch.setattr(target, name, make(getattr(target, name)))


def _ne_of_some_element(right: Any) -> Any:
    def negate(tree: Tree, negated: bool) -> Any:
        if negated and isinstance(tree, Some):
            return replace(tree, child=right(tree.child, True))
        return right(tree, negated)

    return negate


def _crossing_two_arrays(right: Any) -> Any:
    def elements(self: Any, operand: Operand, path: Any, on: On) -> Any:
        inner = operand.kind.elementType  # type: ignore[attr-defined]
        if isinstance(inner, ArrayType) and not path[0].isdigit():
            return Some(operand, self.elements(Operand((), inner), path, on))
        return right(self, operand, path, on)

    return elements


def _one_element_for_all(right: Any) -> Any:
    def operators(path: Any, made: Any, place: str, field: str) -> Any:
        found = list(right(path, made, place, field))
        if len(found) > 1 and path[:1] == ("annotators",) and all(isinstance(one, On) for one in found):
            inner = And(tuple(replace(one, path=path[1:]) for one in found))
            return iter([On(path[:1], ElemMatch(inner, True, place), field)])
        return iter(found)

    return operators


def _no_probe(right: Any) -> Any:
    def elements(self: Any, operand: Operand, path: Any, on: On) -> Any:
        found = right(self, operand, path, on)
        if not path[0].isdigit() or not isinstance(found, Or):
            return found
        return Or(tuple(one for one in found.children if not isinstance(one, Some)))

    return elements


def _into_the_element(right: Any) -> Any:
    def elements(self: Any, operand: Operand, path: Any, on: On) -> Any:
        inner = operand.kind.elementType  # type: ignore[attr-defined]
        if len(path) == 1 and path[0].isdigit() and isinstance(inner, ArrayType):
            return At(operand, int(path[0]), self.value(Operand((), inner), (), on, False))
        return right(self, operand, path, on)

    return elements


def _null_elements_too(right: Any) -> Any:
    def elem_match(self: Any, made: ElemMatch, operand: Operand) -> Any:
        found = right(self, made, operand)
        if isinstance(found, Some) and isinstance(found.child, And) and made.documents:
            return replace(found, child=And(found.child.children[1:]))
        return found

    return elem_match


def _arrays_are_no_objects(right: Any) -> Any:
    def elem_match(self: Any, made: ElemMatch, operand: Operand) -> Any:
        if made.documents and not isinstance(operand.kind.elementType, StructType):  # type: ignore[attr-defined]
            return Constant(negated=True)
        return right(self, made, operand)

    return elem_match


def _micros(right: Any) -> Any:
    def time(operand: Operand, comparison: Any, date: Any) -> Any:
        return Test(operand, comparison, date.millis * 1000)

    return time


def _without_nan(right: Any) -> Any:
    def double(operand: Operand, comparison: Any, value: Any) -> Any:
        found = right(operand, comparison, value)
        return found.children[0] if isinstance(found, And) else found

    return double


def _rounded(right: Any) -> Any:
    return lambda operand, comparison, value, least, greatest: right(operand, comparison, round(value), least, greatest)


def _as_double(right: Any) -> Any:
    return lambda operand, comparison, value, least, greatest: right(
        operand, comparison, int(float(value)) if math.isfinite(value) else value, least, greatest
    )


def _dollar(written: str) -> Callable[[Any], Any]:
    def make(right: Any) -> Any:
        return lambda node, last, following: right(node, last, following).replace(r"\n?\z", written)

    return make


def _floored(right: Any) -> Any:
    def of_value(made: Any, operand: Operand, warn: Any) -> Any:
        found = right(made, operand, warn)
        return replace(found, remainder=found.remainder % found.divisor) if isinstance(found, Mod) else found

    return of_value


def _not_for(kinds: type | tuple[type, ...], answer: bool) -> Callable[[Any], Any]:
    def make(right: Any) -> Any:
        return lambda made: answer if isinstance(made, kinds) else right(made)

    return make


def _array_alone(right: Any) -> Any:
    return lambda self, operand, on, of_nothing: self.single(on.leaf, operand, of_nothing)


def _elements_alone(right: Any) -> Any:
    def array(self: Any, operand: Operand, on: On, of_nothing: bool) -> Any:
        found = right(self, operand, on, of_nothing)
        return found.children[1]

    return array


def _bools_are_numbers(right: Any) -> Any:
    return lambda operand, comparison, value, warn: right(
        operand, comparison, int(value) if isinstance(value, bool) else value, warn
    )


def _lost_null(right: Any) -> Any:
    def values(operand: Operand, many: Any, warn: Any) -> Any:
        return right(operand, [one for one in many if one is not None], warn)

    return values


def _negated_without_null(right: Any) -> Any:
    def sql(self: Any, tree: Any, scope: Any, **where: bool) -> Any:
        if getattr(tree, "negated", False) and not isinstance(tree, IsNull | Constant):
            value = scope(tree.operand.path)
            return f"({value} IS NOT NULL AND NOT {self.condition(tree, value)})"
        return right(self, tree, scope, **where)

    return sql


def _all_of_nothing(right: Any) -> Any:
    def operators(path: Any, made: Any, place: str, field: str) -> Any:
        if made.get("$all") == []:
            yield And(())
        else:
            yield from right(path, made, place, field)

    return operators


#: What goes wrong, and how; each is to be caught by the queries of ``cases`` on DuckDB.
FAULTS: dict[str, Fault] = {
    "$ne as: some element differs": patched(normalise, "negate", _ne_of_some_element),
    "a path that crosses two arrays": patched(normalise._Normaliser, "elements", _crossing_two_arrays),
    "$gt and $lt bound to one element without $elemMatch": patched(parse, "_operators", _one_element_for_all),
    "a lost IS NULL: a missing field is not null": patched(normalise, "of_missing", lambda _: lambda made: False),
    "a lost IS NULL under negation": patched(duck._Translation, "sql", _negated_without_null),
    "null is missing: $exists": patched(normalise, "of_null", _not_for(Exists, False)),
    "NaN as the greatest number": patched(leaf, "_double", _without_nan),
    "Java's $, before any end of line": patched(regex, "_write", _dollar(r"(?:\r\n|[\n\r\x{85}])?\z")),
    "$ at the very end alone": patched(regex, "_write", _dollar(r"\z")),
    "no field of the number's name besides": patched(normalise._Normaliser, "elements", _no_probe),
    "into the array that a number leads to": patched(normalise._Normaliser, "elements", _into_the_element),
    "$elemMatch sees null elements": patched(normalise._Normaliser, "elem_match", _null_elements_too),
    "$elemMatch sees no arrays": patched(normalise._Normaliser, "elem_match", _arrays_are_no_objects),
    "dates by their microseconds": patched(leaf, "_time", _micros),
    "numbers rounded to the column's type": patched(leaf, "_integer", _rounded),
    "numbers compared as doubles": patched(leaf, "_integer", _as_double),
    "Python's remainder": patched(normalise, "of_value", _floored),
    "$size of elements": patched(normalise, "looks_inside", _not_for(Size, True)),
    "$type of the array alone": patched(normalise, "looks_inside", _not_for(HasType, False)),
    "an array as a whole alone": patched(normalise._Normaliser, "array", _array_alone),
    "an array's elements alone": patched(normalise._Normaliser, "array", _elements_alone),
    "true is 1": patched(leaf, "_compare", _bools_are_numbers),
    "$in forgets null": patched(normalise, "of_missing", _not_for(In, False)),
    "$all: [] matches everything": patched(parse, "_operators", _all_of_nothing),
    "a prefix is a bound below alone": patched(leaf, "_after", lambda _: lambda prefix: None),
    "patterns see no case at all": patched(regex, "_literal", lambda right: lambda letter, folds: right(letter, True)),
}


def differing(
    stored: Stored, expected: list[Ids], who: str, texts: list[str], change: Callable[[Tree], Tree] = lambda tree: tree
) -> list[str]:
    """The queries that are answered otherwise; the rest is not asked any more once there is one."""
    answer, batch = BACKENDS[who]
    trees = [change(normalise.normalise(parse.parse(text))[0]) for text in texts]
    for start in range(0, len(texts), batch):
        found = answer(stored, trees[start : start + batch])
        part = expected[start : start + batch]
        wrong = [text for text, want, got in zip(texts[start:], part, found, strict=False) if want != got]
        if wrong:
            return wrong
    return []


@pytest.mark.parametrize("name", FAULTS)
def test_caught(stored: Stored, expected: list[Ids], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    FAULTS[name](monkeypatch)
    assert differing(stored, expected, "DuckDB", TEXTS), f"no query tells: {name}"


def test_without_a_fault(stored: Stored, expected: list[Ids]) -> None:
    assert differing(stored, expected, "DuckDB", TEXTS) == []
    assert differing(stored, expected, "DuckDB", TEXTS, derive.derive) == []
    assert differing(stored, expected, "DuckDB", TEXTS, partial(derive.derive, ranks=False)) == []


def _as_exact(right: Any) -> Any:
    def of_box(tree: Tree) -> Any:
        found = right(tree)
        return found and replace(found, exact=True)

    return of_box


def _rarest_of_all(right: Any) -> Any:
    return lambda facts: replace(right(facts), rank=min((fact.rank for fact in facts), default=-1))


def _one_is_enough(right: Any) -> Any:
    def complement(tree: Tree) -> Any:
        return And(tuple(map(complement, tree.children))) if isinstance(tree, And) else right(tree)

    return complement


#: Of what is read instead of boxes.
DERIVED_FAULTS: dict[str, Fault] = {
    "more than a class is asked, and forgotten": patched(derive, "_of_box", _as_exact),
    "alternatives are skipped by the rarest class of all": patched(derive, "_some_of", _rarest_of_all),
    "not both is neither": patched(derive, "_complement", _one_is_enough),
    "no such box, and skipped by its class": patched(
        derive, "_is_above_zero", lambda _: lambda comparison, value: True
    ),
}


@pytest.mark.parametrize("name", DERIVED_FAULTS)
def test_caught_in_derived_columns(
    stored: Stored, expected: list[Ids], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    DERIVED_FAULTS[name](monkeypatch)
    assert differing(stored, expected, "DuckDB", TEXTS, derive.derive), f"no query tells: {name}"


def _lost_in_spark(right: Any) -> Any:
    def present(tree: Any, scope: Any) -> Any:
        if not tree.negated:
            return right(tree, scope)
        return scope.at(tree.operand.path).isNotNull() & ~right(replace(tree, negated=False), scope)

    return present


#: Of Spark's back end alone, each with a word that is in the cases that tell.
SPARK_FAULTS: dict[str, tuple[str, Fault]] = {
    "a lost IS NULL under negation": ("$ne", patched(spark, "_present", _lost_in_spark)),
    "an element's place counted from 1": (
        "0.",
        patched(F, "get", lambda right: lambda one, at: right(one, at + 1)),
    ),
    "the strings of the first array alone": (
        "$regex",
        patched(F, "flatten", lambda right: lambda one: right(F.slice(one, 1, 1))),
    ),
}


@pytest.mark.parametrize("name", SPARK_FAULTS)
def test_caught_in_spark(stored: Stored, expected: list[Ids], monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    word, fault = SPARK_FAULTS[name]
    numbers = [number for number, text in enumerate(TEXTS) if word in text]
    fault(monkeypatch)
    texts = [TEXTS[number] for number in numbers]
    assert differing(stored, [expected[number] for number in numbers], "Spark", texts), f"no query tells: {name}"


ORDER_FAULTS: dict[str, Fault] = {
    "NaN above all numbers": patched(duck, "DoubleType", lambda _: type(None)),
    "times by their microseconds": patched(duck, "to_key", lambda _: lambda operand: duck.document(operand.path)),
}


@pytest.mark.parametrize("name", ORDER_FAULTS)
def test_caught_by_the_order(stored: Stored, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    ORDER_FAULTS[name](monkeypatch)
    for sort in SORTS:
        keys = sort if "_id" in sort else sort | {"_id": 1}
        right = [found["_id"] for found in stored.collection.find({}, {"_id": 1}).sort(list(keys.items()))]
        if by_duckdb(stored, order.total(document.parse_sort(sort))) != right:
            return
    pytest.fail(f"no order tells: {name}")


PROJECTION_FAULTS: dict[str, Fault] = {
    "in the order of the projection": patched(
        document, "_included", lambda right: lambda one, tree: _in_its_order(right(one, tree), tree)
    ),
    "null elements are shown": patched(
        document, "_included", lambda right: lambda one, tree: [None] if one == [None] else right(one, tree)
    ),
    "what is left out is left out of objects alone": patched(
        document, "_excluded", lambda right: lambda one, tree: one if isinstance(one, list) else right(one, tree)
    ),
}


def _in_its_order(shown: Any, tree: Any) -> Any:
    return {name: shown[name] for name in tree if name in shown} if isinstance(shown, dict) and tree else shown


@pytest.mark.parametrize("name", PROJECTION_FAULTS)
def test_caught_by_the_projection(stored: Stored, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    PROJECTION_FAULTS[name](monkeypatch)
    rows = [document.to_document(row) for row in stored.table.to_pylist()]
    for fields in PROJECTIONS:
        shown = sorted(str(plain(document.parse_fields(fields).project(row))) for row in rows)
        if shown != sorted(str(plain(one)) for one in stored.collection.find({}, fields)):
            return
    pytest.fail(f"no projection tells: {name}")
