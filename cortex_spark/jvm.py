"""What has to be there before the JVM starts: a Java that Spark accepts, and Delta Lake's jars.

The jars are fetched once by their Maven coordinates, then taken from a folder, without a network.
"""

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import pyspark

from cortex_spark.console import err
from cortex_spark.errors import CortexError

_MINIMUM_JAVA = 17

_DELTA = version("delta-spark")
_SPARK = ".".join(pyspark.__version__.split(".")[:2])

DELTA_PACKAGE = f"io.delta:delta-spark_{_SPARK}_2.13:{_DELTA}"
"""Maven coordinates of the Delta Lake that belongs to the installed pyspark and delta-spark."""

# All that Delta tables need beside pyspark's own 276 jars, 9.6 MB. With dependencies Maven would bring 87 MB: older
# copies of Hadoop, Parquet, Jackson and zstd that Spark has, and a Unity Catalog client that is not used here.
_PACKAGES = (DELTA_PACKAGE, f"io.delta:delta-storage:{_DELTA}")
_MEGABYTES = 10

# How a whole archive of classes begins (its header is written last); after so long nobody is writing at it any more.
_ARCHIVE_MAGIC = (0xF00BABA8).to_bytes(4, sys.byteorder)
_ARCHIVE_SECONDS = 30
# Archives of a Java or a Spark that nobody starts any more.
_UNUSED_SECONDS = 60 * 86400
# JVMs that may be killed while they write theirs, as where a container ends with its command.
_MAX_TRIES = 5
# Where Java takes options from beside the command line; those that do not go with an archive; folders that do.
_JAVA_OPTIONS = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "SPARK_SUBMIT_OPTS")
_UNPLAIN = re.compile("share|archive|aot|align|compressed|module|agent", re.IGNORECASE)
_PLAIN_PATH = re.compile(r"[\w./@+=~,-]+")

# Only Maven Central and the machine's own Maven folder; Spark's default asks a second server that holds none of these.
_SETTINGS = """\
<ivysettings>
  <settings defaultResolver="chain"/>
  <resolvers>
    <chain name="chain">
      <ibiblio name="local" m2compatible="true" root="file:${user.home}/.m2/repository"/>
      <ibiblio name="central" m2compatible="true"/>
    </chain>
  </resolvers>
</ivysettings>
"""


def check_java() -> str:
    """Returns what Java says of its version, and refuses one that Spark 4.2 does not start on, before Spark does.

    Spark would print a screen about it. The Java looked at is the one that Spark's scripts take:
    ``$JAVA_HOME/bin/java``, else ``java`` on the path.

    Raises:
        CortexError: there is none, it is older than 17, or it is a trimmed one without ``jdk.incubator.vector``.
    """
    remedy = f"install a full JDK or JRE of version {_MINIMUM_JAVA} or newer and point JAVA_HOME at it"
    where = f"JAVA_HOME ({home})" if (home := os.environ.get("JAVA_HOME")) else "the PATH"
    try:
        # The wanted module is part of the question, so that the usual start costs one call.
        answer = _run_java("--add-modules", "jdk.incubator.vector", "-version")
        complete = answer.returncode == 0
        if not complete:
            answer = _run_java("-version")
    except OSError as error:
        raise CortexError(f"Spark needs Java, and there is none at {where}: {remedy}.") from error
    found = re.search(r'version "(?:1\.)?(\d+)', answer.stderr)
    if answer.returncode != 0 or found is None:
        raise CortexError(f"Spark needs Java, and the one at {where} does not start: {remedy}.")
    if int(found[1]) < _MINIMUM_JAVA:
        raise CortexError(f"Spark needs Java {_MINIMUM_JAVA}, and the one at {where} is Java {found[1]}: {remedy}.")
    if not complete:
        raise CortexError(
            f"Spark needs Java's module jdk.incubator.vector, which the trimmed Java at {where} lacks: {remedy}."
        )
    return answer.stderr


def _run_java(*arguments: str) -> subprocess.CompletedProcess[str]:
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else "java"
    return subprocess.run([java, *arguments], capture_output=True, text=True, check=False)


def jar_folder() -> Path:
    """The folder that keeps the jars: ``$CORTEX_JARS``, else one in the user's cache folder."""
    if chosen := os.environ.get("CORTEX_JARS"):
        return Path(chosen).absolute()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "cortex-spark" / "jars"


