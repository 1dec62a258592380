"""Made-up samples that look like a crawl's, the same for the same seed.

What is drawn from what: classes by how often they stand in COCO's training set, up to three of them in a picture; the
number of boxes geometrically, 0 to 30; sizes half from those that are common on the web, half log-uniformly from 60 to
3,600 pixels; hosts by Zipf's law within every 40,000 rows, in the order of their names. Numbers are drawn by NumPy, a
thousand rows at once; texts and hashes are made by Spark.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import LongType, StringType, StructField, StructType

from cortex_spark.coco import CLASSES
from cortex_spark.outcomes import OK
from cortex_spark.schema import ATTEMPTS, SAMPLE

#: Instances of each class in COCO's train2017, in COCO's order.
_INSTANCES: Final = (
    *(262465, 7113, 43867, 8725, 5135, 6069, 4571, 9973, 10759, 12884, 1865, 1983, 1285, 9838, 10806, 4768),
    *(5508, 6587, 9509, 8147, 5513, 1294, 5303, 5131, 8720, 11431, 12354, 6496, 6192, 2682, 6646, 2685),
    *(6347, 9076, 3276, 3747, 5543, 6126, 4812, 24342, 7913, 20650, 5479, 7770, 6165, 14358, 9458, 5851),
    *(4373, 6399, 7308, 7852, 2918, 5821, 7179, 6353, 38491, 5779, 8652, 4192, 15714, 4157, 5805, 4970),
    *(2262, 5703, 2855, 6434, 1673, 3334, 225, 5610, 2637, 24715, 6334, 6613, 1481, 4793, 198, 1954),
)
Array: TypeAlias = "pa.Array[Any]"

_BLOCK: Final = 1_000  # rows that are drawn at once
_MOST_BOXES: Final = 30
_HOST_BLOCK: Final = 40_000  # rows that share
_BLOCK_HOSTS: Final = 2_000  # hosts: the largest has 9% of the block's rows, the smallest two
_LETTERS: Final = 5  # of a host's name, in which names are in order

_WIDTHS: Final = (150, 300, 320, 480, 600, 640, 768, 800, 1024, 1080, 1200, 1280, 1600, 1920, 2048, 3000)
_SUFFIXES: Final = ("jpg", "png", "webp", "gif")
_FOLDERS: Final = (
    *("images", "img", "media", "uploads", "assets/img", "wp-content/uploads", "static/photos", "pictures/large"),
)
_SITES: Final = ("", "-photos", "-news", "-shop", "-blog")
_WORDS: Final = (
    *("a", "the", "of", "in", "on", "and", "with", "from", "old", "new", "red", "blue", "green", "white", "black"),
    *("small", "large", "happy", "two", "three", "cat", "dog", "horse", "bird", "people", "man", "woman", "child"),
    *("street", "house", "room", "kitchen", "table", "garden", "beach", "sea", "city", "park", "car", "train", "bike"),
    *("summer", "winter", "night", "morning", "food", "cake", "pizza", "cup", "book", "photo", "picture", "view"),
)
_YEARS: Final = (np.datetime64("2019-01-01", "us"), np.datetime64("2025-01-01", "us"))

#: What is drawn; the rest follows from it.
_DRAWN_NAMES: Final = (
    *("datetime", "width", "height", "object_analysis", "label_quality_estimation", "annotators", "bytes"),
)
_WORD_NAMES: Final = ("suffix", "folder", "word", "alt_text", "source")
_DRAWN: Final = StructType(
    [
        StructField("i", LongType()),
        *(SAMPLE[name] for name in _DRAWN_NAMES),
        *(StructField(name, StringType()) for name in _WORD_NAMES),
    ]
)


def attempts(spark: SparkSession, start: int, end: int, total: int, batch: int, run: str, seed: int) -> DataFrame:
    """Rows ``start`` to ``end`` of ``total``, as the attempts of a batch: what the engine would have handed over."""
    known = {
        "run": F.lit(run),
        "batch": F.lit(batch),
        "task": F.spark_partition_id(),
        "_id": F.col("_id"),
        "attempted_at": F.current_timestamp(),
        "model": F.lit("benchmark"),
        "outcome": F.lit(OK),
        "final": F.lit(True),
        "http_status": F.lit(200),
        "final_url": F.col("url"),
        "bytes": F.col("bytes"),
        "seconds": F.lit(0.25),
        "sample": F.struct(*SAMPLE.names),
    }
    rows = samples(spark, start, end, total, seed)
    return rows.select(*(_typed(known.get(field.name, F.lit(None)), field) for field in ATTEMPTS.fields))


def samples(spark: SparkSession, start: int, end: int, total: int, seed: int) -> DataFrame:
    """Rows ``start`` to ``end`` of ``total``, as ``SAMPLE``."""
    weights = np.cumsum(_INSTANCES) / sum(_INSTANCES)

    def draw(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for block in batch["id"].to_numpy().tolist():
                drawn = _block(np.random.default_rng([seed, block]), block * _BLOCK, weights)
                first = max(start - block * _BLOCK, 0)
                yield drawn.slice(first, end - block * _BLOCK - first)

    blocks = spark.range(start // _BLOCK, -(-end // _BLOCK), 1, 2 * spark.sparkContext.defaultParallelism)
    drawn = blocks.mapInArrow(draw, _DRAWN)
    hosts = -(-total // _HOST_BLOCK) * _BLOCK_HOSTS
    place = f"cast(host_number * {26**_LETTERS}D / {hosts} as bigint)"
    letters = ", ".join(f"char(97 + {place} div {26**power} % 26)" for power in reversed(range(_LETTERS)))
    site = f"element_at(array({', '.join(map(repr, _SITES))}), 1 + cast(pmod(host_number, {len(_SITES)}) as int))"
    within = f"pow({_BLOCK_HOSTS}, i % {_HOST_BLOCK} / {_HOST_BLOCK})"
    rows = drawn.withColumn(
        "host_number", F.expr(f"i div {_HOST_BLOCK} * {_BLOCK_HOSTS} + cast({within} as bigint) - 1")
    )
    rows = rows.withColumn("host", F.expr(f"concat({letters}, {site}, '.example')")).withColumn(
        "url",
        F.expr(
            "concat('https://', host, '/', folder, '/', year(datetime), '/', word, '-', lower(hex(i)), '.', suffix)"
        ),
    )
    known = {
        "histogram": "NULL",  # no filter reads it, and it would be half of the bytes
        "_id": "substring(sha2(url, 256), 1, 32)",
        "type": "'image'",
        "hash": f"sha2(concat('{seed} ', i), 256)",
        "object_analysis_processed": "object_analysis IS NOT NULL",
        "pose_estimation_processed": "false",
        "face_analysis_processed": "false",
        "format": "if(suffix = 'jpg', 'jpeg', suffix)",
        "page_url": "concat('https://', host, '/articles/', i div 7, '.html')",
        "crawl": "concat('CC-MAIN-', year(datetime), '-', lpad(weekofyear(datetime), 2, '0'))",
    }
    return rows.select(*(_typed(F.expr(known.get(field.name, field.name)), field) for field in SAMPLE.fields))


def _block(dice: np.random.Generator, start: int, weights: np.ndarray) -> pa.RecordBatch:
    """The next ``_BLOCK`` rows, as ``_DRAWN``."""
    count = _BLOCK
    width = np.where(
        dice.random(count) < 0.5, dice.choice(_WIDTHS, count), (60 * 60 ** dice.random(count)).astype(int)
    ).astype(np.int32)
    height = np.maximum(1, width * (0.5 + dice.random(count))).astype(np.int32)
    boxes = np.minimum(_MOST_BOXES, -5 * np.log(1 - dice.random(count))).astype(int)
    # One in fifty was only measured; three in a hundred a person has looked at, and half of the boxes are left.
    luck = dice.random(count)
    measured, looked_at = luck < 0.02, (luck >= 0.02) & (luck < 0.05)
    first, second = _boxes(dice, boxes, width, height, weights)
    entries = pa.concat_arrays([first, second])
    entry = np.stack([np.arange(count) + count, np.arange(count)], 1)
    kept = np.stack([looked_at, ~measured], 1)
    offsets = np.concatenate([[0], np.cumsum(kept.sum(1))])
    people = pa.array([{"name": "person"}, {"name": "yolo11n", "model": "made up", "settings": "conf=0.25"}])
    annotators = people.take(pa.array(np.tile([0, 1], count)[kept.ravel()], pa.int64()))
    quality = 1 - dice.random(count) ** 2
    area = width.astype(np.int64) * height
    span = (_YEARS[1] - _YEARS[0]).astype(int)

    def words(values: tuple[str, ...], among: np.ndarray) -> Array:
        return pa.array(values).take(pa.array(among, pa.int64()))

    alt = [words(_WORDS, dice.integers(0, len(_WORDS), count)) for _ in range(4)]
    alt_text = pc.binary_join_element_wise(*alt, pa.array([" "] * count))
    columns: dict[str, Any] = {
        "i": np.arange(start, start + count),
        "datetime": _YEARS[0] + dice.integers(0, span, count),
        "width": width,
        "height": height,
        "object_analysis": _lists(offsets, entries.take(pa.array(entry.ravel()[kept.ravel()], pa.int64())), measured),
        "label_quality_estimation": pa.array(quality, mask=dice.random(count) < 0.05),
        "annotators": _lists(offsets, annotators, measured),
        "bytes": (area * (0.05 + 0.3 * dice.random(count))).astype(np.int64),
        "suffix": words(_SUFFIXES, (dice.random(count) ** 4 * 4).astype(int)),
        "folder": words(_FOLDERS, dice.integers(0, len(_FOLDERS), count)),
        "word": words(_WORDS, dice.integers(0, len(_WORDS), count)),
        "alt_text": pc.if_else(pa.array(dice.random(count) < 0.45), None, alt_text),
        "source": words(("commoncrawl", "public"), (dice.random(count) < 0.03).astype(int)),
    }
    schema = to_arrow_schema(_DRAWN, timezone="UTC")
    arrays = [_array(columns[field.name], field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _boxes(
    dice: np.random.Generator, boxes: np.ndarray, width: np.ndarray, height: np.ndarray, weights: np.ndarray
) -> tuple[Array, Array]:
    """The boxes of each picture by falling confidence, and the first half of them."""
    of = np.repeat(np.arange(len(boxes)), boxes)
    place = np.arange(len(of)) - np.repeat(np.cumsum(boxes) - boxes, boxes)
    classes = np.searchsorted(weights, dice.random((len(boxes), 3)), side="right")
    slot = np.searchsorted([0.5, 0.8], dice.random(len(of)))
    corners = {}
    for axis, side in (("x", width[of]), ("y", height[of])):
        size = np.maximum(1, side * dice.random(len(of)) ** 2).astype(np.int32)
        corners[f"{axis}1"] = (dice.random(len(of)) * (side - size)).astype(np.int32)
        corners[f"{axis}2"] = corners[f"{axis}1"] + size
    sure = 0.25 + 0.74 * (boxes[of] - place - dice.random(len(of))) / boxes[of]
    fields = {name: corners[name] for name in ("x1", "y1", "x2", "y2")} | {
        "classname": pa.array(CLASSES).take(pa.array(classes[of, slot], pa.int64())),
        "confidence": sure.round(4),
    }
    found = pa.StructArray.from_arrays([pa.array(values) for values in fields.values()], list(fields))
    half = (boxes + 1) // 2
    return (
        _lists(np.concatenate([[0], np.cumsum(boxes)]), found),
        _lists(np.concatenate([[0], np.cumsum(half)]), found.filter(pa.array(place < half[of]))),
    )


def _lists(offsets: np.ndarray, values: Any, null: np.ndarray | None = None) -> Array:
    mask = None if null is None else pa.array(null)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values), mask=mask)


def _array(values: Any, kind: pa.DataType) -> Array:
    return (values if isinstance(values, pa.Array) else pa.array(values)).cast(kind)


def _typed(column: Column, field: StructField) -> Column:
    return column.cast(field.dataType).alias(field.name)
