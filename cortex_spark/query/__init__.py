"""Questions to ``samples`` in MongoDB's query language.

``text`` reads JSON strictly, ``parse`` makes a tree of it (``regex`` of patterns), ``normalise`` expands its paths over
the table's schema and gives it one meaning (``leaf``) in a closed list of primitives (``tree``), ``derive`` puts
conditions on derived columns for those on boxes, and back ends (``spark``, ``duck``) translate and decide nothing.

People use ``mongo.mongo`` and ``page.page``.
"""
