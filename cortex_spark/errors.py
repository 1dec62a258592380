"""The one error that a user can cause and is meant to read."""


class CortexError(Exception):
    """Says what was wrong and what would be right; the command line prints it without a stack trace."""
