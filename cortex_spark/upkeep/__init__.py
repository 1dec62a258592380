"""Care of the tables: fewer and better sorted files, no old ones, and a check of what is derived."""
