"""The command, in a process of its own with one core: it writes the bytes that two write."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cortex_spark.export.parquet import export
from cortex_spark.table import Warehouse

from .conftest import contents

COMMAND = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
from typer import Typer
from typer.testing import CliRunner
from cortex_spark.export.cli import export
app = Typer()
app.command()(export)
print(CliRunner().invoke(app, sys.argv[1:], catch_exceptions=False).stdout)
"""


@pytest.mark.soak
def test_one_core_writes_the_same_bytes(table: Warehouse, tmp_path: Path) -> None:
    arguments = ["--warehouse", table.root, "--q", '{"width": {"$gt": 40}}', "--shard-rows", "300", "--version", "1"]
    one = tmp_path / "one"
    told = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments, "--out", str(one), "--json"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    here = export(table, '{"width": {"$gt": 40}}', str(tmp_path / "two"), shard_rows=300, version=1)
    assert json.loads(told.stdout)["rows"] == here.rows > 300
    assert contents(one) == contents(tmp_path / "two")
