"""A simulated web on loopback: thousands of hosts with names, certificates, robots.txt, latencies and faults.

>>> with SimulatedWeb(hosts=60, urls=200, seed=1, pictures=[jpeg]) as web:  # doctest: +SKIP
...     label(web.urls(), environment=web.environment())
...     assert max(most_at_once(web.log()).values()) <= 4
"""

from benchmarks.simweb.log import Query, Request, least_pause, most_at_once, too_early
from benchmarks.simweb.sites import DOMAIN, Life, Page, Site, make_sites
from benchmarks.simweb.web import SimulatedWeb

__all__ = [
    "DOMAIN",
    "Life",
    "Page",
    "Query",
    "Request",
    "SimulatedWeb",
    "Site",
    "least_pause",
    "make_sites",
    "most_at_once",
    "too_early",
]
