"""DuckDB answers what Spark answers, and MongoDB."""

import json

from cortex_spark.query.page import page

from .conftest import Stored
from .test_judge import CASES, compare, generate, in_mongo

#: Of the table, before other tests add to it.
VERSION = 1


def as_pages(stored: Stored, texts: list[str]) -> list[frozenset[str]]:
    """All the ids that walking through the pages finds, no two the same."""
    answers = []
    for text in texts:
        ids: list[str] = []
        cursor, length = None, 0
        while cursor or not ids:
            found = page(stored.warehouse.root, text, cursor=cursor, fields=["_id"], version=VERSION)
            ids += [document["_id"] for document in found.data]
            cursor, length = found.cursor, found.length
            if cursor is None:
                break
        assert len(ids) == len(set(ids)) == length, text
        answers.append(frozenset(ids))
    return answers


def test_cases(stored: Stored) -> None:
    texts = [json.dumps(case) for case in CASES]
    compare(texts, [in_mongo(stored, text) for text in texts], as_pages(stored, texts))


def test_generated(stored: Stored) -> None:
    texts = generate(300, derandomize=True)
    compare(texts, [in_mongo(stored, text) for text in texts], as_pages(stored, texts))
