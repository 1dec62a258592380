"""The tables of a warehouse, as Spark schemas.

``samples`` is a published contract: the columns down to ``label_quality_estimation`` keep their names and meanings.
In every column NULL means unknown, never zero. Times are UTC.
"""

from __future__ import annotations

from typing import Final

from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DataType,
    DoubleType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from cortex_spark.coco import CLASSES, field_name


def _struct(**columns: DataType) -> StructType:
    return StructType([StructField(name, kind) for name, kind in columns.items()])


_STRING, _INT, _LONG, _DOUBLE, _BOOL, _TIME = (
    StringType(),
    IntegerType(),
    LongType(),
    DoubleType(),
    BooleanType(),
    TimestampType(),
)

#: One detected object: integer corners in pixels of the original picture (after EXIF rotation), x to the right, y down.
BOX: Final = _struct(x1=_INT, y1=_INT, x2=_INT, y2=_INT, classname=_STRING, confidence=_DOUBLE)

#: Who made the boxes of the entry of ``object_analysis`` at the same index.
ANNOTATOR: Final = _struct(name=_STRING, model=_STRING, settings=_STRING)

#: What ``object_analysis`` says of one class; see ``table.derived``.
OF_CLASS: Final = _struct(
    count=_INT,  # boxes of the annotator that has most of them; 0: none
    share=_DOUBLE,  # of the picture's area that the largest box covers, 0 to 1; 0: none
    confidence=_DOUBLE,  # the highest; NULL: no box has one
)

#: What was discovered, one row per ``_id``.
IMAGE_URLS: Final = _struct(
    _id=_STRING,  # hash of the normalised URL, see sources.urls
    url=_STRING,  # as seen, and as fetched
    host=_STRING,
    source=_STRING,  # commoncrawl, public, private, crowdsourced, synthetic, api
    reference=_STRING,  # img, srcset, source, og:image, link, list, file
    page_url=_STRING,
    alt_text=_STRING,
    crawl=_STRING,
    discovered_at=_TIME,
    directives=ArrayType(_STRING),  # the page's own robots directives, lower case, sorted
    url_rule=_INT,  # version of the rule that made _id
)

#: The data set, one row per ``_id``. The order is the order in which clients see the fields.
SAMPLES: Final = _struct(
    _id=_STRING,
    url=_STRING,
    datetime=_TIME,  # first seen
    type=_STRING,  # "image"
    width=_INT,
    height=_INT,
    hash=_STRING,  # sha256 of the bytes, lower-case hexadecimal
    source=_STRING,
    object_analysis_processed=_BOOL,
    pose_estimation_processed=_BOOL,
    face_analysis_processed=_BOOL,
    object_analysis=ArrayType(ArrayType(BOX)),  # one entry per annotator, each its boxes by falling confidence
    label_quality_estimation=_DOUBLE,  # 0 poor to 1 good; NULL: not judged yet
    annotators=ArrayType(ANNOTATOR),
    format=_STRING,  # jpeg, png, webp, gif, ...
    bytes=_LONG,
    histogram=ArrayType(ArrayType(_INT)),  # 3 x 32: red, green, blue; pixels per bin of 8 levels
    host=_STRING,
    page_url=_STRING,
    alt_text=_STRING,
    crawl=_STRING,
    landed_at=_TIME,
    objects=_struct(**{field_name(name): OF_CLASS for name in CLASSES}),  # NULL where object_analysis is
    rarest_class=_INT,  # index in coco.BY_RARITY of the rarest class found; 80: none of them; NULL where objects is
)

#: Columns of ``samples`` that follow from others and exist to make filters fast.
DERIVED: Final = ("objects", "rarest_class")

#: What the engine hands over of a picture; the committer adds the rest.
SAMPLE: Final = StructType([field for field in SAMPLES.fields if field.name not in ("landed_at", *DERIVED)])

#: A host's robots.txt, as it was when it was read; one per scheme and port.
ROBOTS: Final = _struct(
    origin=_STRING,  # https://example.org, with the port where it is not the scheme's own
    fetched_at=_TIME,
    status=_INT,  # HTTP status; NULL: the host did not answer
    body=_STRING,
    etag=_STRING,
    last_modified=_STRING,
)

#: What politeness has to remember of a host between batches.
HOST: Final = _struct(
    host=_STRING,
    at=_TIME,  # when it was last asked for anything
    answered_at=_TIME,  # when it last answered anything; NULL: never
    not_before=_TIME,  # when it may be asked again: Retry-After, or our own backing off
    delay=_DOUBLE,  # seconds between two requests that its robots.txt asks for
    failures=_INT,  # visits in a row without an answer
    robots=ArrayType(ROBOTS),
)

#: One row per visit of a batch to a host; the latest of a host counts.
HOSTS: Final = StructType([*HOST.fields, StructField("run", _STRING), StructField("batch", _INT)])

#: One row per attempt, append-only.
ATTEMPTS: Final = _struct(
    run=_STRING,
    batch=_INT,
    task=_INT,
    _id=_STRING,
    attempted_at=_TIME,
    model=_STRING,  # identity of model and settings, see detect.models
    outcome=_STRING,  # see cortex_spark.outcomes
    final=_BOOL,
    retry_at=_TIME,  # when a outcome that is not final may be tried again
    detail=_STRING,
    http_status=_INT,
    final_url=_STRING,
    etag=_STRING,
    last_modified=_STRING,
    bytes=_LONG,
    seconds=_DOUBLE,
    host_state=HOST,  # on the last attempt of a host in its batch
    sample=SAMPLE,  # for ok
)

#: A run's work, written down before it starts: which URL goes into which batch and which task.
PLANS: Final = _struct(
    run=_STRING,
    batch=_INT,
    task=_INT,
    _id=_STRING,
    url=_STRING,
    host=_STRING,
    source=_STRING,
    page_url=_STRING,
    alt_text=_STRING,
    crawl=_STRING,
    discovered_at=_TIME,
    tries=_INT,  # attempts before this one
    expected_hash=_STRING,  # the sample's hash, where it was labelled before
    directives=ArrayType(_STRING),  # the page's own
    location=_STRING,  # where the URL was redirected to, on another host, and is fetched from
    hops=_INT,  # such redirects so far
    etag=_STRING,  # of the earlier visit, where this one only asks whether the picture has changed
    last_modified=_STRING,
)

#: Who works on a run: an event per row, the latest of a run counts.
RUNS: Final = _struct(
    run=_STRING,
    at=_TIME,
    event=_STRING,  # open, taken_over, closed
    owner_host=_STRING,
    owner_pid=_INT,
    owner_started=_DOUBLE,  # the process's start, seconds since the epoch: process numbers are used again
    model=_STRING,
)

#: What was asked to be taken down, as hashes: the table remembers without naming.
FORGOTTEN: Final = _struct(
    kind=_STRING,  # url, host, domain, hash, page; removed: all that stands here is gone from the other tables
    value=_STRING,  # url: the _id; hash: the picture's sha256; host, domain, page: sha256 of the name, hexadecimal
    at=_TIME,
    reason=_STRING,
)

TABLES: Final[dict[str, StructType]] = {
    "image_urls": IMAGE_URLS,
    "samples": SAMPLES,
    "attempts": ATTEMPTS,
    "plans": PLANS,
    "runs": RUNS,
    "hosts": HOSTS,
    "forgotten": FORGOTTEN,
}
