"""Rows to export, and what an export left in its folder."""

import hashlib
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from cortex_spark.schema import SAMPLES
from cortex_spark.table import Warehouse
from cortex_spark.table.derived import with_derived

ROWS = 1_200
FIRST = datetime(2023, 1, 4, 9, 58, 14, 82248, UTC)


def make_row(number: int) -> dict[str, Any]:
    dice = random.Random(number)
    box = {"x1": 1, "y1": 2, "x2": 30, "y2": 40, "classname": dice.choice(["cat", "dog"]), "confidence": dice.random()}
    return {
        "_id": hashlib.sha256(str(number).encode()).hexdigest()[:32],
        "url": f"http://a.example/{number}.jpg",
        "datetime": FIRST + timedelta(microseconds=number),
        "width": number,
        "hash": hashlib.sha256(b"").hexdigest(),
        "source": "private" if number % 10 == 0 else "commoncrawl",
        "object_analysis": [[box] * dice.randint(0, 3)],
        "histogram": [[number] * 32] * 3,
        "bytes": None if number % 7 == 0 else 2**40 + number,
    }


@pytest.fixture(scope="session")
def table(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    warehouse = Warehouse(spark, str(tmp_path_factory.mktemp("export") / "warehouse"))
    rows = [make_row(number) for number in range(ROWS)]
    frame = spark.createDataFrame(pa.Table.from_pylist(rows, to_arrow_schema(SAMPLES, timezone="UTC")))
    warehouse.append_once(with_derived(frame).repartition(3), "samples", app_id="test", version=0)
    return warehouse


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
