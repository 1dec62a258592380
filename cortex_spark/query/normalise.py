"""Gives a tree its one meaning: paths expanded over the schema, negation pushed to the leaves.

What a path leads to is what MongoDB's ``BSONElementIterator`` yields:

- a name leads from an object to its field, which may be missing, and from an array to that field of each element that
  is an object: never into an array inside an array;
- a number leads from an array to the element at that place, and is tried as a name besides;
- a path that ends at an array yields each element and the array itself (``$size``, ``$elemMatch``: the array alone);
  one that ends with the number of an element yields that alone;
- what ends early (a name of a number, of null) is missing; an array without fitting elements yields nothing at all.

A condition holds where one of the values that are yielded satisfies it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Final

from pyspark.sql.types import ArrayType, DataType, StructType

from cortex_spark.query.errors import QueryError, nearest, quoted
from cortex_spark.query.leaf import NEVER, Warn, looks_inside, of_missing, of_null, of_value
from cortex_spark.query.tree import (
    And,
    At,
    Constant,
    ElemMatch,
    IsNull,
    Leaf,
    Not,
    On,
    Operand,
    Or,
    Path,
    Some,
    Tree,
)
from cortex_spark.schema import SAMPLES

#: The place of an element, and what looks like one: MongoDB takes ``00`` for a name.
_NUMBER: Final = re.compile(r"0|[1-9]\d{0,8}", re.ASCII)
_DIGITS: Final = re.compile(r"\d+", re.ASCII)


def normalise(tree: Tree, schema: StructType = SAMPLES) -> tuple[Tree, tuple[str, ...]]:
    """The normal form of a tree, and warnings of conditions that can never be true.

    Raises:
        QueryError: with the place of a field that is not there.
    """
    normaliser = _Normaliser()
    return normaliser.tree(tree, Operand((), schema)), tuple(dict.fromkeys(normaliser.warnings))


class _Normaliser:
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def tree(self, tree: Tree, scope: Operand) -> Tree:
        """``tree``, whose paths begin at ``scope``, an object, or an array that is looked at as one."""
        return negate(self.expand(tree, scope), False)

    def expand(self, tree: Tree, scope: Operand) -> Tree:
        match tree:
            case And(children):
                return And(tuple(self.expand(child, scope) for child in children))
            case Or(children):
                return Or(tuple(self.expand(child, scope) for child in children))
            case Not(child):
                return Not(self.expand(child, scope))
            case On((), leaf):
                return self.single(leaf, scope, of_null(leaf))
            case On(path):
                return self.field(scope, path, tree)
            case _:
                raise AssertionError(f"{tree} is not as written")

    def field(self, scope: Operand, path: Path, on: On) -> Tree:
        """The field of an object that is there, of which ``path`` begins with the name."""
        name, rest = path[0], path[1:]
        missing = Constant(negated=not of_missing(on.leaf))
        if isinstance(scope.kind, ArrayType):  # an object with the keys "0", "1", ...
            if not _NUMBER.fullmatch(name):
                self.unheard(name, scope.kind, on)
                return missing
            index = int(name)
            value = self.value(_element(scope), rest, on, of_null(on.leaf))
            return Or((At(scope, index, value), And((missing, At(scope, index, Constant(), negated=True)))))
        if not isinstance(scope.kind, StructType):
            raise QueryError(on.place, f"the element is no object, which has no field {name!r}: use operators like $gt")
        if name in scope.kind.names:
            operand = Operand((*scope.path, name), scope.kind[name].dataType)
            return self.value(operand, rest, on, of_missing(on.leaf))
        if not _DIGITS.fullmatch(name):
            raise _no_field(name, scope.kind, on.place)
        self.nothing(name, on)
        return missing

    def value(self, operand: Operand, path: Path, on: On, of_nothing: bool) -> Tree:
        """What ``path`` leads to from ``operand``; ``of_nothing``: what the leaf says where that is NULL."""
        kind = operand.kind
        if not path and isinstance(kind, ArrayType) and looks_inside(on.leaf):
            return self.array(operand, on, of_nothing)
        if not path:
            return self.single(on.leaf, operand, of_nothing)
        if isinstance(kind, StructType):
            return self.field(operand, path, on)  # of a NULL every field is missing
        missing = of_missing(on.leaf)
        if isinstance(kind, ArrayType):
            found = self.elements(operand, path, on)
            return Or((found, IsNull(operand))) if missing else found
        if not _DIGITS.fullmatch(path[0]):
            what = ".".join(operand.path) or "the element"
            raise QueryError(on.place, f"{what} is no object, which has no field {quoted(path[0])}")
        self.nothing(path[0], on)
        return Constant(negated=not missing)

    def elements(self, operand: Operand, path: Path, on: On) -> Tree:
        """What ``path``, which is not at its end, leads to from the elements of an array."""
        element = _element(operand)
        there = IsNull(element, negated=True)
        found: list[Tree] = []
        if isinstance(element.kind, StructType):
            # No field of ours is called like a number.
            is_missing = Constant(negated=not of_missing(on.leaf))
            named = is_missing if _DIGITS.fullmatch(path[0]) else self.field(element, path, on)
            found.append(Some(operand, And((there, named))))
        if _NUMBER.fullmatch(path[0]):
            index, rest = int(path[0]), path[1:]
            if not rest:
                found.append(At(operand, index, self.single(on.leaf, element, of_null(on.leaf))))
            elif isinstance(element.kind, StructType):
                found.append(At(operand, index, And((there, self.field(element, rest, on)))))
            elif isinstance(element.kind, ArrayType):
                found.append(At(operand, index, self.elements(element, rest, on)))
        if not found:
            self.unheard(path[0], element.kind, on)
        return Or(tuple(found))

    def array(self, operand: Operand, on: On, of_nothing: bool) -> Tree:
        """An array at the end of a path: the array itself, and its elements."""
        element = _element(operand)
        unlike: list[str] = []
        itself = self.single(on.leaf, operand, of_nothing, unlike.append)
        # It is for the elements to warn, and for them only where the array itself can never match.
        each = self.single(on.leaf, element, of_null(on.leaf), None if unlike else _ignore)
        return Or((itself, Some(operand, each)))

    def single(self, leaf: Leaf, operand: Operand, of_nothing: bool, warn: Warn | None = None) -> Tree:
        """The condition on one value alone."""
        if isinstance(leaf, ElemMatch):
            return self.elem_match(leaf, operand)
        value = of_value(leaf, operand, warn or partial(self.warn, leaf.place))
        absent = IsNull(operand)
        if not of_nothing:
            return value
        return Constant() if value == replace(absent, negated=True) else Or((absent, value))

    def elem_match(self, leaf: ElemMatch, operand: Operand) -> Tree:
        if not isinstance(operand.kind, ArrayType):
            what = ".".join(operand.path) or "the element"
            raise QueryError(leaf.place, f"{what} is no array, so that $elemMatch has no elements to look at")
        element = _element(operand)
        child = self.expand(leaf.child, element)
        if not leaf.documents:
            return Some(operand, child)
        if not isinstance(element.kind, ArrayType | StructType):
            return NEVER
        return Some(operand, And((IsNull(element, negated=True), child)))

    def unheard(self, name: str, kind: DataType, on: On) -> None:
        """Warns of a path that asks elements for what they cannot have, or refuses it where nothing has the name."""
        while isinstance(kind, ArrayType):
            kind = kind.elementType
        if isinstance(kind, StructType) and name in kind.names:
            self.warn(on.place, f"{name!r} is no field of an array inside an array: put $elemMatch around it for each")
        elif _DIGITS.fullmatch(name):
            self.nothing(name, on)
        elif isinstance(kind, StructType):
            raise _no_field(name, kind, on.place)
        else:
            raise QueryError(on.place, f"the elements are no objects, which have no field {name!r}")

    def nothing(self, number: str, on: On) -> None:
        """Warns of a number that is no place of an array's element."""
        self.warn(on.place, f"there is nothing that {number!r} leads to")

    def warn(self, place: str, problem: str) -> None:
        self.warnings.append(f"{place}: {problem}")


