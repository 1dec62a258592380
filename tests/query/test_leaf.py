"""Bounds that files are skipped by."""

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from cortex_spark.query.mongo import mongo


@pytest.fixture(scope="module")
def zeros(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> DataFrame:
    """In one file 50 times a negative zero and nothing else, in one a positive one."""
    path = str(tmp_path_factory.mktemp("zeros") / "parquet")
    for zero in ("-0.0D", "0.0D"):
        rows = spark.range(0, 50, 1, 1).selectExpr(f"{zero} AS label_quality_estimation")
        rows.write.mode("append").parquet(path)
    assert len(list(Path(path).glob("*.parquet"))) == 2
    return spark.read.parquet(path)


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        (0, 100),
        (-0.0, 100),
        ({"$in": [0, 1.5]}, 100),
        ({"$gte": 0}, 100),
        ({"$lte": 0}, 100),
        ({"$gte": -0.0}, 100),
        ({"$lte": -0.0}, 100),
        ({"$ne": 0}, 0),
        ({"$gt": -0.0}, 0),
        ({"$lt": 0}, 0),
        ({"$not": {"$gte": 0}}, 0),
    ],
)
def test_both_zeros_are_zero(zeros: DataFrame, condition: Any, rows: int) -> None:
    """Parquet's dictionaries tell them apart, and row groups are skipped by those."""
    assert zeros.filter(mongo({"label_quality_estimation": condition})).count() == rows
