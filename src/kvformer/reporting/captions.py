"""What every figure and table shows and how to read it: the one place for these words.

The report's page, Markdown, LaTeX and Snakemake's own report print them.
"""

from kvformer.analysis.quantities import SOLVED

FIGURES = {
    "accuracy": (
        "Results",
        "The metric each task is judged by. Above: the mean on the full scale; the dotted line is chance, where it is "
        "known. Below: the same zoomed in; small marks are seeds (averaged over settings, where a task has several), "
        "the large mark with its bar is their mean with its 95 % interval.",
    ),
    "forest": (
        "Paired differences",
        "The same seed gives a variant and the baseline the same data and order. Mark: mean difference, bar: its 95 % "
        "interval, shaded: the margin, fixed in advance, within which a difference counts as equivalent. An arrow head "
        "means that the interval continues outside the panel; the text next to it gives all of it.",
    ),
    "ladder": (
        "Paired differences of many variants",
        "A panel per task (and per setting, where a task has two or three), a row per variant, in the study's order. "
        "Mark: mean difference to the baseline at equal seed, bar: its 95 % interval, colour: the verdict, shaded: the "
        "margin within which a difference counts as equivalent. An arrow head means that an interval goes on outside.",
    ),
    "pareto": (
        "Cost and benefit",
        "The metric of each task (mean over seeds, 95 % interval) against what a variant costs: parameters and, where "
        "costs were measured, multiply-accumulate operations, bytes of the key-value cache, time and memory of a "
        "training step. The grey line joins the variants that no other one beats in both; the others are faint.",
    ),
    "grid": (
        "Results over the grid",
        "The metric of a task over its grid, mean over seeds. Over one key: a curve per variant with 95 % intervals. "
        "Over several: a heat map for the baseline, and for each other variant its difference to the baseline (blue is "
        "better, red worse).",
    ),
    "gaps": (
        "Gap over training",
        "Difference to the baseline on the validation split, in margins, at each evaluation; mean over seeds (and over "
        "settings, where a task has several), up is better. Bar: the 95 % interval at the end. Shaded: within one "
        "margin. The scale fits the second half of training, so earlier values can lie outside. If the learning rate "
        "falls, a curve that is flat at the end does not predict a longer run.",
    ),
    "scaling": (
        "Scaling",
        "Left: loss against the operations of a run, mean over seeds, both axes logarithmic. A line joins the losses "
        "of the law fitted to all points, for one variant and one number of tokens. Hollow marks: the largest size; "
        "dashes there: what a law fitted without it predicts. Right: paired difference to the baseline at each size "
        "with its 95 % interval, above 0 is worse; faint and hollow: the smaller number of tokens.",
    ),
    "loss": (
        "Loss during training",
        "Above against the seconds spent in optimisation steps, below against steps; left the loss on training, right "
        "on validation data. A curve is the mean over seeds (and over settings, where a task has several), its band "
        "reaches from the lowest to the highest seed. A run that diverged is a thin line of its own that ends in a "
        "cross, at the last finite loss or where it leaves the panel.",
    ),
    "settings": (
        "Loss by setting",
        "Validation loss against steps for each setting of a task's grid; mean over seeds, with a band from the lowest "
        "to the highest.",
    ),
    "epochs": (
        "Progress by epoch",
        "Training loss, validation loss and validation accuracy (or BLEU) against epochs. A curve is the mean over "
        "seeds, its band reaches from the lowest to the highest seed; a diverged run is a thin line that ends in a "
        "cross.",
    ),
    "attention": (
        "Attention maps",
        "The last layer of the first run of each variant, averaged over heads, for one test item: the logits before "
        "the softmax and the weights after it. A row is a query, a column a key (with their tokens, where these are "
        "digits), grey is masked. Each map has its own colour scale, whose ends are written below it; weights are "
        "coloured by their square root, so that small ones show. The logits of kv are a symmetric matrix, its weights "
        "are not.",
    ),
    "heads": (
        "Attention of every head",
        "The first run of each variant, for one test item: the logits before the softmax and the weights after it "
        "(coloured by their square root). In each map a row is a query, a column a key, grey is masked; each map has "
        "its own colour scale.",
    ),
    "diagnostics": (
        "Attention during training",
        "On fixed validation examples, one column per layer. Gain: the factor s on the logits, of variants that have "
        "one. Symmetry: 1 for symmetric logits, −1 for antisymmetric ones. Entropy: of the attention rows, as a share "
        "of that of uniform attention. Diagonal: the mean weight of a token on itself. A curve is the mean over seeds, "
        "its band reaches from the lowest to the highest seed.",
    ),
}
"""Title and caption of each kind of figure, in the order of the report."""

