"""Rewrites conditions on boxes into conditions on the derived columns of ``samples``, which read no boxes.

Where a condition says no more than that there is some box of a class, with at least some confidence, it is replaced
by the scalar that means the same. Where it says more, what follows from it stands beside it: engines test the scalar
first, and skip the files and row groups in which no row can pass. Rows must have their derived columns, see
``table.derived``; the tree means the same as before, for every row and in both polarities.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, product
from math import prod
from typing import Final

from pyspark.sql.types import DoubleType, IntegerType

from cortex_spark.coco import CLASSES, RANK, field_name
from cortex_spark.query.tree import And, At, Constant, IsNan, IsNull, OneOf, Operand, Or, Some, Test, Tree
from cortex_spark.schema import OF_CLASS

_BOXES: Final = ("object_analysis",)
_CLASS: Final = ("classname",)
_CONFIDENCE: Final = ("confidence",)
_BY_FIELD: Final = {field_name(name): name for name in CLASSES}
_RAREST: Final = Operand(("rarest_class",), IntegerType())

#: Alternatives of one condition on a box that are looked at; more are left as they are.
_MAX_ALTERNATIVES: Final = 64


@dataclass(frozen=True, slots=True)
class _Fact:
    """What derived scalars tell of a condition: ``tree`` follows from it, or if ``exact`` means the same."""

    tree: Tree
    rank: int  # the rarest class of the picture is at most this one
    exact: bool


def derive(tree: Tree, *, ranks: bool = True) -> Tree:
    """A tree of the same meaning that reads derived columns where it can; ``tree`` is in normal form.

    ``ranks``: for engines that skip files by the statistics of Delta's log, which has them of ``rarest_class``. Others
    skip by those of the scalars themselves.
    """
    again = partial(derive, ranks=ranks)
    match tree:
        case And(children):
            return _all(map(again, children))
        case Or(children):
            return _any(map(again, children))
        case Some(Operand(path), child, negated) | At(Operand(path), _, child, negated) if path == _BOXES:
            fact = _of_annotator(child)
            if fact is None:
                return tree
            if negated:
                absent = _complement(fact.tree)
                return absent if fact.exact and isinstance(tree, Some) else _any((absent, tree))
            present = (fact.tree, Test(_RAREST, "lte", fact.rank)) if ranks else (fact.tree,)
            return _all(present if fact.exact and isinstance(tree, Some) else (*present, tree))
        case Test(Operand(("objects", name, scalar)), comparison, value, negated=False) if ranks:
            assert isinstance(value, int | float)
            if scalar == "confidence" or _is_above_zero(comparison, value):
                return And((tree, Test(_RAREST, "lte", RANK[_BY_FIELD[name]])))
            return tree
        case _:
            return tree


def _of_annotator(tree: Tree) -> _Fact | None:
    """What follows from some entry of ``object_analysis`` being as ``tree`` says."""
    found = []
    for conditions in _alternatives(tree):
        facts = []
        for condition in conditions:
            match condition:
                case Some(Operand(()), child, negated=False) | At(Operand(()), _, child, negated=False):
                    fact = _of_box(child)
                    if fact is not None:
                        facts.append(replace(fact, exact=fact.exact and isinstance(condition, Some)))
        if not facts:
            return None
        # Of two conditions on boxes, both have to hold for the same annotator: that is more than the scalars tell.
        rest = [condition for condition in conditions if not _is_there(condition)]
        exact = len(rest) == 1 and facts[0].exact
        found.append(_Fact(_all(fact.tree for fact in facts), min(fact.rank for fact in facts), exact))
    return _some_of(found)


def _of_box(tree: Tree) -> _Fact | None:
    """What follows from some box being as ``tree`` says."""
    found = []
    for conditions in _alternatives(tree):
        classes: set[object] | None = None
        bounds: list[Test] = []
        exact = True
        bounded = any(_is_bound(condition) for condition in conditions)
        numeric = IsNan(Operand(_CONFIDENCE, DoubleType()), negated=True) in conditions
        for condition in conditions:
            match condition:
                case Test(Operand(path), "eq", value, negated=False) if path == _CLASS:
                    classes = {value} if classes is None else classes & {value}
                case OneOf(Operand(path), values, negated=False) if path == _CLASS:
                    classes = set(values) if classes is None else classes & set(values)
                case Test() if numeric and _is_bound(condition):
                    bounds.append(condition)
                case IsNan(Operand(path), negated=True) if path == _CONFIDENCE and bounded:
                    pass
                case Test(Operand(path), "eq", value, negated=False) if path == _CONFIDENCE:
                    bounds.append(replace(condition, comparison="gte"))
                    exact = False
                case IsNull(Operand(()) | Operand(("classname",)), negated=True):
                    pass  # both follow from its having a class
                case _:
                    exact = False
        if classes is None or not classes <= RANK.keys():
            return None
        known = [name for name in CLASSES if name in classes]
        trees = [
            _all(replace(bound, operand=_scalar(name, "confidence")) for bound in dict.fromkeys(bounds))
            if bounds
            else Test(_scalar(name, "count"), "gte", 1)
            for name in known
        ]
        found.append(_Fact(_any(trees), max((RANK[name] for name in known), default=-1), exact))
    return _some_of(found)


def _some_of(facts: list[_Fact]) -> _Fact:
    """What follows from one of several conditions being true."""
    rank = max((fact.rank for fact in facts), default=-1)
    return _Fact(_any(fact.tree for fact in facts), rank, all(fact.exact for fact in facts))


def _alternatives(tree: Tree) -> list[tuple[Tree, ...]]:
    """The ways in which ``tree`` can be true, each all of some conditions; too many are left as one condition."""
    return _expand(tree) if _count(tree) <= _MAX_ALTERNATIVES else [(tree,)]


def _count(tree: Tree) -> int:
    match tree:
        case And(children):
            return prod(map(_count, children))
        case Or(children):
            return sum(map(_count, children))
        case _:
            return 1


def _expand(tree: Tree) -> list[tuple[Tree, ...]]:
    match tree:
        case And(children):
            return [tuple(chain(*parts)) for parts in product(*map(_expand, children))]
        case Or(children):
            return [part for child in children for part in _expand(child)]
        case _:
            return [(tree,)]


def _is_bound(tree: Tree) -> bool:
    match tree:
        case Test(Operand(path), "gt" | "gte", negated=False):
            return path == _CONFIDENCE
        case _:
            return False


def _is_there(tree: Tree) -> bool:
    match tree:
        case IsNull(Operand(()), negated=True):
            return True
        case _:
            return False


def _is_above_zero(comparison: str, value: float) -> bool:
    return value > 0 if comparison in ("eq", "gte") else comparison == "gt" and value >= 0


def _scalar(classname: str, name: str) -> Operand:
    return Operand(("objects", field_name(classname), name), OF_CLASS[name].dataType)


def _complement(tree: Tree) -> Tree:
    match tree:
        case And(children):
            return _any(map(_complement, children))
        case Or(children):
            return _all(map(_complement, children))
        case Test() | Constant():
            return replace(tree, negated=not tree.negated)
        case _:
            raise AssertionError(f"{tree} is no condition on derived columns")


def _join(kind: type[And] | type[Or], trees: Iterable[Tree]) -> Tree:
    parts: dict[Tree, None] = {}
    for tree in trees:
        match tree:
            case Constant(negated) if negated == (kind is And):
                return tree  # one false decides "and", one true decides "or"
            case Constant():
                pass
            case And(children) | Or(children) if isinstance(tree, kind):
                parts |= dict.fromkeys(children)
            case _:
                parts[tree] = None
    if not parts:
        return Constant(negated=kind is Or)
    return next(iter(parts)) if len(parts) == 1 else kind(tuple(parts))


_all = partial(_join, And)
_any = partial(_join, Or)
