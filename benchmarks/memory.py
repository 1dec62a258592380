"""Memory of the Python workers of ``cortex label`` over many pictures, looked at each second.

``python -m benchmarks.memory --pictures FOLDER --side 1300 --model NAME|PATH [--count 20000] --out memory.svg``

The pictures come from a local nginx, politeness towards it is off, batches are small: what a batch leaves behind would
add up. Prints, for each worker that lived long, how much it had after a tenth of its life and at its end; draws all of
them.
"""

from __future__ import annotations

import argparse
import pickle
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from rich.table import Table

from benchmarks.common import pictures
from benchmarks.common.nginx import Nginx
from benchmarks.common.race import Contender, run_contender
from benchmarks.common.usage import cores
from benchmarks.contenders.contender import Task
from benchmarks.peers import HOSTS, IMPOLITE
from cortex_spark.console import err, out
from cortex_spark.detect import resolve_model

_MIB: Final = 1 << 20
#: A worker of less than this share of the time is a helper that came and went.
_LONG: Final = 0.2

Course = list[tuple[float, float]]


def courses(samples: Sequence[tuple[float, int, str, int]]) -> dict[str, Course]:
    """MiB over seconds of each process that lived long, the JVM among them."""
    found: defaultdict[str, Course] = defaultdict(list)
    start = samples[0][0]
    for at, process, name, resident in samples:
        found[f"{name} {process}"].append((at - start, resident / _MIB))
    whole = samples[-1][0] - start
    return {name: course for name, course in found.items() if course[-1][0] - course[0][0] > _LONG * whole}


def draw(found: dict[str, Course], target: Path) -> None:
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 5))
    for name, course in found.items():
        axes.plot([at for at, _ in course], [size for _, size in course], label=name, linewidth=1)
    axes.set(xlabel="seconds", ylabel="resident MiB", ylim=(0, None), title="cortex label: memory by process")
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pictures.add_options(parser)
    parser.add_argument("--model", default="shipped")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=2000, help="URLs per batch")
    parser.add_argument("--out", type=Path, default=Path("memory.svg"), help="plot, .svg or .png")
    options = parser.parse_args()
    bodies = pictures.from_options(options)
    model = resolve_model(options.model)
    err.print(f"{options.count:,} pictures, {model.describe()}, {cores()} cores")
    with Nginx(bodies, HOSTS) as server, tempfile.TemporaryDirectory() as folder:
        pickled = Path(folder, "model")
        pickled.write_bytes(pickle.dumps(model))
        settings = {**IMPOLITE, "batch": options.batch}
        task = Task(server.urls(options.count), [], cores(), str(pickled), settings=settings)
        run = run_contender(
            Contender("cortex label", "cortex"), task, Path(sys.executable), {server.process}, server.times
        )
    found = courses(run.memory)
    draw(found, options.out)
    table = Table("process", "seconds", "MiB after a tenth", "MiB after a half", "MiB at the end", "most")
    for name, course in found.items():
        sizes = [size for _, size in course]
        cells = (sizes[len(sizes) // 10], sizes[len(sizes) // 2], sizes[-1], max(sizes))
        table.add_row(name, f"{course[-1][0] - course[0][0]:.0f}", *(f"{size:.0f}" for size in cells))
    table.caption = (
        f"{run.pictures:,} pictures, {run.rate:.1f}/s, {run.cpu_per_1000:.1f} CPU-s per 1,000 (whole call); "
        f"{run.steady_rate:.1f}/s, {run.steady_cpu_per_1000:.1f} (first to last); plot in {options.out}"
    )
    out.print(table)


if __name__ == "__main__":
    main()