_INTERVAL = "Intervals cover 95 % (Student's t over seeds; over a grid, over each seed's mean)."
_SPREAD = "sd: standard deviation between seeds (pooled within settings), apart from that between settings."
_RULE = (
    "Each variant is a question of its own: p are adjusted so that 95 % of variants get no false verdict. Test: exact "
    "sign-flip where the seeds suffice (it assumes symmetric differences), else paired t (normal ones). Verdicts: "
    "better or worse: adjusted p ≤ 0.05 (the interval, made for normal differences, may then include zero); "
    "equivalent: two one-sided t tests against ± margin (fixed in advance), "
    "adjusted p ≤ 0.025; not worse: the one against − margin; leaning: the interval excludes zero, the adjusted test "
    "does not decide; undecided, which does not prove equality; both solve: every run of both sides solves the task."
)
_PAIRED = (
    "Difference to {baseline} at equal task, setting and seed, with its 95 % interval. A pair is a seed: over a "
    "grid, its mean over the settings. "
    + _RULE
    + " With interim looks, p are over all looks so far and intervals are the repeated ones. Incomplete pairs are "
    "named and left out."
)
_TABLES = {
    "family": (
        "{family} tasks: mean [95 % interval] of n runs. "
        + _INTERVAL
        + " Bold: better than {baseline} (table of paired "
        "differences). (a/b): only a of b runs finished; the table of excluded runs lists the others."
    ),
    "summary": (
        "Mean over seeds, and over the settings of a grid. " + _INTERVAL + " bootstrap (CSV): the BCa interval, too "
        "narrow for fewer than about 20 runs. " + _SPREAD
    ),
    "paired": _PAIRED,
    "overall": (
        "Each variant on average: by seed, the mean over tasks of the difference in margins; positive is better than "
        "{baseline}. 95 % interval: Student's t over the seeds that have every task (with interim looks, those of "
        "the first). Verdicts as for paired differences, Holm-adjusted over the variants; mixed: better on one task "
        "and worse on another, so that an average misleads. Worse on at least: a lower bound (95 %, closed testing "
        "with Simes) on the number of tasks. Unsolved: without tasks that both sides solve, which enter as zero. "
        "Over tasks: the interval with tasks as a sample. Without one: the range of the mean when one task is left "
        "out."
    ),
    "settings": "Mean over seeds at every setting of the grids. " + _INTERVAL + " " + _SPREAD,
    "paired_settings": _PAIRED,
    "planning": (
        "What more seeds would decide: for each open comparison the predicted chance of being better, worse or "
        "equivalent, cheapest first. Hours: of one core, for the variant and {baseline}, whose hours are shared by all "
        "comparisons of the task. Further looks use the seeds so far; a new study has its own, because judging the "
        "same seeds again with some more would make false verdicts more frequent. Hopeless: more likely to stay open "
        "than not, even with the most seeds. The prediction assumes normal differences."
    ),
    "tuning": (
        "What was tried for each variant before the comparison, on seeds that are not reported: the mean of the "
        "validation metric over the runs that finished. Every variant has the same number of runs. Chosen: the best "
        "mean (of equal ones, that with the least validation loss); the reported seeds were trained with it. Edge: the "
        "chosen value ends the grid, so a better one may lie beyond."
    ),
    "success": (
        "Runs that reach an accuracy of {solved}, with Wilson's 95 % interval. A run that diverged or failed has not "
        "solved its task. Where outcomes are all or nothing, this says more than a mean."
    ),
    "aggregate": (
        "Over all tasks judged by accuracy: mean of task means, interquartile mean (IQM) of all runs, and the "
        "probability that a run beats one of {baseline} on a task drawn at random (0.5: no improvement). 95 % "
        "intervals: bootstrap over seeds within tasks. Solved tasks hide differences: read the single tasks first."
    ),
    "gaps": (
        "Difference to {baseline} while runs train: on the validation split, at shares of the steps (linear between "
        "evaluations), with its 95 % interval (Student's t over seeds; over a grid, over each seed's mean). Margins: "
        "the same in margins, positive is better. Weights are those of that moment, not the selected ones."
    ),
    "pace": (
        "Is a variant worse, or only slower? Course: still behind, when the whole 95 % interval of the gap at the end"
        " lies more than one margin below {baseline}; unclear, when a part of it does; only slower, when none of it "
        "does and the mean gap was over two margins at 25, 50 or 75 % of the steps; else level. At 25 to 100 %: the "
        "gap in margins on the validation split, positive is better; end: its interval at the end. Steps: those that "
        "a variant needs to come within one margin of what {baseline} ends with, over those that {baseline} needs for"
        " it; median over seeds, with an interval from order statistics (95 % from 6 seeds on; with fewer, the lowest"
        " and the highest seed). More than: half of the seeds or more do not get there within the run. Learning rate "
        "falls: a gap that is flat at the end does not predict a longer run. Tasks with fewer than 4 evaluations are "
        "left out."
    ),
    "sampling": (
        "Where the uncertainty of a difference to {baseline} comes from. Test set %: the part of its variance that an"
        " unlimited test set would remove; seeds %: the rest. With few seeds both are rough. Where seeds share their "
        "test examples (images, text), the paired interval does not contain all of it; the interval here does (two-"
        "way random effects, Satterthwaite's degrees of freedom), and is wider by the given factor. Floor: half the "
        "width that is left with unlimited seeds. Where each seed draws its own test examples (lists, sets), the "
        "paired interval contains it. Only tasks judged by accuracy, whose runs keep which examples they get right."
    ),
    "scaling_variants": (
        "Each variant in the law L = E + A/(m·N)^α + B/D^β. Worth: m, what one of its parameters is worth in those of "
        "{baseline}. More compute: what it needs for the same loss, in per cent of what {baseline} needs, at the "
        "operations per parameter of the largest size. Mean gap: loss minus that of {baseline}, over all settings; per "
        "tenfold size: its change at equal tokens. The gap grows or shrinks if the 95 % interval of that change "
        "excludes 0. Error: predicted over measured loss of the largest size minus 1, by a law fitted without it. "
        "Intervals of gaps: Student's t over seeds; others: paired bootstrap over seeds. They do not contain the error "
        "of the law's form."
    ),
    "scaling_law": (
        "The constants that all variants share, with 95 % intervals (paired bootstrap over seeds). A wide interval "
        "means that these sizes and numbers of tokens do not tell the constant. N: parameters without embeddings and "
        "head, D: tokens, L in nats."
    ),
    "scaling": (
        "Loss, mean over n seeds that finished, against parameters (without embeddings and head; total: all), tokens "
        "and operations of a run. Fitted: by the law of all points. Predicted: by a law without the largest size. Gap: "
        "paired difference to {baseline}. Intervals: Student's t over seeds."
    ),
    "cost": (
        "Cost of a run: medians over seeds. Stepping: seconds in optimisation steps only. Ratio: samples/s over that "
        "of {baseline} at the same seed. Runs that shared a machine with others are not a benchmark."
    ),
    "measured": (
        " Measured with all variants of a setting in turns: medians with quartiles (low, high) of the seconds per "
        "training step and of the tokens decoded per second; step ratio: over that of the baseline in the same turn."
    ),
    "published": (
        "Published numbers next to ours, at the published setting. Difference: ours minus published; deviation: the "
        "same in half-widths of our 95 % interval, so that beyond ±1 the published number lies outside it (– where our "
        "runs do not differ at all). The published mean has an error of its own, which few sources give. Origin and "
        "status (CSV) say where each number was found and how certain it is."
    ),
    "published_context": (
        "Published numbers next to ours, where the settings differ: a test of neither. Differs in: our value, with the "
        "published one in brackets. Means over a grid mix settings that solve a task with others that do not. Origin "
        "and status (CSV) say where each number was found and how certain it is."
    ),
    "incomplete": (
        "Excluded runs. failed: stopped with an error (see its failure.json). diverged: the loss became non-finite. "
        "not started: the first seed of its cell failed. missing: not run, or not finished. stale: its folder belongs "
        "to another configuration."
    ),
    "provenance": (
        "Data and code of the runs of study '{study}'. Digests and commits are cut to 12 digits; generated data have a "
        "digest for every seed and setting (runs.csv lists them)."
    ),
}
COMPARE = (
    "{b} minus {a} at equal task, setting, variant and seed, with the 95 % interval of the mean. A pair is a seed: "
    "over a grid, its mean over the settings. "
    + _RULE
    + " Same configuration: runs with one configuration hash on both sides, so that only code, machine or data can "
    "make a difference."
)
UNMATCHED = "Runs without a partner that finished."


def table_captions(study: str, baseline: str) -> dict[str, str]:
    """The captions of a study's tables by name.

    `family` is that of the table of a family of tasks, whose name belongs in the place of `{family}`; `measured` goes
    on where the table of costs has the columns of cost.csv.
    """
    words = {"study": study, "baseline": baseline, "solved": SOLVED, "family": "{family}"}
    return {name: text.format(**words) for name, text in _TABLES.items()}
