"""``cortex label`` beside a plain loop, Daft and Ray Data: the same pictures from the same nginx, in the same run.

``python -m benchmarks.peers --pictures FOLDER --side 1300 --model OPENVINO_FOLDER --weights FILE.pt``

Daft and Ray Data run in environments of their own, with our detector function (the same weights and suppression) and
our measures, each in two forms: ``staged``, as their guides do it, downloads, decodes and detects in steps of their
own; the other has our whole function from bytes to boxes, in which decoding and the network overlap already. The plain
loop is ``requests`` and Ultralytics' ``predict`` on PyTorch in this environment.
Politeness towards the one machine is off. ``--tune`` tries several settings of Daft and Ray Data instead.
"""

from __future__ import annotations

import argparse
from typing import Any, Final

from benchmarks.common import pictures, race
from benchmarks.common.race import Contender, Race
from benchmarks.common.usage import cores
from cortex_spark.console import err, out
from cortex_spark.detect import resolve_model

HOSTS: Final = 8
OURS: Final = "cortex label"
BATCHES: Final = 2
#: No waiting between requests to a host: these hosts are ours.
IMPOLITE: Final = {"allow_private_hosts": "127.0.0.*", "host_connections": 16, "host_delay": 0}


def whole_job(decode: str, count: int) -> dict[str, object]:
    """Settings of ``cortex label`` for ``count`` pictures: two batches, since so many are at work at once."""
    return {**IMPOLITE, "decode": decode, "batch": max(count // BATCHES, 1)}


def contenders(decode: str, count: int) -> list[Contender]:
    """With the settings that suited each best, see ``--tune``."""
    daft: dict[str, Any] = {"workers": 1, "threads": cores(), "processes": True, "batch": 16, "connections": 32}
    ray: dict[str, Any] = {"workers": 1, "threads": cores(), "batch": 16, "connections": 16, "block": 64}
    return [
        Contender("plain loop", "loop", share=0.25),
        Contender("Daft, staged", "daft_udf", daft | {"staged": True}, "daft"),
        Contender("Daft, our whole function", "daft_udf", daft, "daft"),
        Contender("Ray Data, staged", "ray_data", ray | {"form": "staged"}, "ray"),
        Contender("Ray Data, our whole function", "ray_data", ray | {"form": "fused"}, "ray"),
        Contender(OURS, "cortex", whole_job(decode, count)),
    ]


def variations(batch: int) -> list[Contender]:
    """What is tried to find the best settings of the peers."""
    found = []
    for many, workers in (("one worker", 1), ("a worker per core", cores())):
        common: dict[str, Any] = {"workers": workers, "threads": cores() // workers, "batch": batch}
        for kind, processes in (("thread", False), ("process", True)):
            for staged in (False, True):
                settings = {**common, "processes": processes, "connections": 32, "staged": staged}
                found.append(Contender(f"Daft, {many}, {kind}{', staged' * staged}", "daft_udf", settings, "daft"))
        for form in ("fused", "apart", "staged"):
            settings = {**common, "connections": 16, "block": 4 * batch, "form": form}
            found.append(Contender(f"Ray Data, {many}, {form}", "ray_data", settings, "ray"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pictures.add_options(parser)
    race.add_options(parser, 480)
    parser.add_argument("--model", default="shipped", help="OpenVINO folder, .onnx or .pt: of all but the plain loop")
    parser.add_argument("--weights", help="the .pt of the plain loop, of the same network; without it, no plain loop")
    parser.add_argument("--decode", choices=["full", "scaled"], default="full", help="of all but the plain loop")
    parser.add_argument("--tune", type=int, metavar="BATCH", help="try settings of the peers with such batches")
    options = parser.parse_args()
    model = resolve_model(options.model, decode=options.decode)
    err.print(f"{model.describe()}, {cores()} cores")
    chosen = variations(options.tune) if options.tune else contenders(options.decode, options.count)
    chosen = [one for one in chosen if one.module != "loop" or options.weights]
    contest = Race(chosen, pictures.from_options(options), options, hosts=HOSTS)
    contest.run(model, options.weights)
    out.print(race.medians(contest.runs, OURS))


if __name__ == "__main__":
    main()
