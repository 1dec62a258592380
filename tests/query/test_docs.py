"""Every block of docs/query.md is run; the training loop in ``tests/export/test_images.py``."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import functions as F
from typer.testing import CliRunner

from cortex_spark.cli import app
from cortex_spark.query.errors import QueryError
from cortex_spark.query.mongo import mongo

from .conftest import ROWS, Stored
from .judge import judge

PAGE = (Path(__file__).parents[2] / "docs" / "query.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_filters(stored: Stored) -> None:
    filters = blocks("json")
    assert len(filters) == 10
    expected = judge(stored, filters)
    assert [text for text, ids in zip(filters, expected, strict=True) if not 0 < len(ids) < ROWS] == []


def test_sql_and_python(stored: Stored) -> None:
    """The SQL examples find what the first filter finds."""
    spark = stored.samples.sparkSession
    whole = stored.warehouse.root + "-whole"  # as `cortex label` writes it: no annotator's entry is NULL
    entries = F.exists("object_analysis", lambda boxes: boxes.isNull())
    stored.samples.filter(~F.coalesce(entries, F.lit(False))).write.format("delta").save(f"{whole}/samples")
    texts = [sql.replace("`/data/warehouse/", f"`{whole}/") for sql in blocks("sql")]
    exists, flattened, classes = [spark.sql(text).collect() for text in texts]
    scope: dict[str, Any] = {}
    for code in blocks("python"):
        if "torch" not in code:
            exec(code.replace('"/data/warehouse"', repr(whole)), scope)
    found = {row["_id"] for row in scope["found"].collect()}
    assert 0 < len(found) == scope["how_many"] < ROWS
    assert {row["_id"] for row in exists} == {row["_id"] for row in flattened} == found
    assert sum(row["cats"] for row in scope["hosts"].collect()) == len(found)
    assert {row["classname"] for row in classes} >= {"cat", "dog", "person"}


def test_commands(stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = blocks("console")
    told = []
    for line in block.splitlines():
        words = shlex.split(line.removeprefix("$ cortex "), comments=True)
        told.append(CliRunner().invoke(app, [*words, "--warehouse", stored.warehouse.root], catch_exceptions=False))
    assert [one.exit_code for one in told] == [0, 0, 0]
    assert "page 1 of" in told[0].stdout
    answer = json.loads(told[1].stdout)
    assert (answer["page"], len(answer["data"])) == (2, answer["length"] - 25)
    manifest = json.loads((tmp_path / "shards" / "_manifest.json").read_text())
    assert manifest["rows"] + sum(manifest["left_out"].values()) == answer["length"]


def test_the_error_that_is_quoted() -> None:
    with pytest.raises(QueryError) as refused:
        mongo({"object_analysis": {"$elemMatch": {"$foo": 1}}})
    assert str(refused.value) in PAGE


def test_the_table_of_operators_is_whole() -> None:
    from cortex_spark.query.parse import _LOGICAL, _OPERATORS

    table = "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))
    assert set(re.findall(r"\$\w+", table)) == {*_LOGICAL, *_OPERATORS}
    assert json.loads(blocks("json")[0])
