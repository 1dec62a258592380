"""Patterns find what MongoDB's find, in bounded time, and skip row groups where they begin with plain text."""

from collections.abc import Iterator
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pymongo
import pytest
from hypothesis import strategies as st
from pymongo.collection import Collection
from pyspark.sql import SparkSession

from cortex_spark.query.mongo import compile_query, mongo
from cortex_spark.query.regex import PatternError, translate
from cortex_spark.query.tree import And, Operand, Regex, Test

from .conftest import Stored
from .judge import draw

LETTERS = "abcABkKsS 01_-.\n\n\t\x0b\x0c\r/:é\u212a\u017f\u00a0\u0085ßÉ[]^$\\(){}*\u2028\x00\x7f"
ATOMS = [
    *(" ", "\\ ", "[ é]"),
    *r"""
    a b c k s A é ß \d \w \s \S \W \D \b . \. \n \t \x41 \x{e9} \x{212a} \x{17f} \- -
    ] } \\ \/ / \_ \A \z \Z ^ $ : () (?:)
    [abc] [^a] [a-c] [^\s] [\S] [\w-] []a] [^]a] [a\]] [$^] [[] [k] [^k] [j-l] [^s] [\x{17f}] [\b] [a-] [-a] [\d\s]
    [^\D] [^\S] [^\W] [é] [à-ý] [^é] [\x{0}-\x{7f}] [^\n] [--/] [a\-c] \Qa.\E \a \f \r \é
    [[:alpha:]] [[:^alpha:]] [[:space:]] [[:punct:]] [[:upper:]] [[:lower:]b] [[:word:]] [[:print:]] [[:graph:]]
    [[:cntrl:]] [[:ascii:]] [[:xdigit:]] [[:^upper:]] [^[:lower:]]
    """.split(),  # noqa: SIM905
]
QUANTIFIERS = [*[""] * 6, "*", "+", "?", "*?", "+?", "??", "{2}", "{1,2}", "{0,1}", "{2,}", "{0}", "{1,2}?"]
GROUPS = ["(", "(?:", "(?i:", "(?-i:", "(?s:", "(?m:", "(?is-m:"]


def patterns() -> st.SearchStrategy[tuple[str, str]]:
    """A pattern and its options."""
    quantifier = st.sampled_from(QUANTIFIERS)
    atom = st.tuples(st.sampled_from(ATOMS), quantifier).map("".join)

    def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        group = st.tuples(st.sampled_from(GROUPS), inner, st.just(")"), quantifier).map("".join)
        either = st.tuples(inner, inner).map("|".join)
        return st.one_of(st.lists(st.one_of(inner, group), min_size=1, max_size=4).map("".join), group, either)

    ends = st.sampled_from(["", "", "$"])
    whole = st.tuples(st.sampled_from(["", "", "^", "(?i)"]), st.recursive(atom, grown, max_leaves=8), ends).map(
        "".join
    )
    return st.tuples(whole, st.sampled_from(["", "", "i", "m", "s", "ims"]))


@pytest.fixture(scope="module")
def texts() -> list[str]:
    drawn = draw(st.text(LETTERS, min_size=1, max_size=6), 250)
    return list(dict.fromkeys(["", "\n", "a", "a\n", "\na", "a\n\n", "k", "\u212a", "\u017f", "É", *drawn]))


@pytest.fixture(scope="module")
def collection(mongod: pymongo.MongoClient[Any], texts: list[str]) -> Iterator[Collection[Any]]:
    made = mongod.cortex.texts
    made.insert_many([{"_id": number, "text": text} for number, text in enumerate(texts)])
    yield made
    made.drop()


def found(pattern: str, options: str, texts: list[str]) -> list[str]:
    """By the two libraries in which RE2 is: Arrow (of Spark's back end), and DuckDB as its back end asks."""
    made = translate(pattern, options)
    begun = [text for text in texts if text.startswith(made.prefix)]
    if made.re2 is None:
        return begun
    matches = pc.match_substring_regex(pa.array(begun, pa.string()), made.re2).to_pylist()
    sql = "SELECT regexp_matches(text, $2::VARCHAR) FROM (SELECT unnest($1::VARCHAR[]) AS text)"
    in_duckdb = [matching for (matching,) in duckdb.execute(sql, [begun, made.re2]).fetchall()]
    assert in_duckdb == matches, (pattern, options)
    return [text for text, matching in zip(begun, matches, strict=True) if matching]


