"""What a contender is told, and what it says: JSON lines, that the race's clock listens to.

Standard library only, and importable in every environment.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Task:
    """What is to be done."""

    urls: list[str]
    warm_urls: list[str]  # for getting ready: models loaded, caches filled
    cores: int
    model: str | None = None  # a pickled cortex_spark.detect.Model; None: no detector
    weights: str | None = None  # the same model as Ultralytics knows it
    settings: dict[str, Any] = field(default_factory=dict)  # of this contender


@dataclass(frozen=True)
class Done:
    """What was done; ``times`` are the moments (``time.time()``) at which pictures were finished, if it knows them."""

    pictures: int
    times: list[float] = field(default_factory=list)
    boxes: int = 0
    said: dict[str, Any] = field(default_factory=dict)


#: The work: it returns what tells about it, after the clock has stopped.
Work = Callable[[], Callable[[], Done]]


def compete(prepare: Callable[[Task], Work]) -> None:
    """Run a contender: ``prepare`` gets ready and returns the work itself."""
    # What libraries print must not get between the lines.
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    task = Task(**json.loads(Path(sys.argv[1]).read_text()))
    work = prepare(task)
    lines.write(json.dumps({"event": "begin"}) + "\n")
    sys.stdin.readline()  # the clock runs
    told = work()
    lines.write(json.dumps({"event": "end"}) + "\n")
    sys.stdin.readline()
    lines.write(json.dumps(asdict(told())) + "\n")
    lines.close()
    os._exit(0)  # nothing that a library does at its end is of interest


def unpickled(path: str | None) -> Any:
    """The model of a task."""
    assert path is not None
    return pickle.loads(Path(path).read_bytes())
