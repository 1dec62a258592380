"""``cortex optimize`` for spark-submit: derived columns, compaction, clustering, and old files."""

import sys

from cortex_spark.cli import main

if __name__ == "__main__":
    main(["optimize", *sys.argv[1:]])
