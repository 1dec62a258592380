"""Downloads pictures as a good citizen: one asynchronous client per task, which asks nothing that is not public."""

from cortex_spark.fetch.client import Fetcher
from cortex_spark.fetch.state import Fetched, Hosts, HostState, Request, Robots

__all__ = ["Fetched", "Fetcher", "HostState", "Hosts", "Request", "Robots"]
