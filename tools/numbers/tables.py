"""Words for whole tables."""

from math import sqrt

from tools.numbers.inline import commit, cost, published_cells, published_row
from tools.numbers.results import ROOT, STUDIES, Side, published, study
from tools.numbers.values import fixed, signed, span, table, thousands

MARKS = {"equivalent": "=", "worse": "<", "better": ">", "undecided": "?", "both solve": "✓", "not worse": "≥"}
MARKS |= {"leaning worse": "(<)", "leaning better": "(>)", "": ""}
TASKS = {
    "anomaly": "set anomaly",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10 (JPEG copy)",
    "characters": "characters (nats)",
    "translation_en_de": "translation (BLEU)",
}
"""Names in print of tasks that are not printed as they are."""


def studies() -> str:
    """Findings: what was run."""
    rows = []
    for name, question in STUDIES.items():
        found = study(name)
        shape = f"{len(found.study.variants)} × {len(found.study.tasks)}"
        hours = fixed(found.scores["seconds"].sum() / 3600, 1)
        place = f"[{name}](../{found.folder.relative_to(ROOT).as_posix()})"
        rows.append([question, place, shape, _seeds(name), thousands(found.finished), hours, commit(name)])
    return table(["", "study", "variants × tasks", "seeds", "runs", "core-hours", "commit"], rows)


def _seeds(name: str) -> str:
    """`5`, or `1 to 5` where tasks or comparisons differ."""
    scores = study(name).scores
    counts = scores.groupby(["task", "variant"])["seed"].nunique()
    return span([float(value) for value in counts], 0)


def differences(name: str, variants: str, settings: bool = True, tasks: str = "") -> str:
    """Findings: some variants of a study, named with spaces, against its baseline: a row per task, or per setting where
    a task has several. tasks: the only ones, if any are named."""
    found = study(name)
    rows = []
    for task in tasks.split() or found.study.tasks:
        several = found.study.settings(task) if settings and len(found.study.settings(task)) > 1 else [""]
        for setting in several:
            baseline = Side(found.study.baseline, setting)
            cells = [found.difference(task, Side(variant, setting), baseline) for variant in variants.split()]
            words = [f"{cell.text(unit=False)} {MARKS[cell.verdict]}".strip() for cell in cells]
            label = ", ".join(filter(None, (TASKS.get(task, task), setting)))
            rows.append([label, found.mean(task, baseline).text, *words])
    return table(["", *(f"`{variant}`" for variant in (found.study.baseline, *variants.split()))], rows)


SIZES = (
    ("lists, d 64", "lists"),
    ("ViT, d 64", "mnist"),
    ("ViT, d 128", "cifar10"),
    ("characters, d 64", "characters"),
    ("numbers, d 64", "numbers"),
    ("translation, d 64", "translation_en_de"),
)


def costs(name: str, variants: str) -> str:
    """Findings: parameters, MACs, cache and step time of variants, named with spaces, against qkv."""
    names = {"parameters": "parameters", "macs": "MACs", "cache_bytes_per_token": "cache", "step_ratio": "step time"}
    rows = []
    for label, task in SIZES:
        for column, words in names.items():
            if column == "cache_bytes_per_token" and task in ("lists", "mnist", "cifar10"):
                continue  # only decoders have one
            rows.append([label, words, *(cost(name, task, variant, column) for variant in variants.split())])
            label = ""
    return table(["", "", *(f"`{variant}`" for variant in variants.split())], rows)


ODDITIES = (
    ("anomaly", "anomaly always last in its set (set anomaly, Fashion-MNIST PCA features)"),
    ("fashion_mnist", "checkpoint chosen by the test images, best of 12 (Fashion-MNIST)"),
    ("mnist", "logits over √d instead of √h (MNIST)"),
    ("characters", "logits over √d instead of √h (characters, nats)"),
    ("translation_en_de", "cross-attention skipped at equal lengths (translation, BLEU)"),
)


def oddities() -> str:
    """Findings: each oddity, published against corrected."""
    found = study("oddities")
    judged = found.published_minus_corrected
    rows = []
    for task, words in ODDITIES:
        for variant in found.study.variants:
            if (task, variant) not in judged:
                continue
            means = [found.mean(task, Side(variant, setting)) for setting in ("mended", "published")]
            cell = judged[task, variant]
            row = [words, f"`{variant}`", *(mean.text for mean in means)]
            rows.append([*row, cell.text(unit=False), cell.better_in, cell.verdict])
            words = ""
    return table(["oddity", "variant", "corrected", "published", "difference", "better in", "verdict"], rows)


