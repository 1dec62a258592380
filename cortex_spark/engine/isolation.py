"""Decoding where it cannot hurt: in a child process that may crash or be killed."""

from __future__ import annotations

import concurrent.futures
import math
import multiprocessing
import signal
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import cloudpickle
from pebble import ProcessExpired, ProcessPool

from cortex_spark.measure import BadPictureError, Picture

Decode = Callable[[bytes], Picture]


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
            if self._pool is None:
                # A fresh interpreter: a fork of a process with threads may inherit a lock that nobody releases.
                self._pool = ProcessPool(max_workers=1, context=multiprocessing.get_context("spawn"))
                self._pool.schedule(_nothing).result()  # the child's start is not the picture's time
            future = self._pool.schedule(_run, args=[self._decode, body, self._timeout], timeout=self._timeout)
            try:
                return future.result()
            except concurrent.futures.TimeoutError:
                raise BadPictureError("decoder_hang", f"no picture after {self._timeout:g} s") from None
            except ProcessExpired as error:
                raise BadPictureError("decoder_crash", f"the decoder's process ended with {error.exitcode}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.stop()  # type: ignore[no-untyped-call]
            self._pool.join()


def _nothing() -> None:
    pass


def _run(decode: bytes, body: bytes, timeout: float) -> Picture:
    # If the worker dies meanwhile nobody is left to stop a decoder that hangs: then the kernel does.
    signal.alarm(math.ceil(timeout) + 5)
    result: Picture = cloudpickle.loads(decode)(body)
    return result
