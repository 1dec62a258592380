"""Where the commands talk to people: one rich console for progress and messages, one for results.

Progress and messages go to standard error, results to standard output, so that ``--json`` can be piped.
"""

from rich.console import Console

err = Console(stderr=True, highlight=False)
out = Console(highlight=False)
