"""jobs/*.py are the ``cortex`` commands of the same name, for spark-submit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cortex_spark.cli import app

JOBS = sorted((Path(__file__).parents[1] / "jobs").glob("*.py"))


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_a_job_takes_the_options_of_its_command(job: Path) -> None:
    # jobs/cortex.py takes any command.
    words, command = ([str(job), "forget"], "forget") if job.stem == "cortex" else ([str(job)], job.stem)
    wide = {"COLUMNS": "100"}
    by_job = subprocess.run(
        [sys.executable, *words, "--help"], capture_output=True, text=True, check=True, env=os.environ | wide
    ).stdout
    by_command = CliRunner().invoke(app, [command, "--help"], env=wide).stdout
    assert "--warehouse" in by_job
    # The first line names the program.
    assert by_job.splitlines()[2:] == by_command.splitlines()[2:]
