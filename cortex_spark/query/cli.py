"""``cortex query``."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from cortex_spark.console import err, out


def query(
    q: Annotated[str, typer.Option("--q", metavar="JSON", help='A MongoDB filter, as {"width": {"$gt": 100}}.')] = "{}",
    page: Annotated[str, typer.Option("--page", metavar="N", help="Which page of 25, from 1.")] = "1",
    as_json: Annotated[bool, typer.Option("--json", help='Print {"page", "length", "data"} and nothing else.')] = False,
    fields: Annotated[
        str | None,
        typer.Option(
            "--fields", metavar="A,B", help="These fields only; all: with the histogram, which is left out else."
        ),
    ] = None,
    version: Annotated[
        int | None, typer.Option("--version", metavar="V", help="A version of the table, by default the newest.")
    ] = None,
    warehouse: Annotated[str, typer.Option("--warehouse", metavar="DIR", help="Where the tables are.")] = "warehouse",
) -> None:
    """Show a page of 25 samples that match a MongoDB filter, and how many do."""
    # Here, not above: `cortex --help` need not load Spark.
    from cortex_spark.query.document import choose_fields, to_json
    from cortex_spark.query.mongo import compile_query
    from cortex_spark.query.page import page as read_page
    from cortex_spark.query.page import page_number
    from cortex_spark.query.view import page_table
    from cortex_spark.session import spark_session
    from cortex_spark.table.warehouse import Warehouse

    # What is wrong with the question is said before Spark has started.
    compile_query(q)
    page_number(page)
    names = None if fields is None else [name.strip() for name in fields.split(",") if name.strip()]
    chosen = choose_fields(names)
    try:
        with err.status("starting Spark") as status:
            spark = spark_session("cortex query")
            status.update("reading samples")
            start = time.monotonic()
            found = read_page(Warehouse(spark, warehouse), q, page, version=version, fields=names)
            seconds = time.monotonic() - start
    except KeyboardInterrupt:
        err.print("stopped by Ctrl-C before the page was there; a query changes nothing")
        raise typer.Exit(130) from None
    for warning in found.warnings:
        err.print(f"warning: {warning}", style="yellow", markup=False)
    if as_json:
        data = [to_json(document) for document in found.data]
        typer.echo(json.dumps({"page": found.page, "length": found.length, "data": data}, allow_nan=False))
    else:
        out.print(page_table(found, seconds, None if names is None else chosen))
