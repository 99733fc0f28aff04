"""`python -m tools.simulations`: write docs/simulations."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from tools.simulations.errors import counts, errors, intervals, overall_errors
from tools.simulations.figure import draw_figure
from tools.simulations.power import power

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "simulations"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.simulations", description="Simulate the rule of comparison.")
    parser.add_argument("--studies", type=int, default=10_000, help="simulated studies per cell (default 10000)")
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="FOLDER", help="default docs/simulations")
    parser.add_argument("--redraw", action="store_true", help="draw the figure from the tables that are there")
    options = parser.parse_args()
    if not options.redraw:
        options.out.mkdir(parents=True, exist_ok=True)
        for name, table in simulate(options.studies):
            table.to_csv(options.out / f"{name}.csv", index=False, float_format="%.4f", lineterminator="\n")
            print(f"{name}: {len(table)} rows -> {options.out / name}.csv", flush=True)
    errors_found, decided = (pd.read_csv(options.out / f"{name}.csv") for name in ("errors", "power"))
    print(draw_figure(errors_found, decided, options.out / "simulations.svg"))


def simulate(studies: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """The tables by name. studies: per cell; the slower ones take a part of them."""
    yield "power", power(max(studies // 10, 2))
    yield "errors", errors(studies)
    yield "overall", overall_errors(studies)
    yield "intervals", intervals(max(studies // 10, 2))
    rows = [{"correlation": value, "error": counts(studies, value), "studies": studies} for value in (0.0, 0.5)]
    yield "counts", pd.DataFrame(rows)


if __name__ == "__main__":
    main()
