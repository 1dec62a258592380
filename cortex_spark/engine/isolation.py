"""Decoding where it cannot hurt: in a child process that may crash or be killed."""

from __future__ import annotations

import concurrent.futures
import math
import multiprocessing
import signal
import threading
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Final, Self

import cloudpickle
from pebble import ProcessExpired, ProcessPool

from cortex_spark.measure import BadPictureError, Picture

Decode = Callable[[bytes], Picture]

#: Children that one picture may cost.
_TRIES: Final = 3


class IsolatedDecoder:
    """One child process, started when it is first needed and again after each crash."""

    def __init__(self, decode: Decode, timeout: float) -> None:
        self._decode = cloudpickle.dumps(decode)
        self._timeout = timeout
        self._pool: ProcessPool | None = None
        self._lock = threading.Lock()

    def __call__(self, body: bytes) -> Picture:
        """Decode ``body``.

        Raises BadPictureError: the decoder's own, ``decoder_crash`` where the child died, ``decoder_hang`` where it was
        killed.
        """
        with self._lock:  # one at a time: the pictures that come here are few, and suspect
            for tries in range(1, _TRIES + 1):
                try:
                    future = self._started().schedule(
                        _run, args=[self._decode, body, self._timeout], timeout=self._timeout
                    )
                except (RuntimeError, ProcessExpired):  # the child died idle, or as it started: its pool is of no use
                    self._stop()
                    if tries == _TRIES:  # none starts, which no picture is to blame for
                        raise
                    continue
                try:
                    return future.result()
                except concurrent.futures.TimeoutError:
                    raise BadPictureError("decoder_hang", f"no picture after {self._timeout:g} s") from None
                except ProcessExpired as error:
                    said = f"the decoder's process ended with {error.exitcode}"
                    raise BadPictureError("decoder_crash", said) from None
                except BrokenProcessPool:  # or before it was seen to have begun
                    self._stop()
            raise BadPictureError("decoder_crash", "the decoder's process ended as soon as it had the picture")

    def _started(self) -> ProcessPool:
        if self._pool is None:
            # A fresh interpreter: a fork of a process with threads may inherit a lock that nobody releases.
            self._pool = ProcessPool(max_workers=1, context=multiprocessing.get_context("spawn"))
            self._pool.schedule(_nothing).result()  # the child's start is not the picture's time
        return self._pool

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.stop()  # type: ignore[no-untyped-call]
            self._pool.join()
            self._pool = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()


def _nothing() -> None:
    pass


def _run(decode: bytes, body: bytes, timeout: float) -> Picture:
    # If the worker dies meanwhile nobody is left to stop a decoder that hangs: then the kernel does.
    signal.alarm(math.ceil(timeout) + 5)
    try:
        result: Picture = cloudpickle.loads(decode)(body)
        return result
    finally:
        signal.alarm(0)
