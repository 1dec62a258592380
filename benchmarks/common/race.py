"""Runs contenders one after the other, in alternating order, and puts their medians side by side."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pickle
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from benchmarks.common import environments
from benchmarks.common.nginx import Nginx
from benchmarks.common.usage import Meter, cores, descendants
from benchmarks.contenders.contender import Task
from cortex_spark.console import err
from cortex_spark.detect import Model

_ROOT: Final = Path(__file__).parents[2]
_PATIENCE: Final = 30.0  # seconds for processes of a contender to be gone


@dataclass(frozen=True)
class Contender:
    """One row of the table. ``peer``: whose environment it runs in; None: this one's."""

    name: str
    module: str
    settings: dict[str, Any] = field(default_factory=dict)
    peer: str | None = None
    share: float = 1.0  # of the pictures: a slow one need not take all


@dataclass(frozen=True)
class Run:
    """One run of one contender."""

    pictures: int
    start: float  # seconds until it was ready
    seconds: float  # of the whole call
    first_to_last: float  # seconds from the first finished picture to the last
    cpu: float  # seconds of its process tree, of the whole call
    steady_cpu: float  # from the first finished picture to the last
    boxes: int
    said: dict[str, Any]
    memory: list[tuple[float, int, str, int]] = field(default_factory=list, repr=False)  # time, process, name, bytes

    @property
    def rate(self) -> float:
        """Pictures per second of the whole call."""
        return self.pictures / self.seconds

    @property
    def steady_rate(self) -> float:
        """Pictures per second between the first and the last."""
        return (self.pictures - 1) / self.first_to_last if self.first_to_last else 0.0

    @property
    def cpu_per_1000(self) -> float:
        """CPU-seconds per 1,000 pictures, of the whole call."""
        return self.cpu / self.pictures * 1000

    @property
    def steady_cpu_per_1000(self) -> float:
        """CPU-seconds per 1,000 pictures, between the first and the last."""
        return self.steady_cpu / (self.pictures - 1) * 1000


def add_options(parser: argparse.ArgumentParser, count: int) -> None:
    """The options of every race."""
    environments.add_options(parser)
    parser.add_argument("--count", type=int, default=count, help="pictures per run (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, in alternating order (default: %(default)s)")
    parser.add_argument("--only", nargs="*", help="contenders by name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every run there")


class Race:
    """Contenders on one set of pictures from one nginx."""

    def __init__(
        self, contenders: Sequence[Contender], bodies: Sequence[bytes], options: argparse.Namespace, *, hosts: int
    ) -> None:
        self._contenders = [one for one in contenders if not options.only or one.name in options.only]
        if not self._contenders:
            raise SystemExit(f"--only: there are {', '.join(one.name for one in contenders)}")
        self._bodies = bodies
        self._options = options
        self._hosts = hosts
        self.runs: dict[str, list[Run]] = {one.name: [] for one in self._contenders}
        self._pythons = {
            one.peer: environments.python_of(one.peer, options.peers_dir) if one.peer else Path(sys.executable)
            for one in self._contenders
        }

    def run(self, model: Model | None = None, weights: str | None = None) -> None:
        """All runs; fails with the contender's own words if one does."""
        order = list(self._contenders)
        with Nginx(self._bodies, self._hosts) as server, tempfile.TemporaryDirectory() as folder:
            pickled = Path(folder, "model")
            pickled.write_bytes(pickle.dumps(model))
            for turn in range(self._options.runs):
                for contender in order:
                    count = max(round(self._options.count * contender.share), 2)
                    task = Task(
                        urls=server.urls(count, salt=2 * turn + 1),
                        warm_urls=server.urls(min(4 * len(server.hosts), count), salt=2 * turn),
                        cores=cores(),
                        model=str(pickled) if model is not None else None,
                        weights=weights,
                        settings=contender.settings,
                    )
                    python = self._pythons[contender.peer]
                    done = run_contender(contender, task, python, {server.process}, server.times)
                    if done.pictures != count:
                        raise SystemExit(f"{contender.name}: {count} URLs, {done.pictures} pictures: {done.said}")
                    self.runs[contender.name].append(done)
                    err.print(
                        f"{contender.name}: {done.rate:.1f}/s, first to last {done.steady_rate:.1f}/s, "
                        f"{done.steady_cpu_per_1000:.2f} CPU-s per 1,000, ready after {done.start:.1f} s"
                    )
                order.reverse()
        if self._options.json is not None:
            found = {name: [asdict(run) | {"memory": None} for run in runs] for name, runs in self.runs.items()}
            self._options.json.write_text(json.dumps(found, indent=1))


