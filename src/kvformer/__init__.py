"""kvformer: reproducible comparisons of attention variants."""
