"""The engine as a function of Spark SQL, for people who label a column of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import pandas as pd
from pyspark import TaskContext
from pyspark.sql import SparkSession
from pyspark.sql.pandas.functions import pandas_udf
from pyspark.sql.types import StringType, StructField, StructType

from cortex_spark.detect import Model
from cortex_spark.engine.download import EVER, Row
from cortex_spark.engine.journal import Journal
from cortex_spark.engine.pipeline import EngineConfig, Pipeline, Visits
from cortex_spark.engine.worker import attempt_number, on_device
from cortex_spark.fetch import HostState
from cortex_spark.schema import PLANS, SAMPLE
from cortex_spark.table import Warehouse
from cortex_spark.table.forgotten import Memory, recall, refused_hashes

_FIELDS: Final = (
    "width",
    "height",
    "hash",
    "format",
    "bytes",
    "histogram",
    "object_analysis",
    "annotators",
)

#: What ``analyze`` returns: how the attempt ended, and what was found (NULL unless ``outcome`` is ``ok``).
ANALYSIS: Final = StructType(
    [StructField("outcome", StringType()), StructField("detail", StringType()), *(SAMPLE[name] for name in _FIELDS)]
)


def register_analyze(spark: SparkSession, model: Model, config: EngineConfig, name: str = "analyze") -> None:
    """Make ``name(url)`` known to Spark SQL: it downloads and labels the picture at ``url``; NULL in, NULL out.

    Downloads differ from one try to the next, so the function is not deterministic: each mention of it in a query is a
    download of its own. Name its result once and take the fields from that::

        SELECT url, a.width, a.object_analysis FROM (SELECT url, analyze(url) AS a FROM links)

    What was taken down from the warehouse, or is refused, by the time of this call ends as ``forgotten``. The limits of
    a host hold within a task only, and nothing is remembered of hosts afterwards: have all URLs of a host in one task,
    by ``FROM (SELECT * FROM links DISTRIBUTE BY parse_url(url, 'HOST'))``, and no labelling job beside it.

    Raises:
        CortexError: the list of refused hashes is unusable.
    """
    warehouse = Warehouse(spark, config.root)
    # There is no later batch: a host's delay takes as long as it takes.
    patient = config.settings.model_copy(update={"host_seconds": EVER})
    config = replace(config, settings=patient, task_seconds=float("inf"))
    application = spark.sparkContext.applicationId
    shipped = spark.sparkContext.broadcast((model, recall(warehouse), refused_hashes(warehouse, config.settings)))

    def analyze(columns: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        model, memory, refused = shipped.value
        hosts: dict[str, HostState] = {}
        for number, urls in enumerate(columns):
            with Journal(_journal_key(application, model, urls, number)) as journal:
                attempt = attempt_number()
                visits = Visits(hosts=hosts, retried=attempt > 0)
                pipeline = Pipeline(on_device(config), model, journal, attempt, visits=visits, refused=refused)
                yield _frame(urls, pipeline, memory, hosts)
                journal.remove()

    # Spark reads from the type hints what kind of function this is; its own stubs want it said twice.
    function = pandas_udf(analyze, ANALYSIS)  # type: ignore[call-overload]
    spark.udf.register(name, function.asNondeterministic())


def _journal_key(application: str, model: Model, urls: pd.Series, number: int) -> str:
    """A retried task gets the same columns in the same order; another function or model has a file of its own."""
    context = TaskContext.get()
    assert context is not None  # Spark calls this in tasks only
    asked = "\n".join([application, model.identity, *map(str, urls)])
    return f"udf-{context.stageId()}-{context.partitionId()}-{number}-{_digest(asked)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _frame(urls: pd.Series, pipeline: Pipeline, memory: Memory, hosts: dict[str, HostState]) -> pd.DataFrame:
    """A row of ANALYSIS for each of ``urls``; what is to be remembered of their hosts goes into ``hosts``."""
    blank = dict.fromkeys(PLANS.names)
    nothing = dict.fromkeys(ANALYSIS.names)
    gone = nothing | {"outcome": "forgotten"}
    asked = dict.fromkeys(url for url in urls if url is not None)  # each once
    found = {url: gone for url in asked if memory.has_url(url)}
    rows: list[Row] = [{**blank, "_id": _digest(url), "url": url, "tries": 0} for url in asked if url not in found]
    by_id = {row["_id"]: row["url"] for row in rows}
    for attempt in pipeline.run(rows):
        if attempt["host_state"] is not None:
            hosts[attempt["host_state"]["host"]] = HostState.from_row(attempt["host_state"])
        url = by_id[attempt["_id"]]
        if memory.has_url(attempt["final_url"]):  # where a redirect led
            found[url] = gone
            continue
        sample = attempt["sample"] or {}
        found[url] = {
            "outcome": attempt["outcome"],
            "detail": attempt["detail"],
            **{field: sample.get(field) for field in _FIELDS},
        }
    return pd.DataFrame([found.get(url, nothing) for url in urls], columns=ANALYSIS.names)
