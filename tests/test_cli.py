"""The command line: help, and errors that people can read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def cortex(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cortex_spark.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "100", **environment},
    )


@pytest.mark.parametrize("command", ["extract", "ingest", "label", "query", "export", "stats", "forget", "demo"])
def test_every_command_has_help(command: str) -> None:
    asked = cortex(command, "--help")
    assert asked.returncode == 0
    assert "--warehouse" in asked.stdout


def test_unknown_option_is_named() -> None:
    asked = cortex("label", "--modle", "x")
    assert asked.returncode == 2
    assert "--modle" in asked.stderr
    assert "Traceback" not in asked.stderr


def test_a_setting_that_cannot_be_is_named() -> None:
    asked = cortex("label", "--model", "shipped", CORTEX_CONNECTIONS="0")
    assert asked.returncode == 1
    assert "connections" in asked.stderr
    assert "Traceback" not in asked.stderr


def test_errors_have_a_stack_trace_only_when_asked_for(tmp_path: Path) -> None:
    """A warehouse that cannot be written, and one run of the whole command with nothing to do."""
    (tmp_path / "file").touch()
    asked = cortex("label", "--model", "shipped", "--warehouse", str(tmp_path / "file"))
    assert asked.returncode == 1
    assert "error:" in asked.stderr
    assert not [line for line in asked.stderr.splitlines() if line.startswith(("Traceback", "\tat "))]
    debugged = cortex("--debug", "label", "--model", "no/such.pt", "--warehouse", str(tmp_path / "warehouse"))
    assert "Traceback" in debugged.stderr
    nothing = cortex("label", "--model", "shipped", "--json", "--warehouse", str(tmp_path / "warehouse"))
    assert nothing.returncode == 0, nothing.stderr
    report = json.loads(nothing.stdout)
    assert (report["urls"], report["known"], report["waiting"]) == (0, 0, 0)
