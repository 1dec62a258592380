"""What a source's job did, for people (``rich``) and for programs (JSON)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cortex_spark.sources.landing import Finding, Landed

_SHOWN: Final = 20  # findings that a person is shown


@dataclass(frozen=True)
class Report:
    """What came in, and what of it is in ``image_urls`` now.

    ``references`` counts by kind, before duplicates are left out; ``dropped`` by reason. ``findings`` are the first of
    ``findings_total``.
    """

    files: int
    unreadable: int  # files of which nothing could be read
    references: Mapping[str, int]
    dropped: Mapping[str, int]
    pictures: int  # distinct, by _id
    new: int
    findings: Sequence[Finding]
    findings_total: int
    seconds: float

    #: What a finding's position counts.
    _unit: ClassVar[str] = "line"

    @property
    def known(self) -> int:
        """Pictures that ``image_urls`` had already."""
        return self.pictures - self.new

    def as_json(self) -> dict[str, Any]:
        """All of it, in types that JSON has."""
        return {
            "files": self.files,
            "unreadable": self.unreadable,
            "references": dict(self.references),
            "dropped": dict(self.dropped),
            "pictures": self.pictures,
            "new": self.new,
            "known": self.known,
            "findings_total": self.findings_total,
            "findings": [finding._asdict() for finding in self.findings],
            "seconds": round(self.seconds, 3),
        }

    def __rich__(self) -> RenderableType:
        table = Table(title=self._title(), title_justify="left", show_header=False)
        table.add_column()
        table.add_column(justify="right")
        for name, value in self._rows():
            table.add_row(name, value)
        return Group(table, *self._finding_lines()) if self.findings else table

    def _title(self) -> str:
        return "image_urls"

    def _rows(self) -> list[tuple[str, str]]:
        return [
            ("files", _number(self.files)),
            *([("files that could not be read", _number(self.unreadable))] if self.unreadable else []),
            ("references", _number(sum(self.references.values()))),
            *((f"  {kind}", _number(count)) for kind, count in sorted(self.references.items())),
            ("dropped", _number(sum(self.dropped.values()))),
            *((f"  {reason}", _number(count)) for reason, count in sorted(self.dropped.items())),
            ("different pictures", _number(self.pictures)),
            ("  new", _number(self.new)),
            ("  known already", _number(self.known)),
            ("seconds", f"{self.seconds:.1f}"),
        ]

    def _finding_lines(self) -> list[Text]:
        lines = [Text(f"{self.findings_total:,} findings", style="bold yellow")]
        for file, position, reason, detail in self.findings[:_SHOWN]:
            place = "" if position is None else f", {self._unit} {position:,}"
            lines.append(Text(f"  {file}{place}: {reason}" + (f" ({detail})" if detail else "")))
        if self.findings_total > _SHOWN:
            lines.append(Text(f"  and {self.findings_total - _SHOWN:,} more"))
        return lines


@dataclass(frozen=True)
class ExtractReport(Report):
    """What ``extract`` did."""

    records: int
    pages: int  # records of HTML pages
    megabytes: float  # 10^6 bytes, of the files as they are stored
    text_megabytes: float  # of their records, inflated
    task_seconds: float  # of all tasks, one core each

    _unit: ClassVar[str] = "byte"

    @property
    def megabytes_per_core_second(self) -> float:
        """Stored megabytes that a core reads in a second, with all that is done to them before the merge."""
        return self.megabytes / self.task_seconds if self.task_seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        """All of it, in types that JSON has."""
        return super().as_json() | {
            "records": self.records,
            "pages": self.pages,
            "megabytes": round(self.megabytes, 6),
            "text_megabytes": round(self.text_megabytes, 6),
            "task_seconds": round(self.task_seconds, 3),
            "megabytes_per_core_second": round(self.megabytes_per_core_second, 3),
        }

    def _title(self) -> str:
        return "extract"

    def _rows(self) -> list[tuple[str, str]]:
        files, *rest = super()._rows()
        return [
            files,
            ("records", _number(self.records)),
            ("pages", _number(self.pages)),
            *rest,
            ("MB read (inflated)", f"{self.megabytes:,.1f} ({self.text_megabytes:,.1f})"),
            ("MB per second and core", f"{self.megabytes_per_core_second:.1f}"),
        ]


@dataclass(frozen=True)
class IngestReport(Report):
    """What ``ingest`` did: of a list ``findings`` are its bad URLs, of a folder the files that are no pictures."""

    records: int  # rows of lists, or files of a folder

    def as_json(self) -> dict[str, Any]:
        """All of it, in types that JSON has."""
        return super().as_json() | {"records": self.records}

    def _title(self) -> str:
        return "ingest"

    def _rows(self) -> list[tuple[str, str]]:
        files, *rest = super()._rows()
        return [files, ("rows", _number(self.records)), *rest]


def common(landed: Landed, files: int, seconds: float) -> dict[str, Any]:
    """The arguments that all reports share."""
    return {
        "files": files,
        "unreadable": landed.tally["unreadable"],
        "references": _part(landed, "kind:"),
        "dropped": _part(landed, "dropped:"),
        "pictures": landed.distinct,
        "new": landed.new,
        "findings": landed.findings,
        "findings_total": landed.tally["findings"],
        "seconds": seconds,
    }


def _part(landed: Landed, prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): count for name, count in landed.tally.items() if name.startswith(prefix)}


def _number(count: int) -> str:
    return f"{count:,}"
