"""The rule keeps what it promises, in simulated studies with known differences (a short run of tools/simulations)."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tools.simulations import studies
from tools.simulations.designs import FIXED, LOOKS, NAIVE, Design, decide, looked
from tools.simulations.errors import counts, errors, intervals, overall_errors
from tools.simulations.power import power

from kvformer.analysis import decisions, testing
from kvformer.analysis.comparisons import Comparison
from kvformer.config.looks import Looks

COMMITTED = Path(__file__).parents[2] / "docs" / "simulations"
SYMMETRIC = ("normal", "t3", "bimodal")
QUICK = Design("12 seeds, t test", (12,), test=testing.t_p)


def committed(name: str) -> pd.DataFrame:
    return pd.read_csv(COMMITTED / f"{name}.csv")


def tolerance(share: float, n: int) -> float:
    """Three standard errors of a share."""
    return 3 * float(np.sqrt(share * (1 - share) / n))


def test_at_most_one_variant_in_twenty_gets_a_false_word() -> None:
    """In the worst cases, under every symmetric noise: a difference, an equivalence, or *not worse*."""
    found = errors(1500, (FIXED, LOOKS), SYMMETRIC)
    assert (found["any"] <= 0.05 + tolerance(0.05, 1500)).all(), found
    table = committed("errors")
    valid = table[table["design"].isin([FIXED.name, LOOKS.name]) & table["noise"].isin(SYMMETRIC)]
    assert len(valid) == 24 and (valid["any"] <= 0.05 + tolerance(0.05, valid["studies"].iloc[0])).all()


def test_equivalence_at_the_margin_is_rarely_claimed() -> None:
    found = errors(3000, (QUICK,), ("normal",)).set_index("truth")["equivalence"]
    assert 0.025 < found["at the margin"] < 0.05 + tolerance(0.05, 3000)
    assert found.max() < 0.05 + tolerance(0.05, 3000)


def test_seeds_until_it_is_decided_fail_the_same_test() -> None:
    """The naive rule: the usual test after 5, 8, 12 and 20 seeds, until it decides."""
    found = errors(3000, (NAIVE,), ("normal",)).set_index("truth")
    assert found.loc["no difference", "any"] > 0.05 + tolerance(0.05, 3000)
    assert found.loc["no difference", "difference"] == pytest.approx(0.14, abs=0.02)


def test_repeated_intervals_contain_the_true_difference_at_all_looks() -> None:
    found = intervals(400).set_index(["design", "noise"])
    for design in (LOOKS, looked(8, 12, 20)):
        for noise in ("normal", "t3"):
            assert found.loc[(design.name, noise), "all_looks"] > 0.95 - tolerance(0.05, 400 * 14)
            assert found.loc[(design.name, noise), "drawn"] > 0.95
    assert found.loc[(NAIVE.name, "normal"), "all_looks"] < 0.9


def test_overall_verdicts_and_the_count_of_worse_tasks() -> None:
    found = overall_errors(1500).set_index(["noise", "seeds"])["error"]
    assert all(found[noise, seeds] < 0.05 + tolerance(0.05, 1500) for noise in SYMMETRIC for seeds in (5, 12))
    assert max(counts(1500, 0.0), counts(1500, 0.5)) < 0.05 + tolerance(0.05, 1500)


def test_the_committed_numbers_are_those_of_the_program() -> None:
    table = committed("errors").set_index(["design", "noise", "truth"])
    again = errors(int(table["studies"].iloc[0]), (NAIVE,), ("normal",)).set_index(["design", "noise", "truth"])
    pd.testing.assert_frame_equal(table.loc[again.index], again, atol=6e-5, rtol=0)


def test_power_is_that_of_the_committed_table() -> None:
    """Within simulation error: the number of undecided comparisons has a standard deviation of about 3."""
    table, few = committed("power").set_index("design"), power(60, (FIXED, LOOKS), log=str).set_index("design")
    for design in few.index:
        assert few.loc[design, "undecided"] == pytest.approx(table.loc[design, "undecided"], abs=3 * 3 / np.sqrt(60))
        assert few.loc[design, "hours"] == pytest.approx(table.loc[design, "hours"], rel=0.05)
    assert table.loc[LOOKS.name, "undecided"] < table.loc[FIXED.name, "undecided"] < 15 < 28
    assert table.loc[LOOKS.name, "hours"] < table.loc["20 seeds", "hours"]


def test_looks_have_the_default_weights() -> None:
    assert list(LOOKS.weights) == pytest.approx(Looks(looks=[12, 20]).shares)


@pytest.mark.parametrize("looks", [LOOKS, FIXED])
def test_the_simulated_rule_is_the_rule(looks: Design) -> None:
    """Word by word the same as `decisions.decide`, on studies in which everything occurs."""
    rng = np.random.default_rng(11)
    truth = np.resize([0.0, 0.0, 0.4, 1.0, -1.0, 3.0, -0.2], studies.TASKS)
    drawn = truth[:, None] + rng.choice([0.2, 1.0, 3.0], (12, studies.TASKS, 1)) * rng.normal(
        size=(12, studies.TASKS, looks.looks[-1])
    )
    ours, seen = decide(drawn, looks), set()
    for study, family in enumerate(drawn):
        comparisons = [comparison(pairs / 100, f"t{task}") for task, pairs in enumerate(family)]
        plan = decisions.Looks(looks.looks, looks.weights) if len(looks.looks) > 1 else decisions.Looks()
        for task, finding in enumerate(decisions.decide(comparisons, plan)):
            flags = (ours.different[study, task], ours.equivalent[study, task], ours.not_worse[study, task])
            word = "different" if flags[0] else "equivalent" if flags[1] else "not worse" if flags[2] else "open"
            said = {"better": "different", "worse": "different"}.get(finding.verdict, finding.verdict)
            assert word == (said if said in ("different", "equivalent", "not worse") else "open")
            if finding.decided_at:
                assert looks.looks[finding.decided_at - 1] == ours.seeds[study, task]
            seen.add((word, finding.decided_at))
    assert {("different", 1), ("equivalent", 1), ("open", 0)} <= seen


def comparison(pairs: "np.ndarray[tuple[int], np.dtype[np.float64]]", task: str) -> Comparison:
    runs = [
        {"setting": "default", "variant": name, "seed": seed, "status": "finished", "value": 0.5}
        for seed in range(len(pairs))
        for name in ("kv", "qkv")
    ]
    names = {"task": task, "setting": "default", "variant": "kv", "metric": "test/accuracy", "goal": "max"}
    return Comparison(names, 0.01, pd.Series(pairs), pd.DataFrame(runs))
