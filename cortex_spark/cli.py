"""``cortex``: the command for people. Every command calls one function of the library; no logic lives here."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, Final

import typer
from pydantic import ValidationError
from rich.markup import escape
from typer.exceptions import TyperException

from cortex_spark import __version__
from cortex_spark.console import err, out
from cortex_spark.demo.cli import demo
from cortex_spark.engine.cli import label
from cortex_spark.errors import CortexError, Terminated
from cortex_spark.export.cli import export
from cortex_spark.forget.cli import forget
from cortex_spark.query.cli import query
from cortex_spark.sources.cli import extract, ingest
from cortex_spark.stats.cli import stats
from cortex_spark.upkeep.cli import optimize, verify

app = typer.Typer(
    name="cortex",
    help="Turns the web's pictures into a labelled data set.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for command in (extract, ingest, label, query, export, optimize, verify, stats, forget, demo):
    app.command()(command)

#: An error of ours in the stack trace of a Python worker.
_OURS: Final = re.compile(r"^(?:\w+\.)*(?:Cortex|Outage|Query)Error: (.+)", re.MULTILINE)


def _version(asked: bool) -> None:
    if asked:
        out.print(__version__)
        raise typer.Exit


@app.callback()
def cortex(
    debug: Annotated[bool, typer.Option("--debug", help="Show stack traces.")] = False,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Turns the web's pictures into a labelled data set."""
    if debug:
        os.environ["CORTEX_DEBUG"] = "1"


def _settings_errors(error: ValidationError) -> str:
    """Which variables of the environment cannot be, and why."""
    return "; ".join(
        f"CORTEX_{str(each['loc'][0]).upper() if each['loc'] else '...'}: {each['msg'].removeprefix('Value error, ')}"
        for each in error.errors()
    )


def said_by(error: Exception) -> str:
    """What an error says, less its stack trace: ours all of it, also from a worker; Spark's what happened, and why."""
    if isinstance(error, CortexError):
        return str(error)
    if isinstance(error, ValidationError):
        return _settings_errors(error)
    if ours := _OURS.findall(str(error)):
        return str(ours[-1])
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line for line in lines if line.startswith("Caused by:")]
    said = [line for line in lines if not line.startswith(("at ", "Caused by:", "..."))]
    shown = " ".join([*said[:2], *causes[-1:]])
    return f"{type(error).__name__}: {shown} (cortex --debug shows the stack trace)"


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # whoever asks twice does not want to wait
    raise Terminated


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; errors that a user can mend are one message without a stack trace.

    Ends the process: 0 for success, 1 for an error, 2 for unusable arguments, 75 when our network is down, 130 when
    interrupted, 143 when terminated.
    """
    # As an exception, so that a job cancels what it has under way; else Spark's tasks would go on for a while.
    signal.signal(signal.SIGTERM, _terminate)
    try:
        code = app(args=list(arguments) if arguments is not None else None, standalone_mode=False)
    except TyperException as error:
        err.print(f"[bold red]error:[/] {escape(str(error))} (--help says what there is)", soft_wrap=True)
        sys.exit(2)
    except Terminated:
        err.print("terminated; what was committed stays, the same command does the rest")
        sys.exit(128 + signal.SIGTERM)
    except (KeyboardInterrupt, typer.Abort):
        err.print("interrupted; what was committed stays, the same command does the rest")
        sys.exit(130)
    except Exception as error:
        if os.environ.get("CORTEX_DEBUG"):
            raise
        err.print(f"[bold red]error:[/] {escape(said_by(error))}", soft_wrap=True)
        sys.exit(error.exit_code if isinstance(error, CortexError) else 1)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
