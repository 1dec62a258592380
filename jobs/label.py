"""``cortex label`` for spark-submit: everything in ``image_urls`` that is not labelled yet."""

import sys

from cortex_spark.cli import main

if __name__ == "__main__":
    main(["label", *sys.argv[1:]])
