"""`python -m kvformer`."""

from kvformer.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
