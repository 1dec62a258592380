"""``cortex ingest`` for spark-submit: lists of URLs and folders of pictures into ``image_urls``."""

import sys

from cortex_spark.cli import main

if __name__ == "__main__":
    main(["ingest", *sys.argv[1:]])
