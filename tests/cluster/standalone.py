"""A real Spark standalone cluster on loopback: a master and workers, each a process group of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil
import pyspark

from cortex_spark.jvm import delta_jars
from cortex_spark.session import QUICK_JVM

ROOT: Final = Path(__file__).parents[2]
SPARK: Final = Path(pyspark.__file__).parent
_START_SECONDS: Final = 120.0

# Small enough for two cores: an executor of one core in each worker, and few partitions for few rows.
_SMALL: Final = {
    "spark.executor.cores": "1",
    "spark.executor.memory": "1g",
    "spark.driver.memory": "1g",
    "spark.driver.host": "127.0.0.1",
    "spark.executor.extraJavaOptions": QUICK_JVM,
    "spark.ui.enabled": "false",
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "2",
    # The jars come from the folder of the machine: a test needs no network.
    "spark.jars.packages": "",
}


class Node:
    """One process of the cluster and everything that it has started."""

    def __init__(self, log: Path, program: str, *arguments: str, **environment: str) -> None:
        self._log = log
        settings = {
            "SPARK_HOME": str(SPARK),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_DAEMON_MEMORY": "512m",
            "SPARK_DAEMON_JAVA_OPTS": QUICK_JVM,
            "PYSPARK_PYTHON": sys.executable,
        }
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [str(SPARK / "bin" / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **settings, **environment},
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """Its output so far."""
        return self._log.read_text(errors="replace")

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def wait(self) -> str:
        """Its output, when it has ended well."""
        if self._process.wait() != 0:
            raise RuntimeError(f"{self._log.name}: exit status {self._process.returncode}\n{self.said}")
        return self.said

    def wait_for(self, pattern: str) -> str:
        """The first group of ``pattern`` in what the process says, as soon as it says it."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and not self.ended:
            if found := re.search(pattern, self.said):
                return found[1]
            time.sleep(0.1)
        raise RuntimeError(f"{self._log.name}: no {pattern!r} in\n{self.said}")

    def processes(self) -> list[psutil.Process]:
        """The process and its descendants: executors, their Python workers. They are one session."""
        members = []
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getsid(process.pid) == self._process.pid:
                    members.append(process)
        return members

    def talks_to(self, port: int) -> bool:
        """Whether one of the processes has a connection to ``port``."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                connections = process.net_connections("tcp")
                # A socket that listens has no other side.
                if any(c.raddr[-1:] == (port,) and c.status == psutil.CONN_ESTABLISHED for c in connections):
                    return True
        return False

    def kill(self) -> None:
        """SIGKILL to all of it, until nothing is left."""
        while processes := [p for p in self.processes() if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]:
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            time.sleep(0.05)
        self._process.wait()


class Cluster:
    """A master and ``workers`` of one core each, under ``folder``; a context manager."""

    def __init__(self, folder: Path, workers: int) -> None:
        self._folder = folder
        self._number = workers
        self._nodes: list[Node] = []
        self.master = ""
        self.workers: list[Node] = []

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._kill()
            raise
        return self

    def _start(self) -> None:
        anywhere = ("--host", "127.0.0.1", "--port", "0", "--webui-port", "0")
        master = Node(self._folder / "master.log", "spark-class", "org.apache.spark.deploy.master.Master", *anywhere)
        self._nodes.append(master)
        self.master = master.wait_for(r"Starting Spark master at (spark://\S+)")
        for number in range(self._number):
            name = f"worker-{number}"
            worker = Node(
                self._folder / f"{name}.log",
                *("spark-class", "org.apache.spark.deploy.worker.Worker", *anywhere, "--cores", "1", "--memory", "1g"),
                *("--work-dir", str(self._folder / name), self.master),
            )
            self._nodes.append(worker)
            self.workers.append(worker)
        for worker in self.workers:
            worker.wait_for(r"(Successfully registered with master)")

    def submit(self, job: str, *arguments: str, **environment: str) -> Node:
        """``spark-submit jobs/JOB.py ARGUMENTS`` with the settings of conf/standalone.conf."""
        settings = [word for key, value in _SMALL.items() for word in ("--conf", f"{key}={value}")]
        driver = Node(
            self._folder / f"{job}.log",
            "spark-submit",
            *("--master", self.master, "--properties-file", str(ROOT / "conf" / "standalone.conf"), *settings),
            *("--jars", ",".join(map(str, delta_jars())), str(ROOT / "jobs" / f"{job}.py"), *arguments),
            **environment,
        )
        self._nodes.append(driver)
        return driver

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()

    def _kill(self) -> None:
        for node in reversed(self._nodes):
            node.kill()
