"""Decoders with planted faults: they crash, hang or count on pictures that the test names by their hash."""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass

from cortex_spark.measure import Picture, measure


@dataclass(frozen=True)
class PlantedDecoder:
    """``faults``: sha256 of a picture to ``crash`` or ``hang``; ``slow``: seconds that every picture takes."""

    faults: Mapping[str, str]
    slow: float = 0.0

    def __call__(self, body: bytes) -> Picture:
        """Decode, or do what is planted."""
        time.sleep(self.slow)
        fault = self.faults.get(hashlib.sha256(body).hexdigest())
        if fault == "crash":
            signal.raise_signal(signal.SIGSEGV)  # in this thread, as a fault does: by os.kill it may go on for a while
        if fault == "hang":
            time.sleep(3600)
        return measure(body, max_pixels=10**8)
