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
    # paths through one array, and not through two
    {"annotators.name": "yolo"},
    {"annotators.name": None},
    {"annotators.name": {"$ne": "yolo"}},
    {"annotators.name": {"$exists": True}},
    {"annotators.name": {"$exists": False}},
    {"annotators": {"$not": {"$elemMatch": {"name": "yolo", "model": "m1"}}}},
    {"annotators.name": {"$gt": "human"}, "annotators.model": "m1"},
    {"object_analysis.classname": "cat"},
    {"object_analysis.classname": {"$ne": "cat"}},
    {"object_analysis.classname": None},
    {"object_analysis.classname": {"$exists": False}},
    # numbers in paths: an element, and a field of that name besides
    {"annotators.0": None},
    {"annotators.0": {"$exists": True}},
    {"annotators.1": {"$exists": False}},
    {"annotators.0.name": "human"},
    {"annotators.1.name": None},
    {"annotators.00.name": None},
    {"annotators.0.0.name": None},
    {"annotators.name.0": None},
    {"annotators.name.0": {"$ne": None}},
    {"object_analysis.0.classname": "cat"},
    {"object_analysis.0.classname": None},
    {"object_analysis.0.classname": {"$nin": ["cat", "dog"]}},
    {"object_analysis.0.0.classname": "cat"},
    {"object_analysis.0.0.classname": None},
    {"object_analysis.1.0.classname": {"$ne": "cat"}},
    {"object_analysis.0.0.0.classname": None},
    {"object_analysis.0.0": None},
    {"object_analysis.0.0": {"$exists": True}},
    {"object_analysis.0.0": {"$type": "object"}},
    {"object_analysis.0": []},
    {"object_analysis.0": {"$size": 2}},
    {"object_analysis.1": {"$size": 0}},
    {"object_analysis.0": {"$elemMatch": {"classname": "cat", "x1": {"$gte": 10}}}},
    {"object_analysis.0": {"$elemMatch": {"$eq": None}}},
    {"histogram.0": 1},
    {"histogram.0.1": 1},
    {"histogram.0.1": {"$gt": 0, "$lt": 3}},
    {"histogram.1": {"$elemMatch": {"$gt": 1}}},
    {"histogram.0.0.0": None},
    {"histogram.0.0.0": {"$exists": False}},
    {"width.0": None},
    {"width.0": {"$gt": 1}},
    # an inner array as an object with the keys "0", "1"
    {"object_analysis": {"$elemMatch": {"0.classname": "cat"}}},
    {"object_analysis": {"$elemMatch": {"0": None}}},
    {"object_analysis": {"$elemMatch": {"1": {"$exists": False}}}},
    {"object_analysis": {"$elemMatch": {"1.classname": {"$ne": "cat"}}}},
    {"object_analysis": {"$elemMatch": {"0.0": None}}},
    {"object_analysis": {"$elemMatch": {"classname": "cat"}}},
    {"object_analysis": {"$elemMatch": {"classname": None}}},
    {"object_analysis": {"$elemMatch": {"$nor": [{"classname": "cat"}]}}},
    {"histogram": {"$elemMatch": {"0": 1}}},
    {"histogram": {"$elemMatch": {"0": {"$gt": 0}, "1": {"$lt": 2}}}},
    # empty arrays
    {"object_analysis": []},
    {"object_analysis": {"$ne": []}},
    {"annotators": {"$in": [[], None]}},
    {"annotators": {"$nin": [[]]}},
    {"histogram": {"$elemMatch": {"$eq": []}}},
    # $all
    {"histogram": {"$all": []}},
    {"histogram": {"$not": {"$all": []}}},
    {"width": {"$all": [100]}},
    {"width": {"$all": [100, 101]}},
    {"annotators.name": {"$all": ["yolo", "human"]}},
    {"annotators": {"$all": [None]}},
    {"annotators": {"$all": [[]]}},
    {"annotators": {"$all": [{"$elemMatch": {"name": "yolo"}}, {"$elemMatch": {"model": "m1"}}]}},
    {"histogram": {"$elemMatch": {"$all": [1, 2]}}},
    {"histogram.0": {"$all": [{"$elemMatch": {"$gt": 1}}, {"$elemMatch": {"$lt": 1}}]}},
    # $type
    *[{"width": {"$type": name}} for name in ("int", "long", "number", 16, 10, ["string", "null"])],
    *[{"annotators": {"$type": name}} for name in ("array", "object", "null", "string")],
    *[{"histogram.0": {"$type": name}} for name in ("array", "int", "null")],
    *[{"annotators.name": {"$type": name}} for name in ("array", "string", "null")],
    {"bytes": {"$not": {"$type": "long"}}},
    {"label_quality_estimation": {"$type": "double"}},
    {"datetime": {"$type": 9}},
    {"object_analysis_processed": {"$type": ["bool", "date"]}},
    {"object_analysis": {"$elemMatch": {"$type": "array"}}},
    # $mod
    *[{"width": {"$mod": [3, remainder]}} for remainder in (0, 1, -1, -2.9)],
    *[{"bytes": {"$mod": pair}} for pair in ([2, 1], [-7, 1], [2**63 - 1, 0], [-(2**63), 0], [4.5, -0.0], [-1, 0])],
    *[{"label_quality_estimation": {"$mod": pair}} for pair in ([1, 0], [2, 0], [5, 2])],
    {"width": {"$not": {"$mod": [3, 0]}}},
    {"histogram.0": {"$mod": [2, 1]}},
    {"histogram": {"$elemMatch": {"$elemMatch": {"$mod": [2, 1]}}}},
    {"url": {"$mod": [2, 1]}},
    # $regex
    {"url": {"$regex": "^http://a"}},
    {"url": {"$regex": "cat", "$options": "i"}},
    {"url": {"$options": "i", "$regex": "C.t\\.jpg$"}},
    {"url": {"$not": {"$regex": "^http://a\\.[a-z]+/C"}}},
    {"url": {"$regex": ""}},
    {"url": {"$regex": "^$"}},
    {"annotators.name": {"$regex": "^h|o$"}},
    {"annotators": {"$elemMatch": {"name": {"$regex": "^y"}, "model": {"$not": {"$regex": "2"}}}}},
    {"object_analysis": {"$elemMatch": {"$elemMatch": {"classname": {"$regex": "^teddy .e"}}}}},
    {"object_analysis.0.0.classname": {"$regex": "[ct]a"}},
    {"width": {"$regex": "1"}},
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
