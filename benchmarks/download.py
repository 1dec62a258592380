"""Download and measure only, without a detector: beside img2dataset, and beside the same measures from memory.

``python -m benchmarks.download --pictures FOLDER --side 1300``

All fetch the same addresses of the same nginx, politeness towards the one machine is off. img2dataset fetches and
hashes, without resizing, and writes nothing; with these settings it decodes each picture once all the same. With
``disable_all_reencoding`` it does not, and knows no width and height: the row "bytes only". Ours hashes, decodes and
measures (format, width, height, histogram), with a full and with a DCT-scaled decode: the engine alone (as a Spark task
runs it, a process for each core), and as ``cortex label --model none``, tables included. The floor measures what lies
in memory already.
"""

from __future__ import annotations

import argparse
from typing import Any, Final

from rich.table import Table

from benchmarks.common import pictures, race
from benchmarks.common.race import Contender, Race, median
from benchmarks.common.usage import cores
from benchmarks.peers import HOSTS, IMPOLITE, whole_job
from cortex_spark.console import err, out

_DECODES: Final = ("full", "scaled")
_IMG2DATASET: Final = {"threads": 32, "reencode": True, "format": "dummy", "shards": 1}


def contenders(distinct: int, count: int) -> list[Contender]:
    found = [
        Contender("img2dataset", "img2dataset_fetch", _IMG2DATASET, "img2dataset"),
        Contender("img2dataset, bytes only", "img2dataset_fetch", _IMG2DATASET | {"reencode": False}, "img2dataset"),
    ]
    for decode in _DECODES:
        settings: dict[str, Any] = {**IMPOLITE, "decode": decode}
        found += [
            Contender(f"floor, {decode}", "floor_loop", {"decode": decode, "distinct": distinct}),
            Contender(f"engine, {decode}", "engine", settings),
            Contender(f"cortex label, {decode}", "cortex", whole_job(decode, count)),
        ]
    return found


def variations() -> list[Contender]:
    """What is tried to find the best settings of img2dataset."""
    return [
        Contender(f"img2dataset {change}", "img2dataset_fetch", _IMG2DATASET | change, "img2dataset")
        for change in (
            {},
            {"threads": 16},
            {"threads": 64},
            {"threads": 256},
            {"shards": 4},
            {"format": "files"},
        )
    ]


def ratios(contest: Race) -> Table:
    """Ours to the floor and to img2dataset."""
    table = Table("from the first picture to the last", "of its floor", "of img2dataset", "CPU of its floor")
    for decode in _DECODES:
        for ours in (f"engine, {decode}", f"cortex label, {decode}"):
            beside = [contest.runs.get(name) for name in (f"floor, {decode}", "img2dataset")]
            if ours not in contest.runs:
                continue
            cells = [
                f"{median(contest.runs[ours], 'steady_rate') / median(runs, 'steady_rate'):.2f}" if runs else ""
                for runs in beside
            ]
            if beside[0]:
                ratio = median(contest.runs[ours], "steady_cpu_per_1000") / median(beside[0], "steady_cpu_per_1000")
                cells.append(f"{ratio:.2f}")
            table.add_row(ours, *cells)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pictures.add_options(parser)
    race.add_options(parser, 3000)
    parser.add_argument("--tune", action="store_true", help="try settings of img2dataset")
    options = parser.parse_args()
    bodies = pictures.from_options(options)
    err.print(f"{len(bodies)} pictures, {sum(map(len, bodies)) / len(bodies) / 1000:.0f} KB each, {cores()} cores")
    chosen = variations() if options.tune else contenders(len(bodies), options.count)
    contest = Race(chosen, bodies, options, hosts=HOSTS)
    contest.run()
    out.print(race.medians(contest.runs, "engine, scaled"))
    out.print(ratios(contest))


if __name__ == "__main__":
    main()