def _element(array: Operand) -> Operand:
    assert isinstance(array.kind, ArrayType)
    return Operand((), array.kind.elementType)


def _ignore(problem: str) -> None:
    pass


def _no_field(name: str, scope: StructType, place: str) -> QueryError:
    if way := _way(name, scope):
        return QueryError(place, f"{name!r} is a field of an array's elements, write {way}")
    return QueryError(place, f"there is no field {quoted(name)}, the nearest is {nearest(name, scope.names)!r}")


def _way(name: str, scope: StructType) -> str | None:
    """The query that asks for a field called ``name`` inside an array of ``scope``, with ``...`` for what is asked."""
    for field in scope.fields:
        kind, depth = field.dataType, 0
        while isinstance(kind, ArrayType):
            kind, depth = kind.elementType, depth + 1
        if depth and isinstance(kind, StructType) and name in kind.names:
            return f'{{"{field.name}": ' + '{"$elemMatch": ' * depth + f'{{"{name}": ...}}' + "}" * (depth + 1)
    return None


def negate(tree: Tree, negated: bool) -> Tree:
    """The tree, or its complement, without ``Not``."""
    match tree:
        case And(children) | Or(children):
            return _join((negate(child, negated) for child in children), isinstance(tree, And) != negated)
        case Not(child):
            return negate(child, not negated)
        case Some(child=child) | At(child=child):
            child = negate(child, False)
            if child == NEVER:
                return Constant(negated=tree.negated == negated)
            return replace(tree, child=child, negated=tree.negated != negated)
        case On():
            raise AssertionError(f"{tree} is as written")
        case _:
            return replace(tree, negated=tree.negated != negated)


def _join(children: Iterable[Tree], conjunction: bool) -> Tree:
    kind = And if conjunction else Or
    kept: dict[Tree, None] = {}
    for child in children:
        match child:
            case Constant(negated) if negated == conjunction:
                return Constant(negated)  # one false decides "and", one true decides "or"
            case Constant():
                pass
            case And(parts) | Or(parts) if isinstance(child, kind):
                kept.update(dict.fromkeys(parts))
            case _:
                kept[child] = None
    if not kept:
        return Constant(negated=not conjunction)
    return next(iter(kept)) if len(kept) == 1 else kind(tuple(kept))
