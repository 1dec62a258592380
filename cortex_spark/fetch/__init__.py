"""Downloads pictures: one asynchronous client per task, guarded against addresses that are not public."""

from cortex_spark.fetch.client import Fetched, Fetcher

__all__ = ["Fetched", "Fetcher"]
