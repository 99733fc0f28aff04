"""Findings in words, and two result folders side by side."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from fake_study import write_fake_study

from kvformer.analysis.analyse import analyse
from kvformer.analysis.collect import collect
from kvformer.analysis.compare import compare
from kvformer.analysis.frames import load_runs, scores
from kvformer.analysis.quantities import quantity
from kvformer.analysis.results import Results
from kvformer.errors import KvformerError
from kvformer.files import read_json, write_json
from kvformer.reporting.compare import sentences, write_comparison
from kvformer.reporting.sentences import NOTHING, amount, findings, sentence


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fake study with one seed less and accuracies 3 points lower."""
    results = write_fake_study(tmp_path_factory.mktemp("other"), seeds=5, name="other", shift=-0.03)
    collect(results)
    return results


def test_the_overview_counts_what_the_sentences_say(results: Results) -> None:
    sentences = findings(results)
    assert sentences[0] == "Of 10 comparisons with qkv: 1 better, 3 worse, 5 equivalent, 1 both solve."
    assert sum(text.endswith(": worse.") for text in sentences) == 3
    assert sum(text.endswith(": better.") for text in sentences) == 1
    assert sum("equivalent: a difference" in text for text in sentences) == 5
    assert sum("both solve the task in all 6 seeds" in text for text in sentences) == 1


def test_a_difference_in_words(results: Results) -> None:
    text = next(text for text in findings(results) if text.startswith("On Reverse, kv is"))
    interval = r"95 % interval −4\.\d+ to −3\.\d+, 6 of 6 pairs, adjusted p < 0\.001"
    pattern = rf"On Reverse, kv is 3\.89 points below qkv \({interval}\): worse\."
    assert re.fullmatch(pattern, text)
    assert any(re.match(r"On Characters, kv is 0\.035 nats above qkv .*: worse\.", text) for text in findings(results))


def test_tuning_at_the_edge_and_lost_runs_are_said(results: Results) -> None:
    sentences = findings(results)
    assert any("kv (learning rate 0.01) end the tuning grid" in text for text in sentences)
    assert sentences[-1].startswith("Excluded runs: 3 of 108 (1 diverged, 1 failed, 1 missing).")


def test_a_nuisance_grid_of_version_1_is_reported_setting_by_setting(collected: Path, tmp_path: Path) -> None:
    shutil.copy(collected / "runs.csv", tmp_path)
    study = read_json(collected / "study.json")
    for task in study["tasks"]:
        task["nuisance"] = ["model.dim"] if task["name"] == "copy" else []
    write_json(tmp_path / "study.json", study)
    results = analyse(tmp_path)
    assert set(results.settings.query("task == 'copy'")["setting"]) == {"dim64", "dim128"}
    assert set(results.paired.query("task == 'copy'")["setting"]) == {"all"}
    told = [text for text in findings(results) if "tuned on the runs that are reported" in text]
    assert [text.partition(",")[0] for text in told] == ["On Copy"]


def test_few_runs_are_called_few_and_no_difference_no_equality(tmp_path: Path) -> None:
    single = write_fake_study(tmp_path, seeds=1, points=4, name="single")
    collect(single)
    texts = findings(analyse(single))
    assert texts[0] == "One seed: numbers without verdicts."
    assert any("in 1 pair of runs: too few to say more" in text for text in texts)
    assert not any(text.endswith((": worse.", ": better.")) for text in texts)
    double = write_fake_study(tmp_path, seeds=2, points=4, name="double")
    collect(double)
    texts = findings(analyse(double))
    assert texts[0] == "Of 10 comparisons with qkv: 10 undecided."
    assert sum("in 2 pairs of runs: too few to say more" in text for text in texts) == 10


ROW = {"metric": "test/accuracy", "n": 9, "favourable": 2, "unfavourable": 7, "error": 0.002, "margin": 0.01}
ROW |= {"difference": -0.005, "low": -0.009, "high": -0.001, "p_holm": 0.084, "failure_bound": 0.283}
FOUND = "−0.5 points (95 % interval −0.9 to −0.1, 9 pairs, adjusted p = 0.084)"


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("worse", f"A is 0.5 points below B{FOUND.removeprefix('−0.5 points').replace('9 p', '7 of 9 p')}: worse."),
        (
            "leaning worse",
            f"A leans worse than B: {FOUND}. The interval excludes zero, the adjusted test does not decide.",
        ),
        ("not worse", f"A is not worse than B by more than the margin of 1 point: {FOUND}."),
        (
            "undecided",
            f"no difference between A and B was established: {FOUND}. That does not prove equality.",
        ),
        (
            "equivalent",
            "A and B are equivalent: a difference of −0.5 points (95 % interval −0.9 to −0.1) inside the margin of "
            "±1 point, which was fixed in advance.",
        ),
        ("both solve", "A and B both solve the task in all 9 seeds, which leaves failure rates below 28 % possible."),
    ],
)
def test_every_verdict_has_its_sentence(verdict: str, words: str) -> None:
    assert sentence({**ROW, "verdict": verdict}, "Sort", "A", "B") == f"On Sort, {words}"


def test_a_word_of_the_test_beside_an_interval_with_zero_is_explained() -> None:
    text = sentence({**ROW, "verdict": "worse", "low": -0.016, "high": 0.004}, "Sort", "A", "B")
    assert text.endswith(": worse. The test decides; the interval, made for normal differences, includes zero.")


def averaged(results: Results, verdict: str) -> list[str]:
    """The sentences on kv, had it this verdict on average."""
    table = results.overall.assign(verdict=[verdict, "undecided"])
    return [text for text in findings(replace(results, overall=table)) if re.match("On average .* kv |kv ", text)]