def class_archive(java: str, told: str) -> str:
    """Returns the JVM options by which Spark's classes come out of an archive (class data sharing), read and verified.

    Where there is none yet, this JVM leaves one beside the jars (190 MB) while it ends, some seconds after the command,
    and half a minute later a start takes it. By hand, on 2 slow cores: a session and its first Delta table in 19 s
    instead of 28 (36 for the one that leaves it). A JVM that an archive does not fit ignores it, but one that cannot
    leave an archive may refuse to start: so only plain ones are asked to, and not for ever if nothing comes of it.

    Args:
        java: what ``check_java`` returned.
        told: all options that somebody else gives this JVM.
    """
    folder, spark = jar_folder(), Path(pyspark.__file__).parent
    # A folder of settings cannot be archived, and another Spark has other classes.
    named = ("SPARK_HOME", "SPARK_CONF_DIR", "HADOOP_CONF_DIR", "YARN_CONF_DIR", "SPARK_DIST_CLASSPATH")
    has_settings = any(map(os.environ.get, named)) or (spark / "conf").exists()
    told = " ".join([told, *(os.environ.get(name, "") for name in _JAVA_OPTIONS)])
    if "sharing" not in java or has_settings or _UNPLAIN.search(told) or not _PLAIN_PATH.fullmatch(str(folder)):
        return ""
    with contextlib.suppress(OSError):
        jars = sorted((jar.name, jar.stat().st_size, jar.stat().st_mtime_ns) for jar in (spark / "jars").iterdir())
        key = hashlib.sha256(repr((java, str(spark), jars)).encode()).hexdigest()[:16]
        archive, tries = folder / f"classes-{key}.jsa", folder / f"classes-{key}.tries"
        for other in folder.glob("classes-*"):
            age = time.time() - other.stat().st_mtime
            if other.match(f"classes-{key}.*.left") and age > _ARCHIVE_SECONDS:
                with other.open("rb") as file:
                    whole = file.read(len(_ARCHIVE_MAGIC)) == _ARCHIVE_MAGIC
                other.unlink() if archive.exists() or not whole else other.replace(archive)
            elif age > _UNUSED_SECONDS:
                other.unlink()
        quiet = "-Xlog:cds=off,cds+dynamic=off,class+path=off"
        if archive.exists():
            with contextlib.suppress(OSError):  # a folder that is only read
                os.utime(archive)
            return f"{quiet} -XX:SharedArchiveFile={archive}"
        if not tries.exists() or tries.stat().st_size < _MAX_TRIES:
            with tries.open("a") as file:
                file.write(".")
            return f"{quiet} -XX:ArchiveClassesAtExit={folder / f'classes-{key}.{os.getpid()}.left'}"
    return ""


def delta_jars(ivy_settings: str | None = None) -> list[Path]:
    """Returns the paths of Delta's jars, after fetching those that are not there yet.

    Args:
        ivy_settings: an Ivy settings file that names another repository; by default ``$CORTEX_IVY_SETTINGS``, else
            Maven Central is asked.

    Raises:
        CortexError: they are not there and cannot be fetched.
    """
    folder = jar_folder()
    jars = [folder / "{1}-{2}.jar".format(*package.split(":")) for package in _PACKAGES]
    if not all(jar.is_file() for jar in jars):
        err.print(f"fetching Delta's jars ({_MEGABYTES} MB, once)")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="fetch-") as scratch:
            _fetch(Path(scratch), ivy_settings or os.environ.get("CORTEX_IVY_SETTINGS"))
            for jar in jars:
                # A rename is atomic: of two processes that fetch at once, both end with whole files.
                (Path(scratch) / "jars" / jar.name).replace(jar)
    return jars


def _fetch(scratch: Path, ivy_settings: str | None) -> None:
    if ivy_settings is None:
        settings = scratch / "ivysettings.xml"
        settings.write_text(_SETTINGS)
    else:
        settings = Path(ivy_settings)
    dependencies = "".join(
        '<dependency org="{}" name="{}" rev="{}" transitive="false" conf="default->default"/>'.format(*p.split(":"))
        for p in _PACKAGES
    )
    module = scratch / "ivy.xml"
    module.write_text(
        '<ivy-module version="2.0"><info organisation="cortex" module="jars"/>'
        '<configurations><conf name="default"/></configurations>'
        f"<dependencies>{dependencies}</dependencies></ivy-module>"
    )
    # fmt: off
    answer = _run_java(
        "-cp", str(Path(pyspark.__file__).parent / "jars" / "*"), "org.apache.ivy.Main", "-error",
        "-settings", str(settings), "-ivy", str(module), "-cache", str(scratch / "cache"),
        "-types", "jar", "-retrieve", str(scratch / "jars" / "[artifact]-[revision].[ext]"),
    )
    # fmt: on
    if answer.returncode != 0:
        said = [line.strip() for line in (answer.stdout + answer.stderr).splitlines() if line.strip(" .")]
        raise CortexError(
            f"Delta's jars ({', '.join(_PACKAGES)}) cannot be fetched ({said[-1] if said else 'no answer'}): connect"
            " once to a network that reaches Maven Central, or name an Ivy settings file with your mirror in"
            " CORTEX_IVY_SETTINGS."
        )
