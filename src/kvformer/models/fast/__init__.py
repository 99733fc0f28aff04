"""Code that exists only for speed. Each module says why it exists and when it can be removed."""
