"""``cortex demo``."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    warehouse: Annotated[
        str, typer.Option(metavar="DIR", help="Where the demo's tables go; an earlier demo's folder is replaced.")
    ] = "demo-warehouse",
    model: Annotated[str | None, typer.Option(metavar="NAME|PATH", help="Passed on to cortex label.")] = None,
) -> None:
    """Everything once, on a small web that this machine serves to itself: extract, label, query, export."""
    from cortex_spark.demo.run import run

    run(warehouse, model)
