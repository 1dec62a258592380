"""MongoDB is the judge: every query finds the same ids in both."""

import json
import random
import shutil
from collections import Counter

import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table as Shown

from cortex_spark.query.mongo import compile_query
from cortex_spark.table import Warehouse
from cortex_spark.table.snapshot import Table
from cortex_spark.upkeep import optimize as upkeep

from .cases import CASES as CASES
from .conftest import ROWS, Stored
from .grammar import SHAPES, Cell, cells, cells_in, of_cell, queries
from .judge import Ids, as_filters, as_pages, draw, is_pushed, judge
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


def matrix(written: list[set[Cell]]) -> Shown:
    """How many queries have a condition of each cell: positive / negated; a dash where there can be none."""
    counts = Counter(cell for found in written for cell in found)
    possible = set(cells())
    table = Shown("operator", "literal", *SHAPES, caption=f"{len(written):,} queries, positive/negated")
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


def pushed(texts: list[str]) -> list[str]:
    """Those of which Parquet gets something to skip by, no two with the same filter; in no order."""
    trees = {text: compile_query(text).derived for text in texts}
    different = {repr(tree): text for text, tree in trees.items() if is_pushed(tree)}
    return random.Random(2).sample(list(different.values()), len(different))


@pytest.fixture(scope="module")
def optimized(stored: Stored, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    """The same rows after `cortex optimize`, but that so few would be one row group: clustered, with Bloom filters."""
    root = tmp_path_factory.mktemp("optimized") / "warehouse"
    shutil.copytree(stored.warehouse.root, root)
    warehouse = Warehouse(stored.warehouse.spark, str(root))
    small = {"_ROWS_PER_FILE": ROWS // 2, "_LEAST_FILE_BYTES": 1, "_ROWS_PER_GROUP": 8, "_ROWS_PER_PAGE": 2}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in small.items():
            patch.setattr(upkeep, name, value)
        upkeep.optimize(warehouse)
    files = [pq.ParquetFile(file.path) for file in Table(warehouse.root, "samples").snapshot()[0].files]
    assert len(files) >= 2
    assert sum(file.num_row_groups for file in files) >= 12
    return warehouse


def test_filters_of_the_table(stored: Stored) -> None:
    """As it was committed."""
    texts = pushed([text for _, text in generate_cells(derandomize=True)])[:150]
    compare(texts, [in_mongo(stored, text) for text in texts], as_filters(stored.samples, texts))


def test_filters_of_the_optimized_table(stored: Stored, optimized: Warehouse) -> None:
    """Others than as committed; and DuckDB's pages, of the cases as well."""
    texts = pushed([text for _, text in generate_cells(derandomize=True)])[150:300]
    compare(texts, [in_mongo(stored, text) for text in texts], as_filters(optimized.read("samples"), texts))
    texts += map(json.dumps, CASES)
    compare(texts, [in_mongo(stored, text) for text in texts], as_pages(optimized.root, texts), "DuckDB")


@pytest.mark.soak
def test_generated_anew(stored: Stored, optimized: Warehouse) -> None:
    judge(stored, generate(4000, derandomize=False))
    for _ in range(3):
        texts = [text for _, text in generate_cells(derandomize=False)]
        expected = judge(stored, texts)
        compare(texts, expected, as_pages(optimized.root, texts), "DuckDB")
    texts = pushed([*map(json.dumps, CASES), *texts])
    expected = [in_mongo(stored, text) for text in texts]
    for samples in (stored.samples, optimized.read("samples")):
        compare(texts, expected, as_filters(samples, texts))
