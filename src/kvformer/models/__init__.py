"""Transformers built from the same blocks."""
