"""What became of the URLs: outcomes by reason, by host and over time, from the tables alone."""
