"""MongoDB is the judge: what it finds, every back end has to find."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial, reduce
from typing import Any, Final, TypeAlias

import duckdb
import pyarrow as pa
from bson import json_util
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cortex_spark.query.duck import ROWS as DUCK_ROWS
from cortex_spark.query.duck import Parameters, to_sql
from cortex_spark.query.mongo import compile_query
from cortex_spark.query.page import page
from cortex_spark.query.spark import to_column
from cortex_spark.query.tree import And, IsNull, OneOf, Or, Test, Tree

from .conftest import Stored

Ids: TypeAlias = frozenset[str]
Answers: TypeAlias = Callable[[Stored, Sequence[Tree]], list[Ids]]

#: Filters that one job of Spark's asks.
_FILTERS: Final = 25


def in_bson(query: str) -> dict[str, Any]:
    """A query as the server gets it: dates are dates; $regex stays an operator, which json_util makes a value of."""
    made = json.loads(query, object_hook=lambda one: json_util.object_hook(one) if "$date" in one else one)
    assert isinstance(made, dict)
    return made


def in_mongo(stored: Stored, query: str) -> Ids:
    return frozenset(found["_id"] for found in stored.collection.find(in_bson(query), {"_id": 1}))


def _answers(table: pa.Table, number: int) -> list[Ids]:
    """The ids of the rows of which each of the columns behind ``_id`` is true."""
    ids: list[Any] = table["_id"].to_pylist()
    answers = []
    for place in range(1, number + 1):
        answer = table.column(place)
        assert answer.null_count == 0, f"predicate {place - 1} is neither true nor false somewhere"
        answers.append(frozenset(_id for _id, matches in zip(ids, answer.to_pylist(), strict=True) if matches))
    return answers


def by_spark(samples: DataFrame, trees: Sequence[Tree]) -> list[Ids]:
    """The ids that each predicate finds, all of them columns of one job."""
    columns = [to_column(tree).alias(f"q{number}") for number, tree in enumerate(trees)]
    return _answers(samples.select("_id", *columns).toArrow(), len(trees))


def by_duckdb(stored: Stored, trees: Sequence[Tree]) -> list[Ids]:
    parameters = Parameters()
    columns = [f"coalesce({to_sql(tree, parameters)}, FALSE)" for tree in trees]  # as WHERE takes it
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        database.register("samples", stored.table)
        text = f"SELECT _id, {', '.join(columns)} FROM samples AS {DUCK_ROWS}"
        found = database.sql(text, params=parameters.values)
        assert found is not None
        return _answers(found.to_arrow_table(), len(trees))


#: Who answers, and how many predicates at a time.
BACKENDS: Final[dict[str, tuple[Answers, int]]] = {
    "Spark": (lambda stored, trees: by_spark(stored.cached, trees), 100),
    "DuckDB": (by_duckdb, 50),
}


def as_columns(samples: DataFrame, texts: Sequence[str]) -> list[Ids]:
    return by_spark(samples, [compile_query(text).tree for text in texts])


def as_filters(samples: DataFrame, texts: Sequence[str]) -> list[Ids]:
    """The same by filters of the table, as pages and exports have them: Delta and Parquet skip by all of them."""
    batches = [texts[start : start + _FILTERS] for start in range(0, len(texts), _FILTERS)]
    with ThreadPoolExecutor(3) as threads:  # each mostly waits for Delta, which asks its log scan by scan
        return [ids for found in threads.map(partial(_filtered, samples), batches) for ids in found]


def _filtered(samples: DataFrame, texts: Sequence[str]) -> list[Ids]:
    """By one job, a scan for each filter."""
    trees = [compile_query(text).derived for text in texts]
    parts = [
        samples.filter(to_column(tree)).select(F.lit(number).alias("q"), "_id") for number, tree in enumerate(trees)
    ]
    scans = reduce(DataFrame.unionAll, parts).coalesce(1)
    plan = scans._jdf.queryExecution().executedPlan().toString()
    # Of some Catalyst sees that nothing matches, and a few it does not hand on.
    assert plan.count("PushedFilters: [") - plan.count("PushedFilters: []") >= 0.8 * len(texts)
    rows = scans.toArrow().to_pylist()
    return [frozenset(row["_id"] for row in rows if row["q"] == number) for number in range(len(texts))]


def is_pushed(tree: Tree) -> bool:
    """Whether Spark hands a part of the filter on to Parquet: an alternative only as a whole."""
    return any(map(is_pushed, tree.children)) if isinstance(tree, And) else _is_plain(tree)


def _is_plain(tree: Tree) -> bool:
    """Whether it is about columns alone, not about what is in their arrays."""
    match tree:
        case And(children) | Or(children):
            return all(map(_is_plain, children))
        case _:
            return isinstance(tree, Test | OneOf | IsNull)


def as_pages(root: str, texts: Sequence[str], version: int | None = None) -> list[Ids]:
    """All the ids that walking through the pages by DuckDB finds, no two the same."""
    answers = []
    for text in texts:
        ids: list[str] = []
        cursor, length = None, 0
        while cursor or not ids:
            found = page(root, text, cursor=cursor, fields=["_id"], version=version)
            ids += [document["_id"] for document in found.data]
            cursor, length = found.cursor, found.length
            if cursor is None:
                break
        assert len(ids) == len(set(ids)) == length, text
        answers.append(frozenset(ids))
    return answers


def compare(texts: Sequence[str], expected: Sequence[Ids], found: Sequence[Ids], who: str = "Spark") -> None:
    wrong = [
        f"{text}\n  MongoDB {len(want)}, {who} {len(got)}; differing: {sorted(want ^ got)[:3]}"
        for text, want, got in zip(texts, expected, found, strict=True)
        if want != got
    ]
    assert not wrong, f"{len(wrong)} of {len(texts)} differ, the shortest:\n" + "\n".join(sorted(wrong, key=len)[:5])


def judge(stored: Stored, texts: Sequence[str], who: Sequence[str] = tuple(BACKENDS)) -> list[Ids]:
    """What MongoDB finds, and every back end too, by the boxes and by what is derived from them."""
    expected = [in_mongo(stored, text) for text in texts]
    compiled = [compile_query(text) for text in texts]
    for name in who:
        answer, batch = BACKENDS[name]
        # Many texts mean the same, and most read no boxes: each tree is asked once. Its repr tells 1 from 1.0 and True.
        trees = {repr(tree): tree for query in compiled for tree in (query.tree, query.derived)}
        keys = list(trees)
        found: dict[str, Ids] = {}
        for start in range(0, len(keys), batch):
            some = keys[start : start + batch]
            found.update(zip(some, answer(stored, [trees[key] for key in some]), strict=True))
        compare(texts, expected, [found[repr(query.tree)] for query in compiled], name)
        compare(texts, expected, [found[repr(query.derived)] for query in compiled], f"{name}, derived,")
    return expected


def draw(strategy: st.SearchStrategy[Any], number: int, *, derandomize: bool = True) -> list[Any]:
    """So many examples, or fewer where they repeat."""
    found: dict[str, Any] = {}

    @settings(
        max_examples=number,
        derandomize=derandomize,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(example: Any) -> None:
        found[repr(example)] = example

    collect()
    return list(found.values())
