"""Environments of the peers: made once, of pinned public packages, outside of the repository."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Final

from cortex_spark.console import err

#: The modules that our detector function needs where it runs inside of a peer: in the versions that this interpreter
#: has, so that both sides run the very same code.
_OURS: Final = ("numpy", "cv2", "openvino", "PIL", "yaml", "pydantic", "pydantic_settings", "rich")

#: Requirements by peer; ``*`` stands for what has _OURS.
PEERS: Final[dict[str, tuple[str, ...]]] = {
    "daft": ("daft==0.7.26", "*"),
    "ray": ("ray[data]==2.60.0", "requests==2.34.2", "*"),
    "img2dataset": ("img2dataset==1.47.0",),
    "cc2dataset": ("cc2dataset==1.5.0",),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The option ``--peers-dir``."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument(
        "--peers-dir", type=Path, default=cache / "cortex" / "benchmarks", help="where peers are installed, once"
    )


def python_of(peer: str, folder: Path) -> Path:
    """The interpreter of ``peer``'s environment below ``folder``, which is made if it is not there.

    Ends the program if it cannot be made.
    """
    requirements = _requirements(peer)
    digest = hashlib.sha256("\n".join((sys.version, *requirements)).encode()).hexdigest()[:8]
    environment = folder / f"{peer}-{digest}"
    python = environment / "bin" / "python"
    if (environment / "complete").exists():
        return python
    err.print(f"making the environment of {peer} in {environment} (once): {' '.join(requirements)}")
    shutil.rmtree(environment, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "venv", str(environment)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements],
    ):
        if subprocess.run(command, check=False).returncode != 0:
            raise SystemExit(f"the environment of {peer} could not be made: {' '.join(command)}")
    (environment / "complete").touch()
    return python


def _requirements(peer: str) -> tuple[str, ...]:
    named = packages_distributions()  # OpenCV comes in packages of several names
    ours = tuple(f"{named[module][0]}=={version(named[module][0])}" for module in _OURS)
    return tuple(one for name in PEERS[peer] for one in (ours if name == "*" else (name,)))
