"""The whole labelling job beside its floor: the same work on the same pictures from memory, without Spark or network.

``python -m benchmarks.label --pictures FOLDER --side 1300 [--model NAME|PATH] [--decode full|scaled]``

The pictures come from a local nginx, politeness towards it is off. Runs alternate; Spark's start is given apart. The
job's figures from its first finished picture to its last leave out planning and the last commit, those of the whole
call have them.
"""

from __future__ import annotations

import argparse
from typing import Final

from rich.table import Table

from benchmarks.common import pictures, race
from benchmarks.common.race import Contender, Race, median
from benchmarks.common.usage import cores
from benchmarks.peers import HOSTS, OURS, whole_job
from cortex_spark.console import err, out
from cortex_spark.detect import resolve_model

_FLOOR: Final = "floor"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pictures.add_options(parser)
    race.add_options(parser, 2000)
    parser.add_argument("--model", default="shipped")
    parser.add_argument("--decode", choices=["full", "scaled"], default="full")
    parser.add_argument("--decoders", type=int, default=cores(), help="threads that decode for the floor")
    options = parser.parse_args()
    bodies = pictures.from_options(options)
    model = resolve_model(options.model, decode=options.decode)
    err.print(f"{len(bodies):,} pictures, {model.describe()}, {cores()} cores")
    floor = {"distinct": len(bodies), "decoders": options.decoders, "decode": options.decode}
    contest = Race(
        [
            Contender(_FLOOR, "floor_labels", floor),
            Contender(OURS, "cortex", whole_job(options.decode, options.count)),
        ],
        bodies,
        options,
        hosts=HOSTS,
    )
    contest.run(model)
    out.print(race.medians(contest.runs, OURS))
    if len(contest.runs) == 2:
        floors, jobs = contest.runs[_FLOOR], contest.runs[OURS]
        table = Table("the job, of its floor", "pictures/s", "CPU-seconds")
        for what, speed, cpu in (
            ("first to last picture", "steady_rate", "steady_cpu_per_1000"),
            ("whole call", "rate", "cpu_per_1000"),
        ):
            table.add_row(
                what,
                f"{median(jobs, speed) / median(floors, speed):.2f}",
                f"{median(jobs, cpu) / median(floors, cpu):.2f}",
            )
        out.print(table)


if __name__ == "__main__":
    main()
