"""MongoDB is the judge: every query finds the same ids in both."""

import json
from collections import Counter

import pytest
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from .cases import CASES as CASES
from .conftest import ROWS, Stored
from .grammar import SHAPES, Cell, cells, cells_in, of_cell, queries
from .judge import Ids, as_filters, draw, judge
from .judge import as_columns as as_columns
from .judge import compare as compare
from .judge import in_mongo as in_mongo


def generate(number: int, *, derandomize: bool) -> list[str]:
    """So many different queries."""
    return draw(queries(), number, derandomize=derandomize)


def generate_cells(*, derandomize: bool) -> list[tuple[Cell, str]]:
    """A query for each cell of the matrix."""
    found: list[tuple[Cell, str]] = []
    every = cells()
    for start in range(0, len(every), 8):
        some = every[start : start + 8]
        # The first that is drawn is the simplest there is, and always the same.
        texts = draw(st.tuples(*map(of_cell, some)), 2, derandomize=derandomize)[-1]
        found += zip(some, texts, strict=True)
    return found


def matrix(written: list[set[Cell]]) -> Table:
    """How many queries have a condition of each cell: positive / negated; a dash where there can be none."""
    counts = Counter(cell for found in written for cell in found)
    possible = set(cells())
    table = Table("operator", "literal", *SHAPES, caption=f"{len(written):,} queries, positive/negated")
    for operator, literal in dict.fromkeys((cell.operator, cell.literal) for cell in cells()):
        row = []
        for shape in SHAPES:
            both = [Cell(operator, shape, literal, negated) for negated in (False, True)]
            row.append("/".join(str(counts[cell]) for cell in both) if both[0] in possible else "-")
        table.add_row(operator, literal, *row)
    return table


def share_of_some(expected: list[Ids]) -> float:
    """Of how many queries the answer is neither nothing nor everything."""
    return sum(0 < len(ids) < ROWS for ids in expected) / len(expected)


def test_cases(stored: Stored) -> None:
    judge(stored, [json.dumps(case) for case in CASES])


def test_every_cell(stored: Stored) -> None:
    """Every operator, on every shape of path, with every type of literal, positive and negated."""
    drawn = generate_cells(derandomize=True)
    written = [cells_in(text) for _, text in drawn]
    Console(width=200).print(matrix(written))
    assert [text for (cell, text), found in zip(drawn, written, strict=True) if cell not in found] == []
    assert set(cells()) - set().union(*written) == set()
    expected = judge(stored, [text for _, text in drawn])
    assert share_of_some(expected) >= 0.6, share_of_some(expected)


def test_generated(stored: Stored) -> None:
    expected = judge(stored, generate(600, derandomize=True))
    assert len(expected) >= 400
    assert share_of_some(expected) >= 0.6, share_of_some(expected)


def test_generated_as_filters(stored: Stored) -> None:
    texts = generate(60, derandomize=True)[:16]
    compare(texts, [in_mongo(stored, text) for text in texts], as_filters(stored.samples, texts))


@pytest.mark.soak
def test_generated_anew(stored: Stored) -> None:
    judge(stored, generate(4000, derandomize=False))
    for _ in range(3):
        judge(stored, [text for _, text in generate_cells(derandomize=False)])
