"""Data sets: where they come from (`datasets`, `sources`), preparing them (`prepare`) and reading them (`manifest`)."""
