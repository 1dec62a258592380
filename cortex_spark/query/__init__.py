"""Questions to ``samples`` in MongoDB's query language.

``text`` reads JSON strictly, ``parse`` makes a tree of it against the table's schema, ``normalise`` gives the tree one
meaning in a closed list of primitives (``tree``), and a back end (``spark``) translates those and decides nothing.
"""

from cortex_spark.query.document import to_document, to_json
from cortex_spark.query.errors import QueryError
from cortex_spark.query.mongo import mongo
from cortex_spark.query.page import Page, page

__all__ = ["Page", "QueryError", "mongo", "page", "to_document", "to_json"]
