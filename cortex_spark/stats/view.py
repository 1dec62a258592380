"""A report for the terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cortex_spark.outcomes import FINAL, OK, PASSING
from cortex_spark.stats.report import Bin, Host, StatsReport

_BAR: Final = 40  # characters of the longest
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_STATUSES: Final = {str(status.value): status.phrase for status in HTTPStatus}
_OK, _OTHER = "green", "bright_black"


def report_view(report: StatsReport) -> RenderableType:
    """All of it, one table below the other."""
    if not report.outcomes:
        return Group(*_urls_line(report), Text("nothing was tried yet"))
    return Group(
        *_urls_line(report), Text(_summary(report)), "", _outcomes(report), "", _hosts(report), "", _over_time(report)
    )


def amount(count: float) -> str:
    """Bytes in the unit that suits them.

    >>> amount(999), amount(126_000), amount(3_456_000_000)
    ('999 B', '126 kB', '3.5 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit in ("B", "kB") else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def span(seconds: float) -> str:
    """A time span in words.

    >>> span(0.5), span(95), span(7300), span(3 * 86400)
    ('0.5 s', '1 min 35 s', '2 h 1 min', '3 d')
    """
    if seconds < 60:
        return f"{seconds:.3g} s"
    parts = []
    rest = round(seconds)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def rate(per_second: float) -> str:
    """Three digits of it.

    >>> rate(0.16667), rate(61.72), rate(1234.5)
    ('0.167', '61.7', '1,234')
    """
    return f"{per_second:.3g}" if per_second < 1000 else f"{per_second:,.0f}"


def meaning(outcome: str) -> str:
    """What an outcome's name means.

    >>> meaning("http_404"), meaning("http_799")
    ('Not Found', '')
    """
    number = outcome.removeprefix("http_")
    if number != outcome and number in _STATUSES:
        return _STATUSES[number]
    return (PASSING | FINAL).get(outcome, "")


def label(report: StatsReport, each: Bin) -> str:
    """A bin's start, as short as its report allows."""
    if report.bin_seconds >= 86400:
        return f"{each.start:%Y-%m-%d}"
    time = f"{each.start:%H:%M:%S}" if report.bin_seconds < 60 else f"{each.start:%H:%M}"
    many_days = report.bins[0].start.date() != report.bins[-1].start.date()
    return f"{each.start:%m-%d} {time}" if many_days else time


def _urls_line(report: StatsReport) -> list[Text]:
    if report.urls is None:
        return []
    urls = report.urls
    return [Text(f"{urls.known:,} URLs known = {urls.final:,} final + {urls.waiting:,} waiting")]


def _summary(report: StatsReport) -> str:
    per_second = f", {rate(report.rate)} pictures/s" if report.rate else ""
    when = f"{report.first:%Y-%m-%d %H:%M:%S} to {report.last:%Y-%m-%d %H:%M:%S} UTC" if report.first else ""
    counts = f"{report.attempts:,} attempts, {report.pictures:,} pictures, {amount(report.bytes)}"
    return f"{counts} in {span(report.seconds)}{per_second}\n{when}"


def _table(title: str, name: str, *numbers: str, last: str, style: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False
    )
    # Where the terminal is narrow the words give way: rich does not narrow what must not wrap before them.
    table.add_column(name, overflow="ellipsis", max_width=40)
    for number in numbers:
        table.add_column(number, justify="right", no_wrap=True)
    table.add_column(last, style=style)
    return table


def _outcomes(report: StatsReport) -> Table:
    numbers = ("attempts", "share", "mean time", "bytes")
    table = _table("outcomes", "outcome", *numbers, last="what it means", style="bright_black")
    for name, outcome in report.outcomes.items():
        table.add_row(
            Text(name, style=_OK if name == OK else "yellow" if name in PASSING else ""),
            f"{outcome.attempts:,}",
            f"{outcome.attempts / report.attempts:.1%}",
            "" if outcome.mean_seconds is None else f"{outcome.mean_seconds:.2f} s",
            amount(outcome.bytes) if outcome.bytes else "",
            meaning(name),
        )
    return table


def _hosts(report: StatsReport) -> Table:
    shown = f"the first {len(report.hosts)} of {report.hosts_total:,}"
    title = f"hosts ({shown})" if report.hosts_total > len(report.hosts) else "hosts"
    table = _table(title, "host", "attempts", "ok", "not ok", "bytes", "median", last="state", style="yellow")
    for host in report.hosts:
        table.add_row(
            Text(host.name or "(the warehouse's store)"),
            f"{host.attempts:,}",
            f"{host.ok:,}",
            f"{host.attempts - host.ok:,}" if host.attempts > host.ok else "",
            amount(host.bytes) if host.bytes else "",
            "" if host.median_seconds is None else f"{host.median_seconds:.2f} s",
            _state(host),
        )
    return table


def _state(host: Host) -> str:
    parts = []
    if host.not_before is not None:
        today = host.not_before.date() == datetime.now(UTC).date()
        parts.append(f"left alone until {host.not_before:{'%H:%M' if today else '%Y-%m-%d %H:%M'}}")
    if host.failures:
        parts.append(f"{host.failures} visits without an answer")
    if host.delay:
        parts.append(f"asks for {host.delay:g} s between requests")
    return ", ".join(parts)


def _over_time(report: StatsReport) -> Table:
    table = Table(
        title=f"URLs per second, {span(report.bin_seconds)} a bar (UTC)",
        title_justify="left",
        title_style="bold",
        box=None,
        show_header=False,
        pad_edge=False,
    )
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(no_wrap=True, justify="right", style="bright_black")
    most = max(each.outcomes.total() for each in report.bins)
    for each in report.bins:
        table.add_row(
            label(report, each),
            bar(each.ok / most, each.other / most),
            f"{rate(each.ok / report.bin_seconds)} ok" if each.ok else "",
            f"{rate(each.other / report.bin_seconds)} other" if each.other else "",
        )
    return table


def bar(ok: float, other: float) -> Text:
    """A bar of two parts, each a share of the longest."""
    cells = round((ok + other) * _BAR * 8)
    mine = round(ok * _BAR * 8)
    full, rest = divmod(mine, 8)
    text = Text("█" * full, style=_OK)
    if rest:  # in the cell where they meet, the second part is the background
        meets = cells - full * 8 >= 8
        text.append(_EIGHTHS[rest], style=f"{_OK} on {_OTHER}" if meets else _OK)
    left = cells // 8 - full - (1 if rest else 0)
    text.append("█" * max(left, 0), style=_OTHER)
    if cells % 8 and left >= 0:
        text.append(_EIGHTHS[cells % 8], style=_OTHER)
    return text
