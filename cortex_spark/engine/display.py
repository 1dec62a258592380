"""What a labelling job shows while it works."""

from __future__ import annotations

import threading
import time
from collections import Counter
from types import TracebackType
from typing import Self

from rich.live import Live
from rich.table import Table
from rich.text import Text

from cortex_spark.console import err
from cortex_spark.engine.progress import ProgressServer

_REFRESHES_PER_SECOND = 2
#: Without a terminal a line is written this often.
_LINE_SECONDS = 10.0


class LabelDisplay:
    """One line: share done, rate, outcomes, estimated end. Drawn in place on a terminal, else a line now and then."""

    def __init__(self, progress: ProgressServer, *, show: bool) -> None:
        self._progress = progress
        self._draw = show and err.is_terminal
        self._lines = show and not err.is_terminal
        self._stop = threading.Event()
        self._phase = "starting"
        self._urls = self._batches = self._batches_done = 0
        self._done: Counter[str] = Counter()
        self._started = time.monotonic()
        self._live = Live(
            get_renderable=self._line, console=err, refresh_per_second=_REFRESHES_PER_SECOND, transient=True
        )

    def say(self, message: str) -> None:
        """A line that stays."""
        if self._draw or self._lines:
            err.print(message)

    def phase(self, phase: str) -> None:
        """What is going on."""
        self._phase = phase

    def begin(self, run: str, urls: int, batches: int) -> None:
        """A run begins or goes on with ``urls`` to do."""
        self.say(f"run {run}: {urls:,} URLs in {batches:,} batch{'es' if batches != 1 else ''}")
        self._urls, self._batches, self._batches_done = urls, batches, 0
        self._done.clear()
        self._started = time.monotonic()

    def batch_done(self, batch: int, outcomes: Counter[str]) -> None:
        """The true outcomes of a batch replace what workers told."""
        self._progress.drop(batch)
        self._done.update(outcomes)
        self._batches_done += 1

    def _line(self) -> Text:
        counts = self._done + self._progress.counts
        done = min(sum(counts.values()), self._urls)
        seconds = time.monotonic() - self._started
        if not self._urls:
            return Text(f"{self._phase} ...", style="cyan")
        rate = done / seconds if seconds else 0.0
        left = f"{_clock((self._urls - done) / rate)} left" if rate else "..."
        batch = f"{self._batches_done}/{self._batches} batches"
        shown = ", ".join(f"{name} {count:,}" for name, count in counts.most_common(5))
        return Text.assemble(
            (f"{self._phase} ", "cyan"),
            (f"{done / self._urls:4.0%} ", "bold"),
            f"{done:,}/{self._urls:,} {batch}  {rate:.1f}/s  {left}  {shown}",
        )

    def _write_lines(self) -> None:
        while not self._stop.wait(_LINE_SECONDS):
            err.print(self._line())

    def __enter__(self) -> Self:
        if self._draw:
            self._live.start()
        elif self._lines:
            threading.Thread(target=self._write_lines, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._draw:
            self._live.stop()


def outcome_table(job: Counter[str], warehouse: Counter[str], caption: str) -> Table:
    """Outcomes of a job beside those of the whole warehouse."""
    table = Table(caption=caption, caption_justify="left")
    table.add_column("outcome")
    table.add_column("this job", justify="right")
    table.add_column("warehouse, final", justify="right")
    for outcome, _ in (job + warehouse).most_common():
        table.add_row(outcome, f"{job[outcome]:,}", f"{warehouse[outcome]:,}" if warehouse[outcome] else "")
    return table


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
