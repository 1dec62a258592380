"""``cortex export`` for spark-submit: what a filter selects, as a data set to train on."""

import sys

from cortex_spark.cli import main

if __name__ == "__main__":
    main(["export", *sys.argv[1:]])
