"""Questions to ``samples`` in MongoDB's query language.

``text`` reads JSON strictly, ``parse`` makes a tree of it against the table's schema, ``normalise`` gives the tree one
meaning in a closed list of primitives (``tree``), and a back end (``spark``) translates those and decides nothing.

People use ``mongo.mongo`` and ``page.page``.
"""
