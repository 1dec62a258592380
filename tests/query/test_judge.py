"""MongoDB is the judge: every query finds the same ids in both."""

import json
from collections import Counter
from collections.abc import Sequence
from functools import reduce
from typing import Any

import pytest
from bson import json_util
from hypothesis import HealthCheck, Phase, given, settings
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from cortex_spark.query.mongo import mongo

from .conftest import ROWS, Stored
from .grammar import COMPARISONS, queries

Ids = frozenset[str]


def generate(number: int, *, derandomize: bool) -> list[str]:
    """So many different queries."""
    found: dict[str, None] = {}

    @settings(
        max_examples=number,
        derandomize=derandomize,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(queries())
    def collect(query: str) -> None:
        found[query] = None

    collect()
    return list(found)


def in_mongo(stored: Stored, query: str) -> Ids:
    return frozenset(found["_id"] for found in stored.collection.find(json_util.loads(query), {"_id": 1}))


def as_columns(samples: DataFrame, texts: Sequence[str]) -> list[Ids]:
    """The ids that each query finds, all of them predicates of one job."""
    columns = [mongo(text).alias(f"q{number}") for number, text in enumerate(texts)]
    table = samples.select("_id", *columns).toArrow()
    ids: list[Any] = table["_id"].to_pylist()
    answers = []
    for number in range(len(texts)):
        answer = table[f"q{number}"]
        assert answer.null_count == 0, f"neither true nor false somewhere: {texts[number]}"
        answers.append(frozenset(_id for _id, matches in zip(ids, answer.to_pylist(), strict=True) if matches))
    return answers


def as_filters(samples: DataFrame, texts: Sequence[str]) -> list[Ids]:
    """The same by filters of the table, which Delta and Parquet skip files by; one job."""
    parts = [samples.filter(mongo(text)).select(F.lit(number).alias("q"), "_id") for number, text in enumerate(texts)]
    rows = reduce(DataFrame.unionAll, parts).collect()
    return [frozenset(row["_id"] for row in rows if row["q"] == number) for number in range(len(texts))]


def compare(texts: Sequence[str], expected: Sequence[Ids], found: Sequence[Ids]) -> None:
    wrong = [
        f"{text}\n  MongoDB {len(want)}, Spark {len(got)}; differing: {sorted(want ^ got)[:3]}"
        for text, want, got in zip(texts, expected, found, strict=True)
        if want != got
    ]
    assert not wrong, f"{len(wrong)} of {len(texts)} differ, the shortest:\n" + "\n".join(sorted(wrong, key=len)[:5])


def judge(stored: Stored, texts: Sequence[str], batch: int = 100) -> list[Ids]:
    expected = [in_mongo(stored, text) for text in texts]
    cached = stored.samples.coalesce(1).cache()
    try:
        for start in range(0, len(texts), batch):
            part = slice(start, start + batch)
            compare(texts[part], expected[part], as_columns(cached, texts[part]))
    finally:
        cached.unpersist()
    return expected


def operators(query: object, negated: bool = False) -> list[tuple[str, bool]]:
    """The operators of a query, each with whether an odd number of negations stands around it."""
    if isinstance(query, list):
        return [pair for item in query for pair in operators(item, negated)]
    if not isinstance(query, dict):
        return []
    pairs = [(name, negated) for name in query if name.startswith("$")]
    return pairs + [
        pair for name, argument in query.items() for pair in operators(argument, negated != (name in ("$not", "$nor")))
    ]


#: What chance seldom draws and a translator easily gets wrong.
CASES: list[dict[str, Any]] = [
    # missing and null
    {"width": None},
    {"width": {"$ne": None}},
    {"width": {"$gte": None}},
    {"width": {"$lt": None}},
    {"width": {"$nin": [None, 100]}},
    {"width": {"$not": {"$gt": 100}}},
    {"$nor": [{"width": 100}, {"height": {"$exists": False}}]},
    {},
    # null elements, and elements against wholes
    {"object_analysis": None},
    {"annotators": {"$ne": None}},
    {"histogram": {"$in": [None, 1]}},
    {"annotators": {"$nin": [None]}},
    {"object_analysis": {"$elemMatch": {"$eq": None}}},
    {"object_analysis": {"$elemMatch": {"$not": {"$size": 1}}}},
    {"object_analysis": {"$not": {"$elemMatch": {"$elemMatch": {"classname": "cat"}}}}},
    {"object_analysis": {"$elemMatch": {"$not": {"$elemMatch": {"classname": "cat"}}}}},
    {"object_analysis": {"$elemMatch": {"$elemMatch": {"classname": {"$ne": "cat"}}}}},
    {"object_analysis": {"$elemMatch": {"$elemMatch": {"classname": "cat", "x1": {"$gt": 0}}}}},
    {"object_analysis": {"$elemMatch": {"$elemMatch": {"$nor": [{"classname": "cat"}]}}}},
    {"histogram": {"$elemMatch": {"$elemMatch": {"$gt": 0, "$lt": 2}}}},
    {"histogram": {"$elemMatch": {"$elemMatch": {"$exists": True}}}},
    {"histogram": {"$elemMatch": {"$gt": 0}}},
    {"histogram": {"$elemMatch": {"$elemMatch": {}}}},
    # numbers: between integers, between doubles, at the ends of their ranges, NaN and negative zero
    *[{"width": {operator: 100.5}} for operator in COMPARISONS],
    *[{"bytes": {operator: 2**53 + 1}} for operator in COMPARISONS],
    *[{"bytes": {operator: 9.3e18}} for operator in COMPARISONS],
    *[{"width": {operator: -(2.0**31) - 0.5}} for operator in COMPARISONS],
    *[{"label_quality_estimation": {operator: 2**53 + 1}} for operator in COMPARISONS],
    *[{"label_quality_estimation": {operator: -0.0}} for operator in COMPARISONS],
    {"label_quality_estimation": {"$not": {"$gt": 0.5}}},
    {"label_quality_estimation": {"$in": [0, 1, 0.25]}},
    {"object_analysis": {"$elemMatch": {"$elemMatch": {"confidence": {"$gte": 0.5}}}}},
    # unlike types
    {"object_analysis_processed": 1},
    {"width": True},
    {"width": {"$not": {"$lt": "100"}}},
    {"datetime": {"$gte": 0}},
    # dates within a millisecond, and before 1970
    *[{"datetime": {operator: {"$date": "2023-01-04T09:58:14.082Z"}}} for operator in COMPARISONS],
    *[{"datetime": {operator: {"$date": -1}}} for operator in COMPARISONS],
    {"datetime": {"$in": [{"$date": "2023-01-04T09:58:14.083Z"}, {"$date": "1500-06-01T00:00:00Z"}, None]}},
    # strings: case, other scripts, the empty one
    {"url": {"$gt": "http://a.example/cat.jpg"}},
    {"url": {"$lte": "http://b.example/\u00fc.png"}},
    {"url": ""},
]


def test_cases(stored: Stored) -> None:
    judge(stored, [json.dumps(case) for case in CASES])


def test_generated(stored: Stored) -> None:
    texts = generate(600, derandomize=True)
    assert len(texts) >= 400
    expected = judge(stored, texts)
    some = sum(0 < len(ids) < ROWS for ids in expected)
    assert some >= 0.6 * len(texts), f"{some} of {len(texts)} match some but not all documents"
    used = Counter(pair for text in texts for pair in operators(json.loads(text)))
    names = ["$and", "$or", "$nor", "$not", *COMPARISONS, "$in", "$nin", "$exists", "$size", "$elemMatch"]
    missing = [(name, negated) for name in names for negated in (False, True) if not used[name, negated]]
    assert not missing


def test_generated_as_filters(stored: Stored) -> None:
    texts = generate(60, derandomize=True)[:16]
    compare(texts, [in_mongo(stored, text) for text in texts], as_filters(stored.samples, texts))


@pytest.mark.soak
def test_generated_anew(stored: Stored) -> None:
    judge(stored, generate(4000, derandomize=False))
