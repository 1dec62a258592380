"""``cortex extract`` for spark-submit: WAT files into ``image_urls``."""

import sys

from cortex_spark.cli import main

if __name__ == "__main__":
    main(["extract", *sys.argv[1:]])
