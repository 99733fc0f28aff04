"""Attention: one module for every variant."""
