"""``cortex export``."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cortex_spark.console import err
from cortex_spark.console import out as console
from cortex_spark.errors import Terminated
from cortex_spark.export.sizes import DEFAULT_SHARD_ROWS


class Format(StrEnum):
    """What an export can be written as."""

    parquet = "parquet"


def export(
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="The folder for the shards, new or empty.")],
    q: Annotated[str, typer.Option("--q", metavar="JSON", help='A MongoDB filter, as {"width": {"$gt": 100}}.')] = "{}",
    _: Annotated[Format, typer.Option("--format", help="The files' format.")] = Format.parquet,
    shard_rows: Annotated[
        int, typer.Option("--shard-rows", min=1, metavar="N", help="Rows of a shard.")
    ] = DEFAULT_SHARD_ROWS,
    columns: Annotated[
        str,
        typer.Option(
            "--columns",
            metavar="all|flat|A,B",
            help="All columns; all as scalars, nested ones as JSON text (for petastorm and the like); or those named.",
        ),
    ] = "all",
    with_bytes: Annotated[
        bool,
        typer.Option(
            "--bytes",
            help="Fetch the pictures again, as column image; what is gone or has changed is left out and counted.",
        ),
    ] = False,
    private: Annotated[
        bool, typer.Option("--private", help="Also pictures that are not online: private, crowdsourced, synthetic.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export in the folder.")] = False,
    version: Annotated[
        int | None, typer.Option("--version", metavar="V", help="A version of the table, by default the newest.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    warehouse: Annotated[str, typer.Option("--warehouse", metavar="DIR", help="Where the tables are.")] = "warehouse",
) -> None:
    """Write the samples that match a MongoDB filter as Parquet shards with a manifest."""
    # Here, not above: `cortex --help` need not load Spark.
    from cortex_spark.export.columns import choose_columns
    from cortex_spark.export.folder import Folder
    from cortex_spark.export.parquet import export as write_export
    from cortex_spark.query.mongo import compile_query
    from cortex_spark.session import spark_session
    from cortex_spark.table.warehouse import Warehouse

    # What is wrong with the question is said before Spark has started.
    compile_query(q)
    choose_columns(columns)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
    )
    try:
        with bar:
            task = bar.add_task("shards", total=None)
            report = write_export(
                Warehouse(spark_session("cortex export"), warehouse),
                q,
                out,
                shard_rows=shard_rows,
                columns=columns,
                with_bytes=with_bytes,
                private=private,
                overwrite=overwrite,
                version=version,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    except (KeyboardInterrupt, Terminated) as stop:
        left = f": {out} has no manifest and is not complete; --overwrite begins it anew"
        err.print(f"stopped{left if Folder.at(out).is_begun() else ''}", markup=False)
        raise typer.Exit(130 if isinstance(stop, KeyboardInterrupt) else 143) from None
    for warning in report.warnings:
        err.print(f"warning: {warning}", style="yellow", markup=False)
    if as_json:
        typer.echo(json.dumps(report.as_json()))
    else:
        console.print(report)
