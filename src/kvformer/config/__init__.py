"""The configuration: studies, runs, grids, loading, messages."""
