"""The demo: a small web of real photographs on loopback, the WAT file of its pages, and what the commands make of it.

``photos`` and ``scenes`` are the material, ``pictures`` makes files of it, ``site`` and ``dirt`` hosts and pages,
``server`` serves them, ``warc`` and ``wat`` pack the pages as Common Crawl does, ``sheet`` draws the result, ``run``
strings the real commands together.
"""
