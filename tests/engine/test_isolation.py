"""The decoder in a child process, which may die at any time."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from cortex_spark.engine.isolation import IsolatedDecoder
from cortex_spark.measure import BadPictureError, Picture

NOTHING = Picture("0" * 64, "jpeg", 1, 1, 1, [], np.zeros((1, 1, 3), np.uint8))


def _decode(body: bytes) -> Picture:
    if body.startswith(b"/"):
        Path(os.fsdecode(body)).write_text(str(os.getpid()))
    elif body == b"dies":
        os.kill(os.getpid(), signal.SIGKILL)
    return NOTHING


def test_a_child_waits_for_its_next_picture_as_long_as_it_takes() -> None:
    """An alarm ends what hangs, and nothing else."""
    with IsolatedDecoder(_decode, 2) as decode:
        decode(b"")
        time.sleep(8)  # the alarm comes after 2 s and 5
        assert decode(b"").width == 1


def test_a_child_that_died_while_it_had_nothing_to_do_costs_no_picture(tmp_path: Path) -> None:
    with IsolatedDecoder(_decode, 5) as decode:
        told = tmp_path / "process"
        decode(os.fsencode(told))
        os.kill(int(told.read_text()), signal.SIGKILL)
        time.sleep(1)
        assert decode(b"").width == 1
        with pytest.raises(BadPictureError) as bad:
            decode(b"dies")
        assert bad.value.outcome == "decoder_crash"
        assert decode(b"").width == 1
