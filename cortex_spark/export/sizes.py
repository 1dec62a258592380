"""How large the pieces of an export are."""

from typing import Final

#: Rows of a shard, the last one apart.
DEFAULT_SHARD_ROWS: Final = 10_000

#: Rows of a row group, which readers hold in memory as a whole; fewer with pictures.
ROW_GROUP: Final = 10_000
ROW_GROUP_WITH_IMAGES: Final = 500