def run_contender(
    contender: Contender, task: Task, python: Path, servers: Collection[int], sent: Callable[[], list[float]]
) -> Run:
    """Run one contender; ends the program with its own words if it fails.

    ``servers`` are process numbers that do not count; ``sent`` says when pictures went out, for contenders that do not
    know when they had one finished; without either, the whole call is what counts.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        told = Path(folder, "task.json")
        told.write_text(json.dumps(asdict(task)))
        errors = Path(folder, "errors")
        environment = {**os.environ, "PYTHONPATH": str(_ROOT), "YOLO_AUTOINSTALL": "false", "TMPDIR": folder}
        with errors.open("wb") as sink, Meter(servers) as meter:
            started = time.perf_counter()
            process = subprocess.Popen(
                [python, "-m", f"benchmarks.contenders.{contender.module}", str(told)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                env=environment,
                text=True,
            )
            assert process.stdin is not None
            assert process.stdout is not None

            def heard() -> dict[str, Any]:
                assert process.stdout is not None
                line = process.stdout.readline()
                if not line:
                    process.wait()
                    raise SystemExit(f"{contender.name} failed:\n{errors.read_text(errors='replace')[-3000:]}")
                said: dict[str, Any] = json.loads(line)
                return said

            def say() -> None:
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()

            heard()
            ready = time.perf_counter() - started
            before = len(sent())
            cpu = meter.look()
            say()
            begun = time.perf_counter()
            heard()
            seconds = time.perf_counter() - begun
            cpu = meter.look() - cpu
            say()
            done = heard()
        process.stdin.close()
        process.wait()
        _clear(servers)
    times = sorted(done["times"] or sent()[before:])
    return Run(
        pictures=done["pictures"],
        start=ready,
        seconds=seconds,
        first_to_last=times[-1] - times[0] if times else seconds,
        cpu=cpu,
        steady_cpu=meter.between(times[0], times[-1]) if times else cpu,
        boxes=done["boxes"],
        said=done["said"],
        memory=meter.memory,
    )


def _clear(servers: Collection[int]) -> None:
    """End what a contender left behind."""
    until = time.monotonic() + _PATIENCE
    while (left := descendants(os.getpid(), servers)) and time.monotonic() < until:
        for process in left:
            with contextlib.suppress(OSError):
                os.kill(process.pid, signal.SIGKILL)
                os.waitpid(process.pid, os.WNOHANG)
        time.sleep(0.05)


#: Columns of the table: heading, fields of Run for the whole call and from the first picture to the last, digits.
_COLUMNS: Final = (
    ("pictures/s", ("rate", "steady_rate"), 1),
    ("CPU-s/1,000", ("cpu_per_1000", "steady_cpu_per_1000"), 2),
)


def median(runs: Sequence[Run], what: str) -> float:
    """Of a field of Run."""
    return float(statistics.median(getattr(run, what) for run in runs))


def medians(runs: dict[str, list[Run]], ours: str) -> Table:
    """A row for each contender; the ratios are those of the speed of ``ours`` to it."""
    table = Table("", *(heading for heading, _, _ in _COLUMNS), "ready after", "ours faster by")
    for name, done in runs.items():
        cells = [" / ".join(f"{median(done, what):.{digits}f}" for what in fields) for _, fields, digits in _COLUMNS]
        ratios = [median(runs[ours], what) / median(done, what) for what in _COLUMNS[0][1]] if ours in runs else []
        table.add_row(name, *cells, f"{median(done, 'start'):.1f} s", " / ".join(f"{ratio:.2f}" for ratio in ratios))
    table.caption = "medians; whole call / from the first finished picture to the last"
    boxes = {f"{sum(run.boxes for run in done) / sum(run.pictures for run in done):.2f}" for done in runs.values()}
    if boxes != {"0.00"}:
        table.caption += f"\nboxes per picture: {', '.join(sorted(boxes))}"
    return table
