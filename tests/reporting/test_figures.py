"""Figures: what they show is what the files say, they look alike everywhere, and the same files give the same bytes."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from fake_study import DIVERGED, write_fake_study
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from kvformer.analysis.analyse import analyse
from kvformer.analysis.collect import RUN_COLUMNS, collect
from kvformer.analysis.curves import average_curves
from kvformer.analysis.provenance import SHARED
from kvformer.analysis.quantities import axis_label
from kvformer.analysis.results import Results
from kvformer.errors import KvformerError
from kvformer.files import write_json
from kvformer.reporting import style
from kvformer.reporting.captions import FIGURES
from kvformer.reporting.cells import signed
from kvformer.reporting.figures import (
    KINDS,
    attention,
    diagnostics,
    forest,
    grid,
    ladder,
    loss,
    pareto,
    write_figures,
)
from kvformer.reporting.figures.data import FigureData
from kvformer.reporting.style import VariantStyle, figure_style, save, variant_styles
from kvformer.spec.variants import VARIANTS

Figures = dict[str, dict[str, Figure]]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(results: Results, curves: pd.DataFrame) -> FigureData:
    return FigureData(results, curves)


def data_of(folder: Path) -> FigureData:
    results = analyse(folder)
    return FigureData(results, average_curves(results))


@pytest.fixture(scope="module")
def figures(data: FigureData) -> Figures:
    """Every figure by kind, and by the task or family it shows."""
    with figure_style():
        return {kind: dict(draw(data)) for kind, draw in KINDS.items()}


@pytest.fixture(autouse=True)
def look() -> Iterator[None]:
    with figure_style():
        yield


def contrast(colour: str) -> float:
    """Contrast ratio with white (WCAG 2)."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 1.05 / (float(np.dot(channels, [0.2126, 0.7152, 0.0722])) + 0.05)


def identity(variant: VariantStyle) -> tuple[str, object, str]:
    return variant.colour, variant.dash, variant.marker


def test_every_variant_has_a_look_of_its_own() -> None:
    names = [*VARIANTS, *(f"mine{index}" for index in range(30))]
    styles = variant_styles(names)
    assert list(styles) == names
    assert len({identity(found) for found in styles.values()}) == len(names)
    assert variant_styles(reversed(names)) == styles
    assert variant_styles(["qkv", "other"])["qkv"] == styles["qkv"] == style.KNOWN["qkv"]


def test_well_known_variants_stand_out_and_differ_in_line_and_marker() -> None:
    known = list(style.KNOWN.values())
    assert min(contrast(found.colour) for found in known) > 3.5
    assert len({found.dash for found in known}) == len({found.marker for found in known}) == len(known)


def test_every_kind_is_drawn_for_every_task_or_family(figures: Figures) -> None:
    found = {kind: list(drawn) for kind, drawn in figures.items()}
    tasks, families = ["reverse", "copy", "sort", "mnist", "characters"], ["synthetic", "vision", "language"]
    assert found == {
        "accuracy": families,
        "forest": ["accuracy", "loss"],
        "ladder": [],
        "pareto": families,
        "grid": ["copy"],
        "gaps": families,
        "scaling": [],
        "loss": tasks,
        "settings": ["copy"],
        "epochs": ["characters"],
        "attention": families,
        "heads": tasks,
        "diagnostics": tasks,
    }


HASHED = ("forest", "grid", "gaps", "loss", "heads")


