"""Cortex on Spark: turns the web's pictures into a labelled data set.

The flow, left to right; a module imports only what stands to its left, ``schema`` and ``config``:
``sources -> fetch -> measure -> detect -> table -> engine -> (query, export, demo)``.
"""

__version__ = "0.1.0"
