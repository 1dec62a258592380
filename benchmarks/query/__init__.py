"""Filters and pages at the size of a crawl: a table made by the product's own writer, the documented filters on it.

``python -m benchmarks.query.make`` makes the table, ``python -m benchmarks.query`` asks it.
"""
