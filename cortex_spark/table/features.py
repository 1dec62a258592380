"""Whether a Delta table's rows are exactly those of its files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

#: Features of Delta that readers must know, and under which they are.
_HARMLESS: Final = {"v2Checkpoint", "vacuumProtocolCheck"}


def beside_files(features: Iterable[str], properties: Mapping[str, str]) -> list[str]:
    """What tells a table's rows beside its files, by the names of its reader features and its properties."""
    found = sorted(set(features) - _HARMLESS)
    if not found and properties.get("delta.columnMapping.mode", "none") != "none":
        return ["column mapping"]
    return found
