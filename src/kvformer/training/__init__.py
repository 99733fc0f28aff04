"""Training of one run: loop, batches, objectives, checkpoints, records."""
