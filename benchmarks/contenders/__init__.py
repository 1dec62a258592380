"""Programs that fetch and label (or only fetch) the same addresses.

``benchmarks.common.race`` runs each in a process and an environment of its own. A contender gets ready, says so, does
the work on a list of URLs, and says what it did; see ``contender``.
"""
