"""Options: declared once, read from flags, files and Python alike, checked together, with the source of every value kept."""
