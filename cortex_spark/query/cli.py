"""``cortex query``."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from typing import Annotated, Any

import typer

from cortex_spark.console import err, out


class EngineName(StrEnum):
    """Who reads the table."""

    DUCKDB = "duckdb"
    SPARK = "spark"


def query(
    q: Annotated[str, typer.Option("--q", metavar="JSON", help='A MongoDB filter, as {"width": {"$gt": 100}}.')] = "{}",
    page: Annotated[str | None, typer.Option("--page", metavar="N", help="Which page of 25, from 1.")] = None,
    sort: Annotated[
        str | None,
        typer.Option("--sort", metavar="JSON", help='As {"width": -1}; by default the order of landing.'),
    ] = None,
    fields: Annotated[
        str | None,
        typer.Option(
            "--fields",
            metavar="A,B|JSON",
            help='These fields only (all: every one), or a MongoDB projection, as {"width": 1, "_id": 0}.',
        ),
    ] = None,
    cursor: Annotated[
        str | None, typer.Option("--cursor", metavar="C", help="The page behind the one that said this cursor.")
    ] = None,
    version: Annotated[
        int | None, typer.Option("--version", metavar="V", help="A version of the table, by default the newest.")
    ] = None,
    engine: Annotated[
        EngineName | None,
        typer.Option("--engine", help="By default duckdb where the warehouse is a folder of this machine."),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help='Print {"page", "length", "version", "data", "cursor", "warnings"}, nothing else.'),
    ] = False,
    warehouse: Annotated[str, typer.Option("--warehouse", metavar="DIR", help="Where the tables are.")] = "warehouse",
) -> None:
    """Show a page of 25 samples that match a MongoDB filter, and how many do."""
    # Here, not above: `cortex --help` need not load what reads tables.
    from cortex_spark.query.document import parse_fields, to_json
    from cortex_spark.query.page import check_question, default_engine
    from cortex_spark.query.page import page as read_page
    from cortex_spark.query.view import page_table

    wanted: dict[str, Any] = {"version": version, "fields": fields, "sort": sort, "cursor": cursor}
    chosen = engine or EngineName(default_engine(warehouse))
    try:
        with err.status("reading samples") as status:
            source: Any = warehouse
            if chosen == EngineName.SPARK:
                check_question(warehouse, q, page, **wanted)  # what is wrong is said before Spark has started
                status.update("starting Spark")
                source = _with_spark(warehouse)
                status.update("reading samples")
            start = time.monotonic()
            found = read_page(source, q, page, engine=chosen.value, **wanted)
            seconds = time.monotonic() - start
    except (KeyboardInterrupt, RuntimeError) as stop:
        if isinstance(stop, RuntimeError) and "Query interrupted" not in str(stop):  # DuckDB's word for Ctrl-C
            raise
        err.print("stopped by Ctrl-C before the page was there; a query changes nothing")
        raise typer.Exit(130) from None
    for warning in found.warnings:
        err.print(f"warning: {warning}", style="yellow", markup=False)
    if as_json:
        answer = {
            "page": found.page,
            "length": found.length,
            "version": found.version,
            "data": [to_json(document) for document in found.data],
            "cursor": found.cursor,
            "warnings": list(found.warnings),
        }
        typer.echo(json.dumps(answer, allow_nan=False))
        return
    out.print(page_table(found, seconds, None if fields is None else parse_fields(fields).columns))
    if found.cursor is not None:
        # As one line whatever the terminal's width: it is there to be copied.
        err.print(f"next page: --cursor {found.cursor}", style="dim", markup=False, soft_wrap=True, highlight=False)


def _with_spark(warehouse: str) -> Any:
    from cortex_spark.session import spark_session
    from cortex_spark.table.warehouse import Warehouse

    return Warehouse(spark_session("cortex query"), warehouse)
