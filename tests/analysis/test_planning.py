"""What more seeds would decide, and what they cost."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kvformer.analysis import planning
from kvformer.analysis.comparisons import Comparison
from kvformer.analysis.decisions import Looks, findings
from kvformer.analysis.results import Results
from kvformer.cli import main


def comparison(values: list[float], task: str, variant: str = "kv", margin: float | None = 0.01) -> Comparison:
    """Runs of 1800 s for the variant and 3600 s for the baseline, at each of two settings."""
    runs = [
        {"setting": setting, "variant": name, "seed": seed, "status": "finished", "value": value, "seconds": seconds}
        for setting in ("a", "b")
        for seed, difference in enumerate(values)
        for name, value, seconds in ((variant, 0.5 + difference, 1800.0), ("qkv", 0.5, 3600.0))
    ]
    names = {"task": task, "setting": "all", "variant": variant, "metric": "test/accuracy", "goal": "max"}
    return Comparison(names, margin, pd.Series(values, dtype=float), pd.DataFrame(runs))


def spread(mean: float, size: float, n: int = 8) -> list[float]:
    """n differences with exactly this mean, in no order."""
    return list(mean + size * np.random.default_rng(n).permutation(np.linspace(-1, 1, n)))


def planned(*comparisons: Comparison, looks: Looks | None = None) -> pd.DataFrame:
    return planning.plan(findings(comparisons, looks or Looks()))


def test_open_comparisons_are_planned_the_cheapest_first_and_hopeless_ones_last() -> None:
    """All are noisy; one is nearer to zero, one is decided."""
    table = planned(
        comparison(spread(0.005, 0.05), "between"),
        comparison(spread(0.02, 0.05), "slow"),
        comparison(spread(0.02, 0.03), "fast"),
        comparison(spread(0.5, 0.001), "decided"),
    )
    first = table.drop_duplicates("task")
    assert list(first["task"]) == ["fast", "slow", "between"]
    assert table["seeds"].tolist() == [12, 20, 40] * 3
    assert (table["plan"] == "new study").all() and (table["n"] == 8).all()
    chance = table.pivot_table(index="task", columns="seeds", values="chance")
    assert (chance.diff(axis=1).iloc[:, 1:] >= 0).all().all() and chance.loc["fast", 12] > 0.5
    assert list(first["hopeless"]) == [False, False, True] and chance.loc["between", 40] < 0.5


def test_hours_are_those_of_variant_and_baseline_over_all_settings() -> None:
    table = planned(comparison(spread(0.02, 0.05), "slow"))
    assert list(table["hours"]) == [36.0, 60.0, 120.0] and list(table["baseline_hours"]) == [24.0, 40.0, 80.0]


def test_looks_to_come_use_the_pairs_so_far() -> None:
    """Only further seeds cost something. What is decided stays in the family and is not planned."""
    looks = Looks([8, 12, 20], [0.2, 0.3, 0.5])
    pair = comparison(spread(0.02, 0.05), "slow"), comparison(spread(0.0, 0.001), "equivalent")
    table = planned(*pair, looks=looks)
    assert list(table["task"]) == ["slow"] * 2 and list(table["plan"]) == ["further looks"] * 2
    assert list(table["seeds"]) == [12, 20] and list(table["hours"]) == [12.0, 36.0]
    assert table["chance"].is_monotonic_increasing
    done = planned(comparison(spread(0.01, 0.05, 20), "slow"), looks=looks)
    assert list(done["plan"]) == ["new study"] * 3 and list(done["n"]) == [20] * 3


def test_a_first_look_that_is_not_reached_is_planned_with_its_own_number_of_seeds() -> None:
    """Six of eight seeds are known: they are eight in the end, and two cost something."""
    looks, known = Looks([8, 20], [0.4, 0.6]), spread(0.01, 0.03, 6)
    table = planned(comparison(known, "slow"), looks=looks)
    assert list(table["seeds"]) == [8, 20] and list(table["hours"]) == [6.0, 42.0]
    rng, decided = np.random.default_rng(3), 0
    for _ in range(200):
        sd = np.std(known, ddof=1) * np.sqrt(5 / rng.chisquare(5))
        drawn = rng.normal(np.mean(known) + sd / np.sqrt(6) * rng.normal(), sd, 14)
        (found,) = findings([comparison([*known, *drawn], "slow")], looks, until=2)
        decided += found.decided_at > 0
    assert table["chance"].iloc[1] == pytest.approx(decided / 200, abs=0.1)


def test_before_the_first_look_no_p_is_below_the_smallest_possible_either() -> None:
    """Four pairs will have 2^(1−4) at least, which is not enough, however clear the difference is."""
    table = planned(comparison(spread(0.5, 0.01, 3), "clear", margin=None), looks=Looks([4, 20], [0.3, 0.7]))
    assert list(table["seeds"]) == [4, 20] and table["chance"].iloc[0] == 0 and table["chance"].iloc[1] > 0.9


def test_the_chance_is_how_often_the_rule_decides() -> None:
    """Three fifths of the seeds are known; the rule itself judges what is drawn for the rest."""
    known, looks = np.array(spread(0.012, 0.03, 12)), Looks([12, 20], [0.4, 0.6])
    (chance,) = planned(comparison(list(known), "sort"), looks=looks)["chance"]
    rng, decided = np.random.default_rng(3), 0
    for _ in range(200):
        sd = known.std(ddof=1) * np.sqrt(11 / rng.chisquare(11))
        drawn = rng.normal(known.mean() + sd / np.sqrt(12) * rng.normal(), sd, 8)
        (found,) = findings([comparison([*known, *drawn], "sort")], looks, until=2)
        decided += found.decided_at > 0
    assert chance == pytest.approx(decided / 200, abs=0.1)


def test_what_cannot_be_predicted_is_unknown() -> None:
    few = planned(comparison([0.01, 0.02], "few"))
    assert few["chance"].isna().all() and not few["hopeless"].any() and few["hours"].notna().all()
    constant = planned(comparison([0.0] * 5, "constant"))
    assert list(constant["chance"]) == [1, 1, 1]
    without_margin = planned(comparison(spread(0.001, 0.02), "free", margin=None))
    assert without_margin["chance"].between(0, 0.6).all()
    assert planned(comparison(spread(0.5, 0.001), "decided")).empty and planned().empty


def test_sixty_comparisons_take_seconds_and_the_same_pairs_give_the_same_numbers() -> None:
    rng = np.random.default_rng(5)
    many = [comparison(list(rng.normal(0.01, 0.03, 5)), f"t{t}", f"v{v}") for t in range(12) for v in range(5)]
    found = findings(many, Looks())
    start = time.process_time()
    first = planning.plan(found)
    assert time.process_time() - start < 5
    pd.testing.assert_frame_equal(first, planning.plan(found))
    alone = planning.plan([one for one in found if one.comparison.names["variant"] == "v3"])
    both = first[first["variant"] == "v3"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone.reset_index(drop=True), both)


@pytest.fixture
def folder(results: Results, tmp_path: Path) -> Path:
    """A study that was analysed, with these open comparisons."""
    copy = shutil.copytree(results.folder, tmp_path / "study")
    still = planned(comparison(spread(0.02, 0.05), "slow"), comparison([0.01, 0.02], "few"))
    replace(results, folder=copy, planning=still).write()
    return copy


def test_the_command_prints_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan-seeds", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 open comparisons")
    assert lines[3].split()[3:] == ["12", "seeds", "20", "seeds", "40", "seeds"]
    slow, few = ([word for word in line.split() if word not in "%h"] for line in lines[4:6])
    assert slow[:3] == ["slow", "kv", "8"] and slow[4::2] == ["36.00", "60.00", "120.00"]
    assert few == ["few", "kv", "2", "?", "36.00", "?", "60.00", "?", "120.00"]
    assert "all of them with 40 seeds: 240.0 hours, each baseline trained once" in lines
    assert lines[-1] == "a chance is unknown (?) with fewer than 3 pairs"


def test_a_folder_without_a_study_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan-seeds", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "has no study.json" in captured.err


def test_nothing_open_is_said(folder: Path, results: Results, capsys: pytest.CaptureFixture[str]) -> None:
    replace(results, folder=folder, planning=results.planning.iloc[:0]).write()
    assert main(["plan-seeds", str(folder)]) == 0
    assert capsys.readouterr().out == "no comparison is open; more seeds would decide nothing\n"
