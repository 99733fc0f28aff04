"""Tricks that make training fast on CPUs, each with its reason."""
