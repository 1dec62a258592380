"""A page of documents as a table for the terminal."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from cortex_spark.query.document import to_json
from cortex_spark.query.page import PAGE_SIZE, Page

_MISSING: Final = "-"


def page_table(page: Page, seconds: float, fields: Sequence[str] | None = None) -> Table:
    """The page's documents: the named fields, or what one wants to see of a picture first."""
    pages = max(1, -(-page.length // PAGE_SIZE))
    caption = f"page {page.page} of {pages} - {page.length:,} match - version {page.version} - {seconds:.1f} s"
    table = Table(caption=caption, caption_justify="left", header_style="bold")
    if fields is None:
        table.add_column("id", no_wrap=True)
        table.add_column("size", justify="right", no_wrap=True)
        table.add_column("objects", min_width=12)
        # Not no_wrap: rich makes columns narrower that may wrap, and a word that does not fit gets the ellipsis.
        table.add_column("host", overflow="ellipsis", max_width=28)
        table.add_column("url", overflow="ellipsis")
        for document in page.data:
            table.add_row(*map(_text, _summary(document)))
    else:
        for name in fields:
            table.add_column(name, overflow="fold")
        for document in page.data:
            table.add_row(*(_text(_plain(document.get(name))) for name in fields))
    return table


def objects(document: Mapping[str, Any]) -> str:
    """The first annotator's objects, the most frequent first, and its highest confidence.

    >>> objects({"object_analysis": [[{"classname": "cat", "confidence": 0.91}, {"classname": "cat"}]]})
    '2 cat (0.91)'
    """
    annotators = document.get("object_analysis") or [None]
    boxes = annotators[0]
    if boxes is None:
        return _MISSING
    counted = Counter(box.get("classname", "?") for box in boxes if box is not None).most_common()
    confidences = [box["confidence"] for box in boxes if box is not None and "confidence" in box]
    best = f" ({max(confidences):.2f})" if confidences else ""
    return ", ".join(f"{count} {name}" for name, count in counted) + best if counted else "none"


def _summary(document: Mapping[str, Any]) -> tuple[str, ...]:
    size = f"{document.get('width', '?')}x{document.get('height', '?')}"
    url = str(document.get("url", _MISSING))
    return (f"{document['_id'][:10]}", size, objects(document), str(document.get("host", _MISSING)), _path(url))


def _path(url: str) -> str:
    """What stands behind the host: the host has a column of its own."""
    _, found, rest = url.partition("://")
    path = "/" + rest.partition("/")[2]
    return path if found and path != "/" else url


def _plain(value: Any) -> str:
    if value is None:
        return _MISSING
    made = to_json(value)
    return made if isinstance(made, str) else json.dumps(made, ensure_ascii=False)


def _text(text: str) -> Text:
    """Shown as it is: neither rich's markup nor the terminal's control characters in a URL have an effect."""
    return Text("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text))
