"""Errors that a user is meant to read."""

from typing import ClassVar


class CortexError(Exception):
    """Says what was wrong and what would be right; the command line prints it without a stack trace."""

    #: The exit code of a command that ends with it.
    exit_code: ClassVar[int] = 1


class OutageError(CortexError):
    """Our own network is down."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again later


class Terminated(BaseException):
    """SIGTERM."""
