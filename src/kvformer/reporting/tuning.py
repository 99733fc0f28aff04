"""What to know of the tuning before the comparison, in sentences: of the report, and of `kvformer choose`."""

import pandas as pd

from kvformer.analysis.study import Study


def remarks(rows: pd.DataFrame, study: Study) -> list[str]:
    """A sentence for each variant that was not tuned, or whose best value ends its grid, or that lost trials.

    rows: of the table `tuning`.
    """
    sentences = []
    for (task, setting, variant), trials in rows.groupby(["task", "setting", "variant"], sort=False):
        where = study.label(str(task)) + (f" ({setting})" if setting != "default" else "")
        chosen = trials[trials["chosen"]]
        lost = trials["expected"].sum() - trials["runs"].sum()
        if chosen.empty:
            sentences.append(
                f"On {where}, no tuning run of {variant} finished: it was trained at the untuned values, and its "
                "verdict there is provisional."
            )
            continue
        values, edge = chosen["values"].iloc[0], chosen["edge"].iloc[0]
        if edge:
            sentences.append(
                f"On {where}, the best values of {variant} ({values}) end the tuning grid ({edge}): better ones may "
                "lie beyond, and its verdict there is provisional."
            )
        if lost:
            sentences.append(
                f"On {where}, {lost} of {trials['expected'].sum()} tuning runs of {variant} did not finish; values "
                "whose runs all finished were preferred."
            )
    return sentences