def test_a_variant_on_average_in_words(results: Results) -> None:
    numbers = "−1.33 margins (95 % interval −1.44 to −1.21, 5 seeds); −1.66 without the tasks that both solve (1)"
    where = "but it is worse on Reverse, Sort and Characters."
    assert averaged(results, "worse") == [
        f"On average over 5 tasks, kv is worse than qkv: {numbers}; worse on at least 3 of 5."
    ]
    assert averaged(results, "equivalent") == [
        f"On average over 5 tasks, kv and qkv are equivalent: {numbers}, {where}"
    ]
    assert averaged(results, "leaning worse")[0].startswith("On average over 5 tasks, kv leans worse than qkv: −1.33")
    assert averaged(results, "not worse")[0].startswith("On average over 5 tasks, kv is not worse than qkv: −1.33")
    assert "no difference between kv and qkv was established" in averaged(results, "undecided")[0]
    better = results.paired["verdict"].where(results.paired["task"] != "mnist", "better")
    mixed = replace(results, paired=results.paired.assign(verdict=better))
    assert averaged(mixed, "mixed") == [
        "kv is better than qkv on MNIST and worse on Reverse, Sort and Characters: mixed, so an average would mislead."
    ]


def test_nothing_to_compare_is_said(tmp_path: Path) -> None:
    results = write_fake_study(tmp_path, seeds=1, points=4)
    shutil.rmtree(results / "runs")
    (results / "tuning.json").unlink()
    collect(results)
    assert findings(analyse(results)) == [
        NOTHING,
        "Excluded runs: 18 of 18 (18 missing). Incomplete pairs are left out.",
    ]


def test_amounts() -> None:
    assert amount(0.01, quantity("accuracy")) == "1 point" and amount(0.031, quantity("accuracy")) == "3.1 points"
    assert amount(0.0004, quantity("accuracy")) == "0.04 points" and amount(1.25, quantity("bleu")) == "1.25 BLEU"


def test_two_folders_side_by_side(collected: Path, other: Path, tmp_path: Path) -> None:
    found = compare(collected, other)
    assert {path.name for path in write_comparison(found, tmp_path)} == {
        f"{name}.{suffix}" for name in ("compare", "compare_unmatched") for suffix in ("csv", "md", "tex")
    }
    table = pd.read_csv(tmp_path / "compare.csv").set_index(["task", "variant"])
    assert len(table) == 15
    reverse = table.loc[("reverse", "kv")]
    # All five differ by the same amount: without spread, p is 2^(1−5).
    assert (reverse["pairs"], reverse["same configuration"], reverse["verdict"]) == (5, 5, "leaning worse")
    assert reverse["difference"] == pytest.approx(-0.03, abs=1e-4)
    assert reverse["mean after"] - reverse["mean before"] == pytest.approx(-0.03, abs=2e-4)
    assert "On Characters with kv, other and fake gave identical results in all 5 pairs." in sentences(found)
    unmatched = pd.read_csv(tmp_path / "compare_unmatched.csv")
    assert {"not in the study"} < set(unmatched["in other"]) and len(unmatched) == 20


def test_a_folder_against_itself_is_identical(collected: Path) -> None:
    found = compare(collected, collected)
    assert sum("gave identical results" in text for text in sentences(found)) == 15


def test_two_settings_of_one_study_side_by_side(collected: Path, tmp_path: Path) -> None:
    runs = scores(load_runs(collected))
    one, two = "dim64", "dim128"
    write_comparison(compare(Path(f"{collected}:{one}"), Path(f"{collected}:{two}")), tmp_path)
    row = pd.read_csv(tmp_path / "compare.csv").set_index(["task", "variant"]).loc[("copy", "kv")]
    kv = runs[(runs["task"] == "copy") & (runs["variant"] == "kv")].pivot(
        index="seed", columns="setting", values="value"
    )
    assert row["setting"] == f"{one} → {two}" and row["pairs"] == 6
    assert row["difference"] == pytest.approx((kv[two] - kv[one]).mean(), abs=1e-4)
    with pytest.raises(KvformerError, match=rf"no run of setting 'no'; its settings are .*{one}"):
        compare(Path(f"{collected}:{one}"), Path(f"{collected}:no"))
    several = rf"fake has several settings of task copy, name one: \S*:{one}, \S*:{two}"
    for sides in ((collected, Path(f"{collected}:{one}")), (Path(f"{collected}:{one}"), collected)):
        with pytest.raises(KvformerError, match=several):
            compare(*sides)


def test_what_cannot_be_compared_is_one_clear_line(collected: Path, other: Path, tmp_path: Path) -> None:
    strange = tmp_path / "strange"
    shutil.copytree(other, strange, ignore=shutil.ignore_patterns("runs"))
    text = (other / "runs.csv").read_text()
    (strange / "runs.csv").write_text(text.replace(",test/accuracy,", ",test/recall,"))
    with pytest.raises(KvformerError, match="judged by test/accuracy"):
        compare(collected, strange)
    (strange / "runs.csv").write_text(re.sub(r"^(\w+),(synthetic|vision|language),", r"other_\1,\2,", text, flags=re.M))
    with pytest.raises(KvformerError, match=r"no run .* in common"):
        compare(collected, strange)
    (strange / "runs.csv").write_text(text.replace(",finished,", ",failed,"))
    with pytest.raises(KvformerError, match="no run finished in both"):
        compare(collected, strange)
    with pytest.raises(KvformerError, match="no such file"):
        compare(collected, tmp_path / "nowhere")