def judge(collection: Collection[Any], texts: list[str], drawn: list[tuple[str, str]]) -> int:
    """How many patterns were taken; each finds what MongoDB's does."""
    taken = 0
    wrong = []
    for pattern, options in drawn:
        try:
            mine = found(pattern, options, texts)
        except PatternError:
            continue
        taken += 1
        right = collection.find({"text": {"$regex": pattern, "$options": options}}).sort("_id")
        if [one["text"] for one in right] != mine:
            wrong.append((pattern, options))
    assert wrong == []
    return taken


def test_patterns(collection: Collection[Any], texts: list[str]) -> None:
    drawn = draw(patterns(), 1_000)
    assert judge(collection, texts, drawn) > len(drawn) / 2


@pytest.mark.parametrize("pattern", ["(?<a>x)(?P<a>y)", f"(?<{'a' * 33}>x)"])
def test_names_of_groups(collection: Collection[Any], pattern: str) -> None:
    with pytest.raises(pymongo.errors.OperationFailure):
        collection.find_one({"text": {"$regex": pattern}})
    with pytest.raises(PatternError, match="name is there twice, or has over 32 characters, at character"):
        translate(pattern)


def test_where_two_versions_of_re2_differ(collection: Collection[Any], texts: list[str]) -> None:
    patterns = ["(?-i:a)|(?i:a)", "a|[Aa]", "[a-c]|(?i:a)", "^(?:)", "^()b", "^(?:){1}"]
    assert judge(collection, texts, [(pattern, "") for pattern in patterns]) == len(patterns)


@pytest.mark.soak
def test_patterns_anew(collection: Collection[Any], texts: list[str]) -> None:
    judge(collection, texts, draw(patterns(), 10_000, derandomize=False))


@pytest.mark.soak
def test_other_cases_of_every_letter(mongod: pymongo.MongoClient[Any]) -> None:
    letters = [chr(number) for number in range(0x110000) if not 0xD800 <= number < 0xE000]
    cased = [one for one in letters if one.isalpha() and {one.lower(), one.upper(), one.casefold()} != {one}]
    collection = mongod.cortex.letters
    collection.insert_many([{"_id": number, "text": letter} for number, letter in enumerate(cased)])
    judge(collection, cased, [(letter, "i") for letter in cased])
    collection.drop()


@pytest.mark.parametrize(
    ("pattern", "options", "re2", "prefix"),
    [
        ("^http://a\\.", "", None, "http://a."),
        ("^cat.*", "", None, "cat"),
        ("^ca+t", "", "\\Aca+t", "c"),
        ("^c?at", "", "\\Ac?at", ""),
        ("^a|b", "", "(?:\\Aa|b)", ""),
        ("^cat", "m", "(?m:^)cat", ""),
        ("^1cat", "i", "\\A1(?:C|c)(?:A|a)(?:T|t)", "1"),
        ("cat$", "", "cat\\n?\\z", ""),
        ("a|b$", "", "(?:a|b\\n?\\z)", ""),
        ("\\s", "", "[\\t\\n\\x{b}\\f\\r ]", ""),
        ("s", "i", "[Ss\u017f]", ""),
    ],
)
def test_translated(pattern: str, options: str, re2: str | None, prefix: str) -> None:
    made = translate(pattern, options)
    assert (made.re2, made.prefix) == (re2, prefix)


def test_time_is_bounded(spark: SparkSession) -> None:
    """What takes a backtracking engine years; the test's time limit is the assertion."""
    evil = "a" * 50_000 + "!"
    rows = spark.createDataFrame([(evil,)], "url string")
    assert rows.filter(mongo({"url": {"$regex": "(a+)+$"}})).count() == 0
    assert rows.filter(mongo({"url": {"$regex": "^(a|aa)+!$"}})).count() == 1


def test_prefixes_skip(stored: Stored) -> None:
    """Statistics are asked about the text that a pattern begins with, and no Python runs for that alone."""
    operand = Operand(("host",), stored.samples.schema["host"].dataType)
    bounds = (Test(operand, "gte", "a.ex"), Test(operand, "lt", "a.ey"))
    assert compile_query({"host": {"$regex": "^a\\.ex"}}).tree == And(bounds)
    both = compile_query({"host": {"$regex": "^a\\.ex.*e$"}}).tree
    assert both == And((*bounds, Regex(operand, "\\Aa\\.ex[^\\n]*e\\n?\\z")))
    plan = stored.samples.filter(mongo({"host": {"$regex": "^a\\.ex"}}))._jdf.queryExecution().executedPlan().toString()
    assert "GreaterThanOrEqual(host,a.ex), LessThan(host,a.ey)" in plan
    assert "Python" not in plan
