"""The GPU path: the bare detector at several batch sizes, and the floor loop around it, with utilisation and memory.

``python -m benchmarks.gpu --pictures FOLDER --side 1300 --model FILE.pt [--device cuda:0]``. Where there is no GPU it
ends with that message; ``--device cpu`` runs the same code in float32 on the CPU, which shows that it runs and nothing
about a GPU's speed.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import cv2
from rich.table import Table

from benchmarks.common.pictures import add_options, from_options
from benchmarks.common.usage import cores
from benchmarks.floor import Arrangement, floor, ready
from cortex_spark.console import err, out
from cortex_spark.detect import load_detector, resolve_model
from cortex_spark.detect.base import Detector, Prepared

_BATCHES = (1, 8, 16, 32, 64, 128, 256)
_PAUSE = 0.1


@dataclass
class Watch:
    """Samples a GPU's utilisation while ``with`` lasts; nothing on a CPU."""

    device: Any
    percent: list[int] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        import torch

        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._thread = threading.Thread(target=self._sample, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _sample(self) -> None:
        import torch

        while not self._ended.wait(_PAUSE):
            self.percent.append(int(torch.cuda.utilization(self.device)))

    def said(self) -> list[str]:
        """Mean utilisation, utilisation over time in tenths of the run, peak memory of this process."""
        import torch

        if not self.percent:
            return ["-", "-", "-"]
        tenth = max(len(self.percent) // 10, 1)
        parts = [self.percent[first : first + tenth] for first in range(0, len(self.percent), tenth)]
        over_time = " ".join(f"{sum(part) / len(part):.0f}" for part in parts)
        memory = torch.cuda.max_memory_reserved(self.device) / 2**20
        return [f"{sum(self.percent) / len(self.percent):.0f}%", over_time, f"{memory:.0f} MiB"]


@dataclass(frozen=True)
class Result:
    """One row of the table."""

    what: str
    pictures: float  # per second
    busy: float  # share of the time in which the network ran, as the detector's own meter has it
    utilisation: str
    over_time: str
    memory: str


def bare(detector: Detector, prepared: Sequence[Prepared], batch: int, seconds: float, watch: Watch) -> Result:
    """The detector alone on letterboxed pictures, full batches."""
    detector.batch_size = batch
    pictures = [prepared[number % len(prepared)] for number in range(batch)]
    detector.detect(pictures)  # warm: kernels are chosen by shape
    count, at_work, started = 0, detector.meter.seconds, time.perf_counter()
    last = []
    with watch:
        while time.perf_counter() - started < seconds:
            last = detector.submit(pictures)
            count += batch
        for found in last:
            found.result()
    elapsed = time.perf_counter() - started
    busy = (detector.meter.seconds - at_work) / elapsed
    return Result(f"detector alone, batches of {batch}", count / elapsed, busy, *watch.said())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--model", required=True, help="a .pt, or a name that Ultralytics knows")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--batch", type=int, action="append", help=f"default: {_BATCHES}")
    parser.add_argument("--seconds", type=float, default=5.0, help="per batch size")
    parser.add_argument("--times", type=int, default=4, help="how often each picture comes in the floor loop")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    import torch

    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("no GPU here: torch.cuda.is_available() is False; --device cpu runs the same code on the CPU")
    if device.type == "cpu":
        err.print("[bold]on the CPU, in float32: this shows that the path runs; it is no figure of a GPU[/]")
    warnings.filterwarnings("ignore", module=r"PIL\.")
    cv2.setNumThreads(1)
    bodies = from_options(options)
    model = resolve_model(options.model, device="cuda", precision="f16" if device.type == "cuda" else "f32")
    detector = load_detector(model, device=options.device, threads=cores())
    usual = detector.batch_size
    prepared = [one[1] for body in bodies[: max(_BATCHES)] if (one := ready(body, None, detector)) and one[1]]
    results = [bare(detector, prepared, batch, options.seconds, Watch(device)) for batch in options.batch or _BATCHES]
    detector.batch_size = usual
    for scaled in (False, True):
        watch = Watch(device)
        with watch:
            arrangement = Arrangement(cores(), cores())
            loop = floor(bodies * options.times, model, arrangement, scaled=scaled, device=options.device, runs=1)
        what = f"floor, {cores()} decoders, {loop.decode} decode, batches of {usual}"
        results.append(Result(what, loop.pictures, loop.busy, *watch.said()))
    if options.json:
        out.print_json(json.dumps([asdict(result) for result in results]))
        return
    table = Table(f"{model.name}, {model.precision}", "pictures/s", "network busy", "GPU", "GPU over time, %", "memory")
    for result in results:
        cells = [f"{result.pictures:.1f}", f"{result.busy:.0%}", result.utilisation, result.over_time, result.memory]
        table.add_row(result.what, *cells)
    out.print(table)


if __name__ == "__main__":
    main()
