"""``cortex stats``."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from cortex_spark.console import err, out


def stats(
    run: Annotated[list[str] | None, typer.Option(metavar="ID", help="Only this run; several may be given.")] = None,
    last: Annotated[float | None, typer.Option(min=0, metavar="HOURS", help="Only the last hours.")] = None,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="How many hosts, those with the most URLs.")] = 10,
    plot: Annotated[
        str | None, typer.Option(metavar="FILE", help="Also draw it, as .png, .svg or .pdf (needs the extra 'plot').")
    ] = None,
    warehouse: Annotated[str, typer.Option(metavar="DIR", help="Folder of the tables.")] = "warehouse",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Show what became of the URLs: outcomes by reason, by host, and per second over time."""
    from datetime import UTC, datetime, timedelta

    from cortex_spark.session import spark_session
    from cortex_spark.stats.plot import check_plot
    from cortex_spark.stats.plot import plot as draw
    from cortex_spark.stats.report import report
    from cortex_spark.table import Warehouse

    if plot is not None:
        check_plot(plot)
    since = None if last is None else datetime.now(UTC) - timedelta(hours=last)
    with err.status("starting Spark") as status:
        tables = Warehouse(spark_session("cortex stats"), warehouse)
        status.update("reading attempts")
        found = tables.retried(lambda: report(tables, run, since=since, top=top))
    if as_json:
        out.print_json(json.dumps(found.as_json()))
    else:
        out.print(found)
    if plot is not None:
        draw(found, plot)
        err.print(f"drawn: {plot}", markup=False)
