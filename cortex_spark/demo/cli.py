"""``cortex demo``."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    warehouse: Annotated[
        str, typer.Option(metavar="DIR", help="Where the demo's tables go; an earlier demo's folder is replaced.")
    ] = "demo-warehouse",
    model: Annotated[
        str, typer.Option(metavar="NAME|PATH", help="As for cortex label; the shipped one needs no download.")
    ] = "shipped",
) -> None:
    """Everything once, on a small web that this machine serves to itself: extract, label, query, export."""
    from cortex_spark.demo.run import run

    run(warehouse, model)
