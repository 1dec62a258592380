"""What the benchmarks measure with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.common.pictures import load
from benchmarks.common.usage import Meter
from benchmarks.web import _value

_BURN = """
import subprocess, sys, time
if sys.argv[1:]:
    child = subprocess.Popen([sys.executable, __file__, *sys.argv[2:]])
while time.process_time() < 0.5:
    pass
sys.stdin.readline()
"""


def test_pictures_are_re_encoded(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (60, 80, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), noise)
    cv2.imwrite(str(tmp_path / "b.png"), noise.transpose(1, 0, 2))
    (tmp_path / "c.txt").write_text("no picture")
    assert [body[:4] for body in load(tmp_path)] == [b"\x89PNG", b"\x89PNG", b"no p"]
    wide, high = (cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR) for body in load(tmp_path, side=400))
    assert wide is not None
    assert high is not None
    assert (wide.shape, high.shape) == ((300, 400, 3), (400, 300, 3))
    low, best = (sum(map(len, load(tmp_path, side=400, quality=quality))) for quality in (20, 95))
    assert low < best


def test_meter_counts_descendants_and_orphans(tmp_path: Path) -> None:
    program = tmp_path / "burn.py"
    program.write_text(_BURN)
    with Meter() as meter:
        before = meter.look()  # of what other tests have started
        # Its own half second, and that of its child, which outlives it.
        process = subprocess.Popen([sys.executable, str(program), "child"], stdin=subprocess.PIPE)
        assert process.stdin is not None
        while meter.look() - before < 0.9:
            assert process.poll() is None
        with Meter(without=[process.pid]) as blind:
            assert meter.look() - blind.look() > 0.8
        process.kill()
        process.wait()
        process.stdin.close()
        assert meter.look() - before >= 0.9


@pytest.mark.parametrize(("moment", "value"), [(0, 1), (1, 1), (2, 2), (3, 3), (4, 5), (5, 7), (9, 7)])
def test_values_between_looks(moment: float, value: float) -> None:
    assert _value([(1, 1), (3, 3), (5, 7)], moment) == value
