"""``cortex optimize`` and ``cortex verify``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cortex_spark.console import err, out
from cortex_spark.errors import CortexError

_Warehouse = Annotated[str, typer.Option("--warehouse", metavar="DIR", help="Folder of the tables.")]
_Json = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


def optimize(
    retain: Annotated[
        float,
        typer.Option(
            metavar="HOURS", help="Keep the files of versions that are younger: cursors and exports read them."
        ),
    ] = 168.0,
    warehouse: _Warehouse = "warehouse",
    as_json: _Json = False,
) -> None:
    """Make the tables fast to read: few large files, sorted so that filters skip most, and no leftovers.

    Tables made by earlier versions get their derived columns. Jobs, queries and exports may go on meanwhile. May be
    killed at any moment and called again.
    """
    from datetime import timedelta

    from cortex_spark.session import spark_session
    from cortex_spark.stages import stage_status
    from cortex_spark.table import Warehouse
    from cortex_spark.upkeep.optimize import check_retention
    from cortex_spark.upkeep.optimize import optimize as run

    if not 0 <= retain < 1e6:
        raise CortexError(f"--retain {retain:g}: give a number of hours")
    kept = timedelta(hours=retain)
    check_retention(kept)
    with err.status("starting Spark") as status:
        tables = Warehouse(spark_session("cortex optimize"), warehouse)
        with stage_status(tables.spark, status) as say:
            report = run(tables, retain=kept, say=say)
    if report.taken_down:
        err.print(
            "warning: pictures were taken down meanwhile, and files that were given up may hold their rows: "
            "call `cortex forget` again in six hours",
            style="yellow",
        )
    if as_json:
        out.print_json(json.dumps(report.as_json()))
    else:
        out.print(report)


def verify(warehouse: _Warehouse = "warehouse", as_json: _Json = False) -> None:
    """Look whether every id stands once, and every derived column follows from the boxes; exit code 1 if not."""
    from cortex_spark.session import spark_session
    from cortex_spark.stages import stage_status
    from cortex_spark.table import Warehouse
    from cortex_spark.upkeep.verify import verify as run

    with err.status("starting Spark") as status:
        tables = Warehouse(spark_session("cortex verify"), warehouse)
        with stage_status(tables.spark, status) as say:
            say("reading tables")
            report = run(tables)
    if as_json:
        out.print_json(json.dumps(report.as_json()))
    else:
        out.print(report)
    if report.differences:
        raise typer.Exit(1)
