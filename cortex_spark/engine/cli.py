"""``cortex label``."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cortex_spark.console import err, out
from cortex_spark.errors import CortexError

if TYPE_CHECKING:
    from cortex_spark.engine.label import LabelReport
    from cortex_spark.table import Warehouse


def label(
    warehouse: Annotated[str, typer.Option(metavar="DIR", help="Folder of the tables.")] = "warehouse",
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PATH",
            help="'shipped', a .pt, a .onnx, an OpenVINO folder, a name that Ultralytics knows, or 'none' to measure "
            "only. "
            "A .pt is a pickle: loading one runs its code. "
            "Default: Ultralytics' nano detector where that is installed, else the shipped one.",
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="SQL",
            help="Only these of image_urls, as \"crawl = 'CC-MAIN-2024-22' AND host LIKE '%.org'\". "
            "(An unfinished run is finished first.)",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Label at most N URLs (and finish an unfinished run).")
    ] = None,
    retry: Annotated[
        bool,
        typer.Option(
            "--retry",
            help="Try what failed for a passing reason (timeouts, 5xx) again now, not at its time. "
            "Hosts that answered 429 or 503, or did not answer, still have theirs.",
        ),
    ] = False,
    revisit: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="DAYS", help="Ask again for pictures that were last seen so many days ago, if they changed."
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on for ever: label what comes in.")] = False,
    confidence: Annotated[float, typer.Option(min=0, max=1, help="Lowest confidence of a box.")] = 0.25,
    iou: Annotated[
        float, typer.Option(min=0, max=1, help="Overlap above which the less confident of two boxes goes.")
    ] = 0.7,
    imgsz: Annotated[
        int | None, typer.Option(min=32, help="Input size of a .pt in pixels; default: as trained.")
    ] = None,
    multi_label: Annotated[
        bool,
        typer.Option(
            "--multi-label", help="A box has every class above the confidence, as when mAP is computed, not its best."
        ),
    ] = False,
    precision: Annotated[
        Literal["auto", "f32", "bf16", "f16"],
        typer.Option(
            help="What the network computes in: bf16 on CPUs that have it (others take f32), f16 on GPUs. "
            "Default: the fastest whose boxes are as good."
        ),
    ] = "auto",
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="URLs per batch; what a kill costs is one batch. Default: 4000 per core, at least 8000.",
        ),
    ] = None,
    host_cap: Annotated[int, typer.Option(min=1, metavar="N", help="URLs of one host per batch.")] = 250,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Download, measure and label everything in image_urls that is not labelled yet.

    May be killed at any moment: the same command goes on where it stopped. Whatever ends it but a kill, it reports what
    was done.
    """
    from cortex_spark.config import Settings
    from cortex_spark.detect import resolve_model
    from cortex_spark.engine.label import LabelJob
    from cortex_spark.engine.pipeline import EngineConfig
    from cortex_spark.engine.worker import spark_device
    from cortex_spark.session import spark_session
    from cortex_spark.table import Warehouse

    settings = Settings()
    spark = spark_session("cortex label", small_queries=True)
    tables = Warehouse(spark, warehouse)
    if not follow and not tables.has("image_urls"):
        raise CortexError(
            f"{tables.root} has no image_urls: is --warehouse right, and has `cortex extract` or `ingest` run?"
        )
    device = spark_device(spark)
    resolved = None
    if model != "none":
        with err.status("resolving the model"):
            resolved = resolve_model(
                model,
                device=device,
                confidence=confidence,
                iou=iou,
                imgsz=imgsz,
                precision=precision,
                multi_label=multi_label,
                decode=settings.decode,
            )
        err.print(f"model: {resolved.describe()}")
    config = EngineConfig(settings, tables.root, device=device)
    job = LabelJob(tables, resolved, config, batch_urls=batch, host_urls=host_cap)
    try:
        job.run(where=where, limit=limit, retry=retry, revisit=revisit, follow=follow)
    except BaseException:  # an outage, Ctrl-C, SIGTERM
        with suppress(Exception):  # Spark may be gone, too, and what ended the job is the news
            _tell(tables, job.report, as_json)
        raise
    _tell(tables, job.report, as_json)


def _tell(tables: Warehouse, report: LabelReport, as_json: bool) -> None:
    """Print what was done, and the outcomes of the job's runs by reason, by host and over time."""
    from cortex_spark.stats.report import report as attempted

    stats = attempted(tables, report.runs) if report.urls else None
    if as_json:
        out.print_json(json.dumps(report.as_json() | {"stats": stats.as_json() if stats is not None else None}))
        return
    if stats is not None:
        out.print(stats)
    out.print(report)
