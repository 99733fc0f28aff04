"""Data sets: where they come from (`datasets`, `sources`), how they are prepared (`prepare`), how they are read (`manifest`)."""
