"""Folders on this machine's own disk that outlive a process and belong to one user."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from cortex_spark.errors import CortexError


def local_folder(purpose: str) -> Path:
    """A folder for ``purpose``; what lies in it is trusted, so it is refused if somebody else owns it."""
    root = Path(tempfile.gettempdir()) / f"cortex-{purpose}-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    if root.stat().st_uid != os.getuid():
        raise CortexError(f"{root} belongs to another user; set TMPDIR to a folder of your own")
    return root