def hashes(results: Path, folder: Path) -> dict[str, str]:
    """SHA-256 of the files of one figure of each kind that draws in a way of its own."""
    data = data_of(results)
    with figure_style():
        drawn = {kind: next(KINDS[kind](data))[1] for kind in HASHED}
        paths = [path for name, figure in drawn.items() for path in save(figure, folder / name)]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_same_files_same_bytes_whatever_the_user_has_set(collected: Path, tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nlines.linewidth: 9\nsavefig.dpi: 50\nsvg.fonttype: none\n")
    moved = tmp_path / "else where" / "fake"
    shutil.copytree(collected, moved)
    code = f"""
import json, sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(ROOT / "src")!r}]
from pathlib import Path
from test_figures import hashes
print(json.dumps(hashes(Path({str(moved)!r}), Path({str(tmp_path / "there")!r}))))
"""
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "7",
        "MATPLOTLIBRC": str(tmp_path),
        "TZ": "Asia/Tokyo",
        "LC_ALL": "C",
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    here = hashes(collected, tmp_path / "here")
    assert len(here) == 3 * len(HASHED)
    assert json.loads(done.stdout) == here


def texts(figure: Figure) -> list[Text]:
    """The texts that are drawn: tick labels outside their axis are not."""
    hidden = {
        id(label)
        for ax in figure.findobj(matplotlib.axes.Axes)
        for axis in (ax.xaxis, ax.yaxis)
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        for label in (tick.label1, tick.label2)
        if not min(axis.get_view_interval()) - 1e-9 <= tick.get_loc() <= max(axis.get_view_interval()) + 1e-9
    }
    return [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and id(text) not in hidden and text.get_figure() is not None
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_overlaps_another_or_leaves_the_figure(figures: Figures, kind: str) -> None:
    for of, figure in figures[kind].items():
        check_texts(f"{kind}-{of}", figure)


def check_texts(of: str, figure: Figure) -> None:
    FigureCanvasAgg(figure).draw()
    renderer = figure.canvas.get_renderer()
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts(figure) if text.get_visible()]
    assert boxes
    width, height = figure.bbox.width, figure.bbox.height
    for index, (label, box) in enumerate(boxes):
        assert box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1, (of, label)
        for other, its in boxes[index + 1 :]:
            across = min(box.x1, its.x1) - max(box.x0, its.x0)
            along = min(box.y1, its.y1) - max(box.y0, its.y0)
            assert across < 2 or along < 4, f"{of}: {label!r} overlaps {other!r}"


@pytest.mark.parametrize("name", ["accuracy", "attention", "pareto"])
def test_the_long_name_of_a_data_set_fits_above_its_panel(
    data: FigureData, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    label = "Stanford Online Products (user's images, 32 px)"
    monkeypatch.setitem(data.families, "synthetic", [replace(task, label=label) for task in data.families["synthetic"]])
    drawn = KINDS[name](data)
    for of, figure in drawn:
        check_texts(f"{name}-{of}", figure)


def test_loss_is_the_mean_over_seeds_and_a_diverged_run_is_drawn_apart(
    data: FigureData, figures: Figures, collected: Path
) -> None:
    curves = pd.read_csv(collected / "curves.csv.gz")
    task, _, variant, seed = DIVERGED
    own = curves[(curves["task"] == task) & (curves["variant"] == variant) & (curves["metric"] == "validation/loss")]
    figure = figures["loss"][task]
    by_step = figure.axes[3]
    colour = data.styles[variant].colour
    mean, lost = (
        next(line for line in by_step.get_lines() if line.get_color() == colour and line.get_marker() == marker)
        for marker in ("None", loss.DIVERGED_MARKER)
    )
    whole = own[own["seed"] != seed]
    expected = whole.groupby("step")["value"].mean()
    assert list(mean.get_xdata()) == list(expected.index)
    assert mean.get_ydata() == pytest.approx(expected.to_numpy())
    gone = own[(own["seed"] == seed) & (own["setting"] == DIVERGED[1])]
    assert list(lost.get_xdata()) == list(gone["step"])
    assert "1 of 12 runs diverged" in figure._supxlabel.get_text()


def test_accuracy_shows_every_seed_and_the_interval(data: FigureData, figures: Figures) -> None:
    figure = figures["accuracy"]["vision"]
    task = data.tasks["mnist"]
    full, zoom = figure.axes
    assert [bar.get_height() for bar in full.patches] == pytest.approx([data.mean(task, v).mean for v in data.variants])
    for variant, count in (("qkv", 6), ("kv", 5), ("kv_pos", 5)):
        lines = [line for line in zoom.get_lines() if line.get_color() == data.styles[variant].colour]
        seeds, interval, mean = lines
        found = data.mean(task, variant)
        assert len(seeds.get_ydata()) == count and np.mean(seeds.get_ydata()) == pytest.approx(found.mean)
        assert list(interval.get_ydata()) == pytest.approx([found.low, found.high])
        assert list(mean.get_ydata()) == pytest.approx([found.mean])


def test_forest_marks_are_the_paired_differences(data: FigureData, figures: Figures) -> None:
    figure = figures["forest"]["accuracy"]
    (ax,) = figure.axes
    table = data.results.paired
    expected = 100 * table[table["metric"] == "test/accuracy"]["difference"]
    marks = [line.get_xdata()[0] for line in ax.get_lines() if line.get_marker() in ("s", "^")]
    assert marks == pytest.approx(list(expected))
    shaded = {round(float(abs(x)), 6) for band in ax.collections for x in band.get_paths()[0].vertices[:, 0]}
    assert shaded == {1.0}
    assert [text.get_text() for text in ax.texts] == [
        f"{signed(100 * row['difference'], 2)} [{signed(100 * row['low'], 2)}, {signed(100 * row['high'], 2)}]  "
        f"{row['verdict']}, n = {row['n']}".replace("-", "−")
        for row in table[table["metric"] == "test/accuracy"].to_dict("records")
    ]
    low, high = ax.get_xlim()
    assert low < min(expected) and max(expected) < high and low < -1.5 and high > 1.5


def test_many_variants_have_rows_with_names_and_a_panel_for_each_of_few_settings(
    data: FigureData, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (forest, ladder):
        monkeypatch.setattr(module, "MANY", 2)
    monkeypatch.setattr(ladder, "FEW_SETTINGS", 4)
    assert not list(forest.draw(data))
    ((name, figure),) = ladder.draw(data)
    compared = [variant for variant in data.variants if variant != "qkv"]
    single = sum(len(task.settings) for task in data.tasks.values())
    assert name == "differences" and len(figure.axes) == single > len(data.tasks)
    assert any("Pairs without" in text.get_text() for text in figure.findobj(Text))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [data.labels[v] for v in compared]
    for ax, panel in zip(figure.axes, ladder._panels(data), strict=True):
        marks = {line.get_ydata()[0]: line.get_xdata()[0] for line in ax.get_lines() if line.get_marker() == "o"}
        rows = panel.rows.set_index("variant")["difference"] * panel.what.scale
        assert marks == pytest.approx({compared.index(variant): value for variant, value in rows.items()})
        assert ax.get_xlabel().endswith("right is better" if panel.rows["goal"].iloc[0] == "max" else "left is better")


def test_logits_of_kv_are_symmetric_and_masked_positions_stay_out(data: FigureData, figures: Figures) -> None:
    maps = data.attention(data.tasks["reverse"])
    values = attention._values(maps["kv"], "logits")
    assert np.allclose(values[0], np.swapaxes(values[0], -1, -2))
    assert not np.allclose(attention._values(maps["qkv"], "logits")[0], np.swapaxes(values[0], -1, -2))
    for kind in attention.KINDS:
        causal = attention._values(maps["kv"], kind)[1]
        assert (
            np.isnan(causal[:, *np.triu_indices(16, 1)]).all() and not np.isnan(causal[:, *np.tril_indices(16)]).any()
        )
    tokens = maps["qkv"]["inputs"][0]
    ax = figures["attention"]["synthetic"].axes[0]
    labels = {(y, line.get_marker()) for line in ax.get_lines() for y in np.ravel(line.get_ydata()) if y >= 0}
    assert labels == {(place, f"${token}$") for place, token in enumerate(tokens)}
    figure = figures["heads"]["reverse"]
    picture = figure.axes[2].get_images()[0].get_array()  # kv, logits: two layers of four heads, 16 tokens, gaps of one
    assert picture.shape == (33, 67, 3)
    assert picture[17, 15].tolist() == list(attention.MASKED) and picture[:, 16].min() == picture[16].min() == 1


def test_pareto_front_holds_what_nothing_beats_in_both() -> None:
    places = [(3.0, 0.9), (1.0, 0.5), (2.0, 0.9), (2.0, 0.7), (4.0, 0.8)]
    assert pareto.pareto_front(places, "max") == [(1.0, 0.5), (2.0, 0.9)]
    assert pareto.pareto_front(places, "min") == [(1.0, 0.5)]
    assert pareto.pareto_front([], "max") == []


def test_pareto_adds_the_measured_costs(collected: Path, tmp_path: Path) -> None:
    for name in ("study.json", "runs.csv", "curves.csv.gz"):
        shutil.copy(collected / name, tmp_path)
    rows = [
        f"{task},{variant},{100 + index}"
        for task in ("mnist", "reverse")
        for index, variant in enumerate(("qkv", "kv", "kv_pos"))
    ]
    (tmp_path / "cost.csv").write_text("\n".join(["task,variant,macs", *rows, ""]))
    figures = dict(pareto.draw(data_of(tmp_path)))
    assert [ax.get_xlabel() for ax in figures["vision"].axes] == ["Parameters", "MACs"]
    points = [line.get_xdata()[0] for line in figures["vision"].axes[1].get_lines() if line.get_marker() in "os^"]
    assert points == [100, 101, 102]
    (tmp_path / "cost.csv").write_text("task,variant,macs\n")
    assert len(analyse(tmp_path).drawn_costs)
    for text, words in (("", "not readable as CSV"), ("task,macs\nmnist,many\n", "column macs must hold numbers")):
        (tmp_path / "cost.csv").write_text(text)
        with pytest.raises(KvformerError, match=rf"cost\.csv: {words}"):
            analyse(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "torn", "an array less", "one array"])
def test_damaged_attention_maps_are_one_clear_line(collected: Path, tmp_path: Path, damage: str) -> None:
    for name in ("study.json", "runs.csv", "curves.csv.gz"):
        shutil.copy(collected / name, tmp_path)
    path = tmp_path / "runs/reverse/default/kv/seed0/attention.npz"
    path.parent.mkdir(parents=True)
    content = (collected / path.relative_to(tmp_path)).read_bytes()
    with path.open("wb") as stream:
        if damage == "an array less":
            np.savez(stream, inputs=np.zeros(3), logits=np.zeros(3))
        elif damage == "one array":
            np.save(stream, np.zeros(3))
        else:
            stream.write(content[: len(content) // 2] if damage == "torn" else b"")
    data = data_of(tmp_path)
    with pytest.raises(KvformerError, match=r"seed0/attention\.npz: not an archive of the arrays inputs, logits"):
        data.attention(data.tasks["reverse"])


@pytest.fixture
def heat_data(tmp_path: Path) -> FigureData:
    """A finished grid over two keys, without curves: qkv at 0.5 everywhere, kv better where dim is 64."""
    runs, rows = [], []
    for dim in (32, 64):
        for layers in (1, 2):
            for variant in ("qkv", "kv"):
                run = {"task": "copy", "setting": f"d{dim}l{layers}", "variant": variant, "seed": 0}
                overrides = {"model.dim": dim, "model.layers": layers}
                runs.append({**run, "overrides": overrides, "hash": "", "path": f"runs/{dim}/{layers}/{variant}"})
                value = 0.5 + 0.1 * (variant == "kv" and dim == 64)
                facts = {"family": "synthetic", "status": "finished", "metric": "test/accuracy", "value": value}
                rows.append({**run, **facts, "goal": "max", "primary": True, "parameters": 10})
    task = {
        "name": "copy",
        "label": "Copy",
        "family": "synthetic",
        "metric": "accuracy",
        "goal": "max",
        "chance": 0.1,
    }
    variants = [{"name": name, "label": name, "formula": "", "reference": ""} for name in ("qkv", "kv")]
    study = {"name": "grid", "description": "", "protocol": "published", "baseline": "qkv", "equivalence_margin": {}}
    write_json(tmp_path / "study.json", study | {"variants": variants, "tasks": [task], "runs": runs})
    pd.DataFrame(rows, columns=RUN_COLUMNS).to_csv(tmp_path / "runs.csv", index=False)
    pd.DataFrame(columns=["task", "setting", "variant", "seed", "metric", "step", "epoch", "elapsed", "value"]).to_csv(
        tmp_path / "curves.csv.gz", index=False
    )
    return data_of(tmp_path)


def test_heat_map_shows_the_baseline_and_the_differences(heat_data: FigureData) -> None:
    assert grid.varying_keys(heat_data, heat_data.tasks["copy"]) == ["model.dim", "model.layers"]
    base, difference = dict(grid.draw(heat_data))["copy"].axes
    assert base.get_title("left") == "qkv, test accuracy (%)"  # of the split that the runs name
    assert [text.get_text() for text in base.texts] == ["50.0"] * 4
    assert [text.get_text() for text in difference.texts] == ["0.0", "0.0", "+10.0", "+10.0"]
    assert [label.get_text() for label in base.get_yticklabels()] == ["dim 32", "dim 64"]


def test_settings_that_leave_a_key_as_it_is_have_its_value(heat_data: FigureData) -> None:
    """Named settings need not all name the same keys; study.json lists the value of every key."""
    study = heat_data.study
    cells = {(32, 1): {"model.dim": 32}, (64, 2): {"model.layers": 2}, (32, 2): {"model.dim": 32, "model.layers": 2}}
    for dim, layers in ((32, 1), (32, 2), (64, 1), (64, 2)):
        setting = f"d{dim}l{layers}"
        study.overrides["copy", setting] = cells.get((dim, layers), {})
        study.configurations["copy", setting] = {"model.dim": dim, "model.layers": layers}
    assert grid.varying_keys(heat_data, heat_data.tasks["copy"]) == ["model.dim", "model.layers"]
    _, difference = dict(grid.draw(heat_data))["copy"].axes
    assert [text.get_text() for text in difference.texts] == ["0.0", "0.0", "+10.0", "+10.0"]


def test_a_grid_over_a_switch_names_its_values(heat_data: FigureData) -> None:
    study = heat_data.study
    for setting in heat_data.tasks["copy"].settings:
        values = {"training.early_stopping": setting.startswith("d32")}
        study.overrides["copy", setting] = study.configurations["copy", setting] = values
    (ax,) = dict(grid.draw(heat_data))["copy"].axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["True", "True", "False", "False"]


def test_a_study_of_one_seed_without_curves_or_maps_still_has_figures(heat_data: FigureData, tmp_path: Path) -> None:
    results = analyse(tmp_path)
    curves = average_curves(results)
    paths = write_figures(results, curves)
    stems = {path.stem for path in paths}
    assert stems == {"accuracy-synthetic", "forest-accuracy", "pareto-synthetic", "grid-copy"}
    stale = tmp_path / "figures" / "loss-gone.svg"
    stale.write_text("from an earlier state of the study")
    (tmp_path / "figures" / ".snakemake_timestamp").touch()
    first = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    assert write_figures(results, curves) == paths
    assert {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths} == first
    assert write_figures(results, curves, processes=2) == paths
    assert {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths} == first
    assert not stale.exists() and (tmp_path / "figures" / ".snakemake_timestamp").exists()


def test_a_study_of_which_nothing_has_finished_has_no_figures(tmp_path: Path) -> None:
    folder = write_fake_study(tmp_path, seeds=1, points=2)
    shutil.rmtree(folder / "runs")
    collect(folder)
    results = analyse(folder)
    assert write_figures(results, average_curves(results)) == []


def test_an_exported_copy_keeps_the_figures_that_are_drawn_from_run_folders(tmp_path: Path) -> None:
    folder = write_fake_study(tmp_path, seeds=1, points=2)
    shutil.rmtree(folder / "runs")
    collect(folder)
    write_json(folder / SHARED, {"records": []})
    (folder / "figures").mkdir()
    for name in ("attention-vision.png", "heads-mnist.png", "loss-gone.png"):
        (folder / "figures" / name).touch()
    results = analyse(folder)
    assert write_figures(results, average_curves(results)) == []
    assert {path.name for path in (folder / "figures").iterdir()} == {"attention-vision.png", "heads-mnist.png"}


def test_diagnostics_show_at_most_four_layers(data: FigureData, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = data.curve(data.tasks["reverse"], "diagnostics/layer0/gain")
    keys = [f"diagnostics/layer{layer}/{name}" for layer in range(6) for name in ("gain", "entropy", "zeal")]
    monkeypatch.setattr(data, "curve", lambda task, metric: frame)
    figure = diagnostics.draw_task(data, data.tasks["reverse"], keys)
    assert [ax.get_title("left") for ax in figure.axes[:4]] == ["Layer 1", "Layer 3", "Layer 4", "Layer 6"]
    assert [figure.axes[4 * row].get_ylabel() for row in range(3)] == ["Gain", "Entropy", "Zeal"]


def test_axis_labels_carry_units() -> None:
    assert axis_label("test/accuracy") == "Test accuracy (%)"
    assert axis_label("validation/loss") == "Validation loss (nats)"
    assert axis_label("test/bleu") == "Test BLEU"


def test_pictures_are_sharp_white_and_small(data: FigureData, tmp_path: Path) -> None:
    from PIL import Image

    figure = dict(loss.draw(data))["reverse"]
    png, svg, pdf = save(figure, tmp_path / "loss-reverse")
    with Image.open(png) as picture:
        assert picture.size == tuple(round(style.PNG_DPI * inches) for inches in figure.get_size_inches())
        assert picture.convert("RGB").getpixel((2, picture.height - 2)) == (255, 255, 255)
        colours = {colour for _, colour in picture.convert("RGB").getcolors()}
    for found in data.styles.values():
        target = np.array(to_rgb(found.colour)) * 255
        assert min(np.abs(np.array(colour) - target).max() for colour in colours) <= 4
    assert png.stat().st_size < 100_000
    assert b"<dc:date>" not in svg.read_bytes() and b"CreationDate" not in pdf.read_bytes()
    assert b"/FontFile2" in pdf.read_bytes()  # TrueType is embedded: journals refuse Type 3


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (None, "no such file"),
        (b"no gzip", "not readable"),
        ("torn", "not readable"),
        ("columns", "has no column variant, "),
    ],
)
def test_damaged_curves_get_one_line(collected: Path, tmp_path: Path, damage: object, message: str) -> None:
    for name in ("study.json", "runs.csv"):
        shutil.copy(collected / name, tmp_path)
    path = tmp_path / "curves.csv.gz"
    if damage == "torn":
        path.write_bytes((collected / "curves.csv.gz").read_bytes()[:2000])
    elif damage == "columns":
        pd.DataFrame({"task": [], "setting": []}).to_csv(path, index=False)
    elif isinstance(damage, bytes):
        path.write_bytes(damage)
    with pytest.raises(KvformerError, match=message) as error:
        data_of(tmp_path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_every_kind_of_figure_has_a_caption_and_none_is_left_over() -> None:
    assert list(FIGURES) == list(KINDS)
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow" / "report").glob("*.rst"))
    assert not any(caption[:30] in text for _, caption in FIGURES.values()), "captions exist once"


def test_reporting_needs_neither_torch_nor_training_and_computes_no_statistics() -> None:
    names = sorted(path.stem for path in (ROOT / "src/kvformer/reporting").glob("[!_]*.py"))
    code = f"import sys, kvformer.reporting.figures, {', '.join(f'kvformer.reporting.{name}' for name in names)}; "
    code += "print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not {"torch", "mlflow", "kvformer.training", "kvformer.models"} & loaded
    assert not {f"kvformer.analysis.{name}" for name in ("statistics", "comparisons", "decisions", "analyse")} & loaded
