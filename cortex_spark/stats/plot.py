"""A report as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cortex_spark.errors import CortexError
from cortex_spark.outcomes import OK
from cortex_spark.stats.report import StatsReport
from cortex_spark.stats.view import amount, span

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES: Final = (".png", ".svg", ".pdf")
_OK_COLOR, _OTHER_COLOR, _INK, _MUTED = "#2a78d6", "#c3c2b7", "#0b0b0b", "#52514e"
_ROWS: Final = 12  # bars of outcomes and of hosts


def check_plot(path: str) -> None:
    """Raises CortexError unless ``path`` can become a plot: a known kind of file, and matplotlib there."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise CortexError(f"--plot {path}: give it a name that ends with {', '.join(SUFFIXES)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise CortexError("--plot draws with matplotlib, of the extra 'plot': pip install matplotlib") from error


def plot(report: StatsReport, path: str) -> None:
    """Draw ``report`` into ``path``: URLs per second over time, outcomes, hosts.

    Raises:
        CortexError: nothing was tried yet, the file cannot be written, or matplotlib is not installed.
    """
    check_plot(path)
    if not report.outcomes:
        raise CortexError("--plot: nothing was tried yet, there is nothing to draw")
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: Any = {  # matplotlib's type of it lists every name
        "font.size": 9,
        "axes.edgecolor": _OTHER_COLOR,
        "axes.labelcolor": _MUTED,
        "xtick.color": _MUTED,
        "ytick.color": _MUTED,
        "text.color": _INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.fonttype": "none",
    }
    rows = max(min(len(report.outcomes), _ROWS), min(len(report.hosts), _ROWS))
    with rc_context(style):
        figure = Figure(figsize=(10, 4.2 + 0.26 * rows), dpi=120, layout="constrained")
        grid = figure.add_gridspec(2, 2, height_ratios=(3.0, 0.8 + 0.26 * rows))
        _over_time(figure.add_subplot(grid[0, :]), report)
        left, right = (figure.add_subplot(grid[1, number]) for number in (0, 1))
        _outcomes(left, report)
        _hosts(right, report)
        for axes in (left, right):
            axes.set_ylim(rows - 0.4, -0.6)  # bars of one thickness, the first on top
        try:
            figure.savefig(path)
        except OSError as error:
            raise CortexError(f"--plot {path} cannot be written: {error}") from error


def _over_time(axes: Axes, report: StatsReport) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    days = report.bin_seconds / 86400
    starts: list[Any] = [each.start for each in report.bins]
    ok = [each.ok / report.bin_seconds for each in report.bins]
    other = [each.other / report.bin_seconds for each in report.bins]
    width = days * 0.9
    axes.bar(starts, ok, width=width, align="edge", color=_OK_COLOR, label="pictures")
    axes.bar(starts, other, width=width, align="edge", bottom=ok, color=_OTHER_COLOR, label="other outcomes")
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    axes.set_ylabel("URLs per second")
    axes.set_ylim(0, 1.05 * max(each + more for each, more in zip(ok, other, strict=True)))
    _grid(axes, "y")
    axes.legend(frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)
    facts = f"{report.attempts:,} attempts, {amount(report.bytes)}, {span(report.seconds)}"
    axes.set_title(f"{facts} (UTC, {span(report.bin_seconds)} a bar)", loc="left", fontsize=10)


def _outcomes(axes: Axes, report: StatsReport) -> None:
    shown = list(report.outcomes.items())[:_ROWS]
    counts = [outcome.attempts for _, outcome in shown]
    colors = [_OK_COLOR if name == OK else _OTHER_COLOR for name, _ in shown]
    bars = axes.barh([name for name, _ in shown], counts, height=0.7, color=colors)
    axes.bar_label(bars, [f"{count:,}  {count / report.attempts:.1%}" for count in counts], padding=4, color=_MUTED)
    _finish(axes, _title("outcomes", len(shown), len(report.outcomes)), max(counts))


def _hosts(axes: Axes, report: StatsReport) -> None:
    shown = report.hosts[:_ROWS]
    if not shown:
        axes.set_axis_off()
        return
    # Dollars would begin a formula.
    names = [_short(host.name or "(own store)").replace("$", r"\$") for host in shown]
    places = range(len(shown))
    ok = [host.ok for host in shown]
    other = [host.attempts - host.ok for host in shown]
    axes.barh(places, ok, height=0.7, color=_OK_COLOR)
    bars = axes.barh(places, other, left=ok, height=0.7, color=_OTHER_COLOR)
    axes.set_yticks(places, names)
    axes.bar_label(bars, [f"{host.attempts:,}  {amount(host.bytes)}" for host in shown], padding=4, color=_MUTED)
    _finish(axes, _title("hosts", len(shown), report.hosts_total), max(host.attempts for host in shown))


def _title(what: str, shown: int, total: int) -> str:
    return f"{what}, the first {shown} of {total:,}" if total > shown else what


def _finish(axes: Axes, title: str, most: int) -> None:
    axes.set_xlim(0, most * 1.4)  # room for what stands beside the longest bar
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title(title, loc="left", fontsize=10)


def _grid(axes: Axes, axis: Any) -> None:
    axes.grid(axis=axis, color=_OTHER_COLOR, linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(True)


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27]}…"
