"""Rows with boxes of all kinds, what the table has to derive from them, and how they get into it."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructType

from cortex_spark.coco import BY_RARITY, CLASSES, field_name
from cortex_spark.schema import ATTEMPTS, DERIVED, SAMPLES
from cortex_spark.table import Warehouse

Row = dict[str, Any]

NAN = float("nan")
#: Few, so that a picture often has several boxes of one; the last two are none of COCO's.
_NAMES = ("person", "cat", "hot dog", "hair drier", "toothbrush", "unicorn", "Cat")
_CONFIDENCES = (0.0, -0.0, 0.25, 0.5, 0.9, 1.0, NAN, math.inf, -math.inf)
_CORNERS = (-5, 0, 3, 10, 64, 100, 101, 2**31 - 1, -(2**31))


def some_rows(count: int, seed: int = 1) -> list[Row]:
    """Rows in which everything that may be NULL is NULL somewhere, down to the fields of boxes."""
    dice = random.Random(seed)

    def maybe(value: Any, chance: float = 0.06) -> Any:
        return None if dice.random() < chance else value

    def box() -> Row:
        corners = {name: maybe(dice.choice(_CORNERS), 0.02) for name in ("x1", "y1", "x2", "y2")}
        name, confidence = maybe(dice.choice(_NAMES)), maybe(dice.choice(_CONFIDENCES))
        return {**corners, "classname": name, "confidence": confidence}

    def boxes() -> list[Row | None]:
        return [maybe(box()) for _ in range(dice.randint(0, 4))]

    return [
        {
            "_id": f"{number:032x}",
            "width": maybe(dice.choice((0, 1, 100, 101, 2**31 - 1, -1))),
            "height": maybe(dice.choice((1, 100, 2**31 - 1))),
            "object_analysis": maybe([maybe(boxes()) for _ in range(dice.randint(0, 3))]),
        }
        for number in range(count)
    ]


def oracle(row: Row) -> Row:
    """The derived columns of a row: the definition, in Python."""
    if row.get("object_analysis") is None:
        return {"objects": None, "rarest_class": None}
    annotators = [[box for box in boxes if box is not None] for boxes in row["object_analysis"] if boxes is not None]
    objects = {}
    for name in CLASSES:
        by_annotator = [[box for box in boxes if box.get("classname") == name] for boxes in annotators]
        found = [box for boxes in by_annotator for box in boxes]
        known = [box["confidence"] for box in found if box.get("confidence") is not None]
        objects[field_name(name)] = {
            "count": max(map(len, by_annotator), default=0),
            "share": _share(found, row.get("width"), row.get("height")),
            "confidence": max((value for value in known if not math.isnan(value)), default=None),
        }
    ranks = [rank for rank, name in enumerate(BY_RARITY) if objects[field_name(name)]["count"]]
    return {"objects": objects, "rarest_class": min(ranks, default=len(BY_RARITY))}


def _share(found: Sequence[Row], width: int | None, height: int | None) -> float | None:
    if not found:
        return 0.0
    if not (width and height) or width < 0 or height < 0:
        return None
    areas: list[float] = []
    for box in found:
        if any(box.get(name) is None for name in ("x1", "y1", "x2", "y2")):
            return None
        x1, x2 = (min(max(box[name], 0), width) for name in ("x1", "x2"))
        y1, y2 = (min(max(box[name], 0), height) for name in ("y1", "y2"))
        areas.append(float(max(x2 - x1, 0)) * max(y2 - y1, 0))
    return max(areas) / (float(width) * height)


def to_frame(spark: SparkSession, rows: list[Row]) -> DataFrame:
    """``rows`` with all columns of ``samples``, NULL where they say nothing."""
    return spark.createDataFrame(pa.Table.from_pylist(rows, to_arrow_schema(SAMPLES, timezone="UTC")))


def make_old(warehouse: Warehouse) -> None:
    """Make ``samples`` as it was made before there were derived columns."""
    (
        DeltaTable.create(warehouse.spark)
        .location(warehouse.path("samples"))
        .addColumns(StructType([field for field in SAMPLES.fields if field.name not in DERIVED]))
        .property("delta.enableDeletionVectors", "false")
        .property("delta.dataSkippingStatsColumns", "width,landed_at")
        .execute()
    )


def record(warehouse: Warehouse, run: str, samples: list[Row], batch: int = 0) -> None:
    """Write down in ``attempts`` that a batch of ``run`` ended with these samples."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        {"run": run, "batch": batch, "task": 0, "_id": sample["_id"], "attempted_at": at}
        | {"outcome": "ok", "final": True, "sample": sample}
        for sample in samples
    ]
    table = pa.Table.from_pylist(rows, to_arrow_schema(ATTEMPTS, timezone="UTC"))
    warehouse.append_once(warehouse.spark.createDataFrame(table), "attempts", app_id=run, version=batch)


def sample(number: int, annotator: str | None, boxes: list[Row], *, content: str = "") -> Row:
    """What the engine hands over of picture ``number``; without an annotator it was only measured."""
    return {
        "_id": f"{number:032x}",
        "url": f"http://a.example/{number}.jpg",
        "width": 100,
        "height": 80,
        "hash": content or f"{number:064x}",
        "object_analysis_processed": annotator is not None,
        "object_analysis": None if annotator is None else [boxes],
        "annotators": None if annotator is None else [{"name": annotator, "model": "m", "settings": "{}"}],
    }


def box(classname: str, confidence: float = 0.5, corners: tuple[int, int, int, int] = (0, 0, 10, 10)) -> Row:
    """A box as detectors make them."""
    x1, y1, x2, y2 = corners
    return {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "classname": classname, "confidence": confidence}
