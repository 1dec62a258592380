"""``cortex forget``."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from cortex_spark.console import err, out
from cortex_spark.errors import CortexError


def is_terminal() -> bool:
    """Whether somebody is there to answer."""
    return sys.stdin.isatty()


def forget(
    url: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="A picture by its address, or where a redirect leads to.")
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST", help="All pictures that lie on a host: example.org, or *.example.org for all below."
        ),
    ] = None,
    hash_: Annotated[
        list[str] | None, typer.Option("--hash", metavar="SHA256", help="A picture by its bytes, wherever it lies.")
    ] = None,
    page: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="What was found on a page. Found again on another page, it comes back."),
    ] = None,
    reason: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Why; it is stored as it is, so better a case number than a name."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many rows would go.")] = False,
    warehouse: Annotated[str, typer.Option(metavar="DIR", help="Folder of the tables.")] = "warehouse",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Take pictures down: rows, stored pictures, and all history of them, for good.

    What is asked is remembered first (as hashes, without names), so that no job, query or export brings it back. Then
    its rows are removed, and the files of earlier versions of the tables with them: readers of an old version lose
    it, so running exports and cursors of such a version end with an error. Every option may be given several times.
    Without any, what an earlier call left over is removed. May be killed at any moment and called again.
    """
    from cortex_spark.forget.requests import entries
    from cortex_spark.forget.takedown import forget as take_down
    from cortex_spark.forget.takedown import rows_table, would_go
    from cortex_spark.session import spark_session
    from cortex_spark.stages import stage_status
    from cortex_spark.table import Warehouse

    asked = entries(urls=url or (), hosts=host or (), hashes=hash_ or (), pages=page or ())
    ask = bool(asked) and not yes
    if ask and not dry_run and not is_terminal():
        raise CortexError("nobody is there to ask: --yes removes without asking, --dry-run says what would go")
    with err.status("starting Spark") as status:
        tables = Warehouse(spark_session("cortex forget"), warehouse)
        if ask or dry_run:
            status.update("counting rows")
            rows = would_go(tables, asked)
    if dry_run and as_json:
        out.print_json(json.dumps({"would_remove": dict(rows)}))
        return
    if ask or dry_run:
        (out if dry_run else err).print(rows_table(rows, "would go"))
    if dry_run:
        return
    if ask:
        typer.confirm("Remove them for good, and remember?", abort=True, err=True)
    with err.status("remembering") as status, stage_status(tables.spark, status) as say:
        report = take_down(tables, asked, reason=reason, say=say)
    if as_json:
        out.print_json(json.dumps(report.as_json()))
    else:
        out.print(report)
