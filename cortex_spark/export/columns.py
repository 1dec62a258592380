"""Which columns an export has.

``flat`` is for readers that know only scalars: nested columns become JSON text, and ``_id`` becomes ``id``. Petastorm
0.12 is one: it leaves out lists of lists and of structs, fails on lists of differing lengths, and on names that begin
with an underscore (seen with pyarrow 14).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BinaryType, StringType, StructField, StructType

from cortex_spark.errors import CortexError
from cortex_spark.query.errors import nearest, quoted
from cortex_spark.schema import DERIVED, SAMPLES

#: The column of an export with bytes: the picture's file as it was downloaded.
IMAGE: Final = StructField("image", BinaryType())

_SETS: Final = ("all", "flat")


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of ``samples`` in its order, nested ones as they are or flattened to JSON text."""

    names: tuple[str, ...]
    flat: bool = False

    @property
    def schema(self) -> StructType:
        """The columns of a shard, the bytes of the picture apart."""
        return StructType([self._field(name) for name in self.names])

    def select(self) -> list[Column]:
        """The columns of a shard from those of ``samples``; JSON leaves out NULL fields, as documents do."""
        return [
            (F.to_json(name) if self._is_json(name) else F.col(name)).alias(self._field(name).name)
            for name in self.names
        ]

    def _is_json(self, name: str) -> bool:
        return self.flat and isinstance(SAMPLES[name].dataType, ArrayType | StructType)

    def _field(self, name: str) -> StructField:
        shown = "id" if self.flat and name == "_id" else name
        return StructField(shown, StringType() if self._is_json(name) else SAMPLES[name].dataType)


def choose_columns(wanted: str) -> Columns:
    """The columns that ``--columns`` names: ``all``, ``flat``, or names of ``samples`` divided by commas.

    ``_id`` is always there, and the order is that of ``samples``. All are those that do not follow from others.

    Raises:
        CortexError: for a name that is none.
    """
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    if not names:
        raise CortexError("no columns are named: use all, flat, or names divided by commas")
    for name in names:
        if name not in SAMPLES.names and name not in _SETS:
            closest = nearest(name, [*SAMPLES.names, *_SETS])
            raise CortexError(f"there is no column {quoted(name)}, the nearest is {closest!r}")
    everything = "all" in names or set(names) == {"flat"}
    chosen = tuple(name for name in SAMPLES.names if name in ("_id", *names) or (everything and name not in DERIVED))
    return Columns(chosen, flat="flat" in names)
