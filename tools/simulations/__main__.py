"""`python -m tools.simulations`: write docs/simulations."""

import argparse
from pathlib import Path

import pandas as pd

from tools.simulations.errors import counts, errors, intervals, overall_errors
from tools.simulations.figure import draw_figure
from tools.simulations.power import power

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "simulations"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.simulations", description="Simulate the rule of comparison.")
    parser.add_argument("--studies", type=int, default=5000, help="simulated studies per cell (default 5000)")
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="FOLDER", help="default docs/simulations")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    correlations = (0.0, 0.5)
    tables = {
        "power": power(max(options.studies // 10, 2)),
        "errors": errors(options.studies),
        "overall": overall_errors(options.studies),
        "intervals": intervals(options.studies // 5),
        "counts": pd.DataFrame(
            [{"correlation": value, "error": counts(options.studies, value)} for value in correlations]
        ).assign(studies=options.studies),
    }
    for name, table in tables.items():
        table.to_csv(options.out / f"{name}.csv", index=False, float_format="%.4f", lineterminator="\n")
        print(f"{name}: {len(table)} rows -> {options.out / name}.csv", flush=True)
    print(draw_figure(tables["errors"], tables["power"], options.out / "simulations.svg"))


if __name__ == "__main__":
    main()
