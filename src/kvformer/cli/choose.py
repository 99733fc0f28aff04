"""Choose the tuned values of each variant. Reads the collected trials in the folder `tuning` of the study's folder, and
writes tuning.json: what was tried, the mean of the validation metric, and what was chosen."""

import sys
from argparse import Namespace

from kvformer.cli.options import add_results

add_arguments = add_results


def run(options: Namespace) -> None:
    """Write tuning.json, and say what to know of the choices."""
    import pandas as pd

    from kvformer.analysis.study import read_study
    from kvformer.analysis.tuning import choose, tuning_table
    from kvformer.records.tuning import FOLDER, choice_file
    from kvformer.reporting.remarks import on_tuning

    choice = choose(options.results)
    choice.write(choice_file(options.results))
    print(f"{len(choice.cells)} choices -> {choice_file(options.results)}")
    for remark in on_tuning(pd.DataFrame(tuning_table(options.results)), read_study(options.results / FOLDER)):
        print(f"warning: {remark}", file=sys.stderr)
