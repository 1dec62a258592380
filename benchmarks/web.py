"""``cortex label`` over the simulated web, with default politeness: the headline figures.

``python -m benchmarks.web --pictures FOLDER --side 1300 --model NAME|PATH [--cores 1 2] [--seconds 220]``

HTTPS, thousands of host names, latencies of 50 ms to 5 s, a tenth of the hosts dead, one host with 30% of all URLs.
That host alone, at the two requests a second that politeness allows, takes longer than all others together: what is
reported is the time until those others were done, which is when the allowed rate lets the detector be busy, and the
share of that time in which no detector ran, over all batches with their ends. The server's log says how polite the job
was. A second row is the same job on plain HTTP from one host without politeness.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import sys
import tempfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from benchmarks.common import pictures
from benchmarks.common.nginx import Nginx
from benchmarks.common.race import Contender, Run, run_contender
from benchmarks.contenders.contender import Task
from benchmarks.peers import IMPOLITE
from benchmarks.simweb import SimulatedWeb, least_pause, most_at_once, too_early
from cortex_spark.console import err, out
from cortex_spark.detect import Model, resolve_model

_PREFIX: Final = "CORTEX_"


@dataclass(frozen=True)
class Figures:
    """What one job reached, from its first finished picture to the end of ``seconds``."""

    pictures: int
    seconds: float
    batches: int
    idle: float | None  # share of the time in which no detector ran
    first_row: float | None  # seconds from the job's start to the first commit
    cpu_per_1000: float  # CPU-seconds of the whole call, tables included
    outcomes: dict[str, int]

    @property
    def rate(self) -> float:
        """Pictures per second."""
        return self.pictures / self.seconds


def figures(run: Run, largest: str | None) -> Figures:
    """From the attempts that were committed; what the host ``largest`` does after all others is left out."""
    attempts: list[tuple[float, int, str, str]] = [tuple(row) for row in run.said["attempts"]]
    others = [at for at, _, host, outcome in attempts if outcome == "ok" and host != largest]
    if not others:
        raise SystemExit("no batch was committed in that time: raise --seconds, or make batches smaller")
    start, end = min(others), max(others)
    done = [at for at, _, _, outcome in attempts if outcome == "ok" and start <= at <= end]
    busy = run.said["busy"]
    idle = 1 - (_value(busy, end) - _value(busy, start)) / (end - start) if busy and busy[-1][1] else None
    first_row = run.said["first_row"]
    return Figures(
        pictures=len(done),
        seconds=end - start,
        batches=len({batch for at, batch, _, _ in attempts if at <= end}),
        idle=idle,
        first_row=first_row - run.said["begun"] if first_row is not None else None,
        cpu_per_1000=run.cpu_per_1000,
        outcomes=dict(Counter(outcome for _, _, _, outcome in attempts)),
    )


def _value(timeline: Sequence[Sequence[float]], moment: float) -> float:
    """Of a growing number that was looked at now and then, interpolated."""
    place = bisect_right([at for at, _ in timeline], moment)
    if place in (0, len(timeline)):
        return timeline[min(place, len(timeline) - 1)][1]
    (before, low), (after, high) = timeline[place - 1], timeline[place]
    return low + (high - low) * (moment - before) / (after - before)


class Jobs:
    """Runs ``cortex label`` on several webs and numbers of cores."""

    def __init__(self, options: argparse.Namespace, model: Model, folder: Path) -> None:
        self._options = options
        self._model = folder / "model"
        self._model.write_bytes(pickle.dumps(model))
        self._all = os.sched_getaffinity(0)

    def label(self, urls: list[str], cores: int, settings: dict[str, Any], server: int) -> Run:
        """One job on ``cores`` cores; the server has them all."""
        os.sched_setaffinity(0, sorted(self._all)[:cores])
        try:
            settings = {"seconds": self._options.seconds, "batch": self._options.batch, **settings}
            task = Task(urls, [], cores, str(self._model), settings=settings)
            return run_contender(Contender("cortex label", "cortex"), task, Path(sys.executable), {server}, list)
        finally:
            os.sched_setaffinity(0, self._all)


def simulated(jobs: Jobs, options: argparse.Namespace, bodies: list[bytes], cores: int) -> tuple[Figures, list[str]]:
    """Over the simulated web; the figures, and what its log says."""
    with SimulatedWeb(hosts=options.hosts, urls=options.urls, seed=options.seed, pictures=bodies) as web:
        settings = {name.removeprefix(_PREFIX).lower(): value for name, value in web.environment().items()}
        settings["host_cap"] = options.host_cap
        run = jobs.label(web.urls(), cores, settings, web.process)
        log, largest = web.log(), web.sites[0].host
        once, pauses = most_at_once(log), least_pause(log)
        names = len({query.name for query in web.queries()})
        said = [
            f"{len(log):,} requests to {len(once):,} hosts, {len(web.queries()):,} DNS queries for {names:,} names",
            f"most at once at one host: {max(once.values())}; shortest pause at one host:"
            f" {min(pauses.values(), default=float('nan')):.3f} s; during a Retry-After: {len(too_early(log))}",
            f"the server used {web.cpu_seconds():.1f} CPU-s of the same cores",
        ]
    return figures(run, largest), said


def from_one_host(jobs: Jobs, options: argparse.Namespace, bodies: list[bytes], cores: int) -> Figures:
    """Plain HTTP from nginx at one address."""
    with Nginx(bodies) as server:
        run = jobs.label(server.urls(options.plain_urls), cores, dict(IMPOLITE), server.process)
    return figures(run, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pictures.add_options(parser)
    parser.add_argument("--model", default="shipped")
    parser.add_argument("--hosts", type=int, default=2000)
    parser.add_argument("--urls", type=int, default=10_000)
    parser.add_argument("--plain-urls", type=int, default=2000, help="of the one host")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1000, help="URLs per batch (default: %(default)s)")
    parser.add_argument("--host-cap", type=int, default=250, help="URLs of one host per batch")
    parser.add_argument("--cores", type=int, nargs="*", default=[len(os.sched_getaffinity(0))])
    parser.add_argument("--seconds", type=float, default=220, help="a job is ended then, what is committed counts")
    parser.add_argument("--only", choices=["simulated", "plain"], help="one of the two rows")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    bodies = pictures.from_options(options)
    model = resolve_model(options.model)
    err.print(model.describe())
    rows: dict[str, Figures] = {}
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        jobs = Jobs(options, model, Path(folder))
        for cores in options.cores:
            if options.only != "plain":
                rows[f"simulated web, {cores} cores"], said = simulated(jobs, options, bodies, cores)
                notes += said
            if options.only != "simulated":
                rows[f"plain HTTP, one host, {cores} cores"] = from_one_host(jobs, options, bodies, cores)
    table = Table("", "pictures/s", "detector idle", "over", "batches", "first row", "CPU-s/1,000")
    for name, row in rows.items():
        table.add_row(
            name,
            f"{row.rate:.1f}",
            f"{row.idle:.0%}" if row.idle is not None else "?",
            f"{row.seconds:.0f} s",
            str(row.batches),
            f"{row.first_row:.1f} s" if row.first_row is not None else "?",
            f"{row.cpu_per_1000:.1f}",
        )
    out.print(table)
    for line in [*notes, *(f"{name}: {row.outcomes}" for name, row in rows.items())]:
        out.print(line)
    if options.json is not None:
        options.json.write_text(json.dumps({name: vars(row) for name, row in rows.items()}, indent=1))


if __name__ == "__main__":
    main()
