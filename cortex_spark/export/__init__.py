"""From a query to files to train on: shards that come out byte for byte the same from one version of the table.

``columns`` says what a row of a shard is, ``shards`` writes them inside Spark's tasks, ``folder`` is where they go, and
``parquet`` is the whole of an export with its manifest.
"""
