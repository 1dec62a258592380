"""jobs/*.py are the ``cortex`` commands of the same name, for spark-submit."""

import subprocess
import sys
from pathlib import Path

import pytest

JOBS = sorted((Path(__file__).parents[1] / "jobs").glob("*.py"))


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_a_job_takes_the_options_of_its_command(job: Path) -> None:
    # jobs/cortex.py takes any command.
    words, command = ([str(job), "forget"], "forget") if job.stem == "cortex" else ([str(job)], job.stem)
    by_job, by_command = (
        subprocess.run([sys.executable, *words, "--help"], capture_output=True, text=True, check=True).stdout
        for words in (words, ["-m", "cortex_spark.cli", command])
    )
    assert "--warehouse" in by_job
    # The first line names the program.
    assert by_job.splitlines()[2:] == by_command.splitlines()[2:]