def controls() -> str:
    """Findings: sort and shift against kv."""
    found = study("controls")
    rows = []
    for variant in ("kv", "kv_gain", "kv_bias", "kv_pos", "kv_pos_small", "kv_rel", "qkv"):
        row = [f"`{variant}`"]
        for task in ("sort", "shift"):
            row.append(found.mean(task, Side(variant)).text)
            if variant == "kv":
                row += ["", "", "baseline"]
                continue
            cell = found.difference(task, Side(variant), Side("kv"))
            row += [cell.text(unit=False), cell.better_in, cell.verdict]
        rows.append(row)
    columns = ["difference to `kv`, points", "better in", "verdict"]
    return table(["", "sort", *columns, "shift", *columns], rows)


def numbers_published(name: str) -> str:
    """Findings: numbers against the published means."""
    found, rows = study(name), []
    names = [(setting, who) for setting in found.study.settings("numbers") for who in found.study.variants]
    for (setting, variant), (_, row) in zip(names, published_cells(name, "numbers", "val_accuracy"), strict=True):
        ours = found.mean("numbers", Side(variant, setting))
        error = row["std"] / sqrt(row["n"])
        both = sqrt(ours.error**2 + error**2)
        theirs = f"{fixed(row['mean'], 3)} ± {fixed(error, 3)}"
        gap = f"{signed(100 * (ours.mean - row['mean']), 1)} ± {fixed(100 * both, 1)}"
        rows.append(
            [f"context {setting.removeprefix('context')}", f"`{variant}`", theirs, ours.text_with_interval, gap]
        )
    header = [
        "numbers, 15 epochs",
        "",
        "published, mean ± s.e. of 5 runs",
        f"here, mean [95 % interval] of {_seeds(name)} seeds",
    ]
    return table([*header, "difference ± its s.e., points"], rows)


CONFIGURATIONS = 4
"""Of layers and heads, over which the successor's means were taken."""


def successor_published() -> str:
    """Findings: the successor's means over its configurations at d 32 and n 16, and ours."""
    found, theirs = study("successor_n16"), published()
    theirs = theirs[(theirs["study"] == "kayyam2026-rerun") & theirs["conditions"].str.contains("model.dim=32 ")]
    rows = []
    for row in theirs.sort_values(["task", "variant"], kind="stable").to_dict("records"):
        settings = [name for name in found.study.settings(row["task"]) if name.startswith("dim32-")]
        means = [found.mean(row["task"], Side(row["variant"], name)).mean for name in settings]
        ours, error = sum(means) / len(means), row["std"] / sqrt(CONFIGURATIONS)
        deviation = (ours - row["mean"]) / error
        published_mean = f"{fixed(row['mean'], 3)} ± {fixed(error, 3)}"
        rows.append([row["task"], f"`{row['variant']}`", published_mean, fixed(ours, 3), signed(deviation, 1)])
    return table(["d 32, n 16", "", "published, mean ± s.e.", "here", "difference in s.e."], rows)


SETTINGS = (
    ("characters", "characters, d 192, tiny Shakespeare, 10,000 steps, validation loss", "val_loss", "model.dim=192"),
    (
        "translation_en_de",
        "translation en→de, d 64, 4 heads, 20 epochs, test BLEU on tokens ¹",
        "bleu4_epoch20",
        "model.dim=64 model.heads=4 model.layers=2",
    ),
    ("mnist", "MNIST, patch 7, d 64, 20 epochs, test accuracy", "accuracy", ""),
    ("fashion_mnist", "Fashion-MNIST, the same", "accuracy", ""),
    ("cifar10", "CIFAR-10 (JPEG copy), d 128, test accuracy, 10 of 40 epochs", "accuracy", ""),
)
GRID = {"mnist": "a grid up to d 512", "fashion_mnist": "that grid", "cifar10": "a grid, CIFAR-10 itself"}


def settings_published() -> str:
    """Findings: the settings of 2023 against the published numbers."""
    rows = []
    for task, words, metric, conditions in SETTINGS:
        found = study("images" if "mnist" in task else "acceptance")
        means = [found.mean(task, Side(variant)) for variant in found.study.variants]
        theirs = [published_row(task, variant, metric, conditions) for variant in found.study.variants]
        digits = means[0].unit.digits
        published = " / ".join(fixed(row["mean"], digits) for row in theirs)
        if task in GRID:
            published += f", mean over {GRID[task]}"
        else:
            published += ", standard deviation of 2 runs " + " / ".join(fixed(row["std"], digits) for row in theirs)
        seeds = found.scores[found.scores["task"] == task]["seed"].nunique()
        rows.append([words, str(seeds), *(mean.text for mean in means), published])
    return table(["setting", "seeds", *(f"`{variant}`" for variant in found.study.variants), "published"], rows)
