"""From run folders to numbers, computed once."""
