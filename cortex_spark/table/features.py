"""What readers with and without Spark must know of a Delta table: its identity, and whether its files are its rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

#: Features of Delta that readers must know, and under which they are.
_HARMLESS: Final = {"v2Checkpoint", "vacuumProtocolCheck"}


def commit_file(version: int) -> str:
    """The file of a commit, in the table's folder."""
    return f"_delta_log/{version:020d}.json"


def identity(table: str, commit: str) -> str:
    """Names one version of a table by Delta's id of that, and the sha256 of the commit (or "" if it is cleaned up).

    The id and the version's number are not enough: a backup that is put back has them, and goes on otherwise.
    """
    return f"{table}/{commit[:32]}"


def beside_files(features: Iterable[str], properties: Mapping[str, str]) -> list[str]:
    """What tells a table's rows beside its files, by the names of its reader features and its properties."""
    found = sorted(set(features) - _HARMLESS)
    if not found and properties.get("delta.columnMapping.mode", "none") != "none":
        return ["column mapping"]
    return found
