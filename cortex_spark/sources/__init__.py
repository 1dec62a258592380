"""Where pictures come from: Common Crawl's WAT files, lists of URLs, folders of private pictures.

Each source yields the same rows (``schema.IMAGE_URLS``); ``landing`` is the one way by which they get into the table.
"""
