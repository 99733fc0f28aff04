"""Programs for those who work on kvformer."""
