"""The warehouse: Delta tables, and the doors by which rows get into them."""

from cortex_spark.table.warehouse import Warehouse

__all__ = ["Warehouse"]
