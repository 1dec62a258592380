"""Any ``cortex`` command for spark-submit: ``jobs/cortex.py forget --host example.org --warehouse s3a://...``."""

import sys

from cortex_spark.cli import main

if __name__ == "__main__":
    main(sys.argv[1:])
