"""The labelling engine: from a URL to a finished row inside one Python worker, and the runs that drive it."""
