"""The first screen says what the verdicts carry, in every situation, and no more."""

import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from situations import TASKS, results

from kvformer.analysis.quantities import quantity
from kvformer.analysis.results import Results
from kvformer.records.study import LookRecord, OpenComparison, look_file
from kvformer.reporting import panels
from kvformer.reporting.answers import answers
from kvformer.reporting.headline import headline
from kvformer.reporting.page import write_report
from kvformer.reporting.page_looks import banner
from kvformer.reporting.page_method import method
from kvformer.reporting.plots import Axis
from kvformer.reporting.sharing import has_query, shares
from kvformer.reporting.verdict_figure import verdict_figure
from kvformer.reporting.verdicts import Verdicts
from kvformer.reporting.wording import labelled, listing, margin_of, markup, sentence_case, tenth
from kvformer.spec.variants import VARIANTS

WORSE = ["worse", "both solve", "equivalent", "both solve", "undecided", "worse", "leaning worse"]
SAFE = ["undecided", "both solve", "equivalent", "both solve", "undecided", "equivalent", "undecided"]
ONE_WORSE = ["undecided", *["equivalent"] * 4, "worse", "undecided"]


def said(found: Results) -> dict[str, str]:
    return {item.question: item.answer for item in answers(Verdicts(found))}


def title(folder: Path, averages: dict[str, str], word: str = "undecided", **options: Any) -> str:
    """The headline of a study in which all single tasks have one verdict."""
    return headline(Verdicts(results(folder, dict.fromkeys(averages, word), averages, **options)))


def test_the_headline_in_the_words_of_the_rule(tmp_path: Path) -> None:
    words = {"kv": WORSE, "k": WORSE, "q_kv": ONE_WORSE}
    found = results(tmp_path, words, {"kv": "worse", "k": "worse", "q_kv": "equivalent"})
    assert headline(Verdicts(found)) == (
        "Every variant without a query is worse on average. Sharing keys and values (`q_kv`) is equivalent on average, "
        "but worse on characters."
    )
    assert title(tmp_path, {"kv": "worse", "mqa": "worse", "k": "worse"}) == (
        "Every variant without a query is worse on average, and so is `mqa`."
    )
    assert title(tmp_path, {"kv": "worse"}) == "`kv` is worse than `qkv` on average."
    assert title(tmp_path, {"kv": "worse", "k": "undecided"}) == (
        "`kv` is worse than `qkv` on average. `k` is not decided."
    )
    assert title(tmp_path, {"kv": "mixed", "q_kv": "better", "mqa": "not worse"}) == (
        "`mqa` is not worse on average. Sharing keys and values (`q_kv`) is better on average. "
        "`kv` is better on some tasks and worse on others."
    )
    many = dict.fromkeys(["kv", "k", "kv_pos", "k_pos"], "leaning worse") | {"mqa": "equivalent"}
    assert title(tmp_path, many, word="equivalent").endswith("4 of 5 variants are not decided.")


def test_what_both_sides_solve_is_decided(tmp_path: Path) -> None:
    both = "both solve"
    assert title(tmp_path, {"kv": both}, word=both) == "`kv` solves every task, as `qkv` does."
    assert title(tmp_path, {"kv": both, "k": both}, word=both) == "`kv` and `k` solve every task, as `qkv` does."
    few = results(tmp_path, {"kv": [both, both], "k": ["worse", both]}, tasks=["sort", "copy"])
    assert headline(Verdicts(few)) == (
        "Compared with `qkv`: on sort, `k` is worse, and `kv` solves it, as `qkv` does; "
        "on copy, every variant solves it."
    )


def test_an_average_over_one_seed_is_not_decided(tmp_path: Path) -> None:
    found = results(tmp_path, {"kv": WORSE}, {"kv": "worse"})
    found.overall["n"] = 1  # no other seed has every task
    assert said(found)["How sure is that?"].startswith("**The average is not decided;")


def test_another_baseline_is_named_and_one_without_query_is_not_asked_for_it(tmp_path: Path) -> None:
    found = results(tmp_path, {"qkv": SAFE, "kv_pos": WORSE}, {"qkv": "equivalent", "kv_pos": "worse"}, baseline="kv")
    assert headline(Verdicts(found)).startswith("`kv_pos` is worse than `kv` on average.")
    assert "Is the query needed?" not in said(found)


def test_whether_the_query_is_needed(tmp_path: Path) -> None:
    def answer(**averages: str) -> str:
        return said(results(tmp_path, dict.fromkeys(averages, WORSE), averages))["Is the query needed?"]

    assert answer(kv="worse", k="worse", q_kv="equivalent") == (
        "**Yes, at this training length.** Both variants without one are worse on average, by 4.0 to 4.1 margins, "
        "each on at least 2 of 7 tasks."
    )
    assert answer(kv="worse").startswith("**Yes, at this training length.** `kv` has none and is worse on average")
    assert answer(kv="worse", k="undecided") == (
        "**Not decided for all.** Of 2 variants without one, `kv` is worse on average and one is open."
    )
    assert answer(kv="equivalent", k="worse").startswith("**Not by every variant, at this training length.**")
    assert answer(kv="undecided", k="leaning worse").startswith("**Not decided.**")
    assert "Is the query needed?" not in said(results(tmp_path, {"mqa": SAFE}, {"mqa": "equivalent"}))


def test_what_is_safe_and_what_it_saves(tmp_path: Path) -> None:
    found = said(results(tmp_path, {"kv": WORSE, "q_kv": ONE_WORSE}, {"kv": "worse", "q_kv": "equivalent"}))
    assert found["Which sharing is safe?"] == (
        "**K = V (`q_kv`), on average:** 0.00 margins [−0.30,\xa0+0.30], inside ±1. It is worse on characters; "
        "2 tasks are open."
    )
    assert found["What does it save?"] == (
        "**`q_kv`: half the key–value cache**, 25\xa0% of the attention parameters, 11\xa0% of the MACs and 4\xa0% of "
        "the step time. `kv` saves as many parameters, no cache."
    )
    nothing = said(results(tmp_path, {"kv": WORSE, "k": WORSE}, {"kv": "worse", "k": "mixed"}))
    assert nothing["Which sharing is safe?"].startswith("**None that is shown.**")
    assert "What does it save?" not in nothing
    three = dict.fromkeys(("kv_mask", "kv_diag", "kv_rot"), ONE_WORSE)
    alike = said(results(tmp_path, three, dict.fromkeys(three, "equivalent")))["Which sharing is safe?"]
    assert alike.endswith(" are equivalent on average, too.") and alike.count("`") == 6
    mixed = said(results(tmp_path, three, {**dict.fromkeys(three, "not worse"), "kv_rot": "equivalent"}))
    assert mixed["Which sharing is safe?"].endswith(" are safe, too.")
    unmeasured = results(tmp_path, {"q_kv": SAFE}, {"q_kv": "equivalent"}, costs=False)
    assert "What does it save?" not in said(unmeasured)
    page = write_report(unmeasured).read_text(encoding="utf-8")
    assert "Costs were not measured" in page and 'href="#cost"' not in page


def test_how_sure_that_is(tmp_path: Path) -> None:
    def sure(averages: dict[str, str], seeds: int = 5) -> str:
        words = {"kv": WORSE, "q_kv": SAFE}
        return said(results(tmp_path, words, averages, seeds=seeds))["How sure is that?"]

    assert sure({"kv": "worse", "q_kv": "equivalent"}) == (
        "**All averages are decided; some single tasks are not.** 5 paired seeds: 5 of 10 comparisons below the "
        "ceiling are open. Gaps shrank by 50\xa0% in the second half of training."
    )
    assert sure({"kv": "worse", "q_kv": "not worse"}).startswith("**1 of 2 averages is decided;")
    assert sure({"kv": "undecided", "q_kv": "undecided"}, 3).endswith(
        "So few seeds decide only very large differences."
    )


def test_one_seed_has_numbers_without_verdicts(tmp_path: Path) -> None:
    found = results(tmp_path, {"kv": "undecided"}, {"kv": "undecided"}, seeds=1)
    assert headline(Verdicts(found)) == "One seed: numbers without verdicts." and not answers(Verdicts(found))
    page = write_report(found).read_text(encoding="utf-8")
    first = page[page.index("<main") : page.index('id="tasks"')]
    assert "−0.3" in first and "[−" not in first
    assert not any(f'href="#g-{word}"' in first for word in ("worse", "undecided", "equivalent"))


def test_two_seeds_have_no_interval(tmp_path: Path) -> None:
    found = results(tmp_path, {"kv": "undecided"}, {"kv": "undecided"}, seeds=2)
    assert headline(Verdicts(found)) == "`kv` is not decided."
    average = panels.average(Verdicts(found)).rows["kv"]
    assert average.plot.bar is None and average.plot.mean is not None and average.interval == ""
    assert all(cell.interval == "" for cell in Verdicts(found).cells.values())


def test_few_tasks_are_said_one_by_one(tmp_path: Path) -> None:
    words = {"kv": ["worse", "equivalent"], "kv_pos": ["worse", "undecided"], "q_kv": ["better", "undecided"]}
    found = results(tmp_path, words, tasks=["sort", "mnist"])
    assert headline(Verdicts(found)) == (
        "Compared with `qkv`: on sort, `kv` and `kv_pos` are worse, and `q_kv` is better; on MNIST, `kv` is equivalent."
    )
    assert list(said(found)) == ["What was found?", "How sure is that?"]
    page = write_report(found).read_text(encoding="utf-8")
    assert page.count('id="t-sort"') == 1 and page.index('id="t-sort"') < page.index('id="map"')
    single = results(tmp_path, {"kv": ["undecided"]}, tasks=["sort"])
    assert headline(Verdicts(single)) == "Compared with `qkv`: on sort, nothing is decided."
    alike = results(tmp_path, {"kv": ["undecided", "worse", "undecided"]}, tasks=["sort", "mnist", "shift"])
    assert (
        headline(Verdicts(alike))
        == "Compared with `qkv`: on sort and shift, nothing is decided; on MNIST, `kv` is worse."
    )


def test_many_variants_are_rows_and_counts(tmp_path: Path) -> None:
    names = [name for name in VARIANTS if name != "qkv"][:22]
    averages = dict.fromkeys(names[:8], "worse") | dict.fromkeys(names[8:], "undecided")
    found = results(tmp_path, dict.fromkeys(names, WORSE), averages)
    verdicts = Verdicts(found)
    assert verdicts.many and headline(verdicts).startswith("8 of 22 variants are worse than `qkv` on average.")
    assert not any(row.plot.dots for row in panels.average(verdicts).rows.values())
    page = write_report(found).read_text(encoding="utf-8")
    assert "worse on at least</th>" in page


def test_lost_runs_are_marked_and_counted(tmp_path: Path) -> None:
    lost = [
        {"task": "sort", "setting": "default", "variant": "kv", "seed": 2, "status": "diverged", "path": "runs/a"},
        {"task": "mnist", "setting": "default", "variant": "kv", "seed": 2, "status": "failed", "path": "runs/b"}
        | {"reason": "OSError: no space left"},
    ]
    pairs = {("sort", "kv"): 4, ("mnist", "kv"): 4}
    page = write_report(results(tmp_path, {"kv": WORSE}, {"kv": "worse"}, pairs=pairs, lost=lost)).read_text("utf-8")
    assert '<a class="lost" href="#excluded">68 of 70 runs finished</a>' in page
    assert page.count("<sup>‡</sup>") == 2 and "‡ Fewer than 5 pairs" in page
    assert "<small>1 of 5 diverged</small>" in page and "OSError: no space left" in page
    assert "4 to 5 paired seeds" in page


@pytest.fixture
def looking(tmp_path: Path) -> Results:
    taken = LookRecord(look=1, seeds=8, time="now", open=[OpenComparison(task="mnist", variant="kv")])
    taken.write(look_file(tmp_path, 1))
    averages = {"kv": "worse", "q_kv": "undecided"}
    pairs = {("mnist", "kv"): 12}
    looks = {"looks": [8, 12, 20], "weights": [0.2, 0.3, 0.5]}
    return results(tmp_path, {"kv": WORSE, "q_kv": SAFE}, averages, seeds=8, pairs=pairs, **looks)


def test_between_looks_only_what_is_final_is_a_headline(looking: Results) -> None:
    found = banner(Verdicts(looking))
    assert found and found.now == 1 and found.steps == [8, 12, 20]
    assert found.words.startswith("**Look 1 of 3**: 8 of up to 20 seeds. What is decided is final;")
    assert found.words.endswith("1 comparison gets more seeds, about 1.8 core-hours to the next look.")
    page = write_report(looking).read_text(encoding="utf-8")
    assert "<h1><code>kv</code> is worse than <code>qkv</code> on average.</h1>" in page
    assert "<sub>12</sub>" in page and "<sub>8</sub>" in page and "‡" not in page


def test_after_the_last_look_and_with_fixed_seeds_there_is_no_banner(looking: Results, tmp_path: Path) -> None:
    LookRecord(look=1, seeds=8, time="now").write(look_file(tmp_path, 1))
    assert banner(Verdicts(looking)) is None
    assert banner(Verdicts(results(tmp_path, {"kv": WORSE}, {"kv": "worse"}))) is None


def test_what_is_not_decided_and_what_it_would_take(tmp_path: Path) -> None:
    found = Verdicts(results(tmp_path, {"kv": WORSE, "q_kv": SAFE}, {"kv": "worse", "q_kv": "equivalent"}))
    assert [(plan.seeds, plan.open) for plan in panels.plans(found)] == [
        *[("5", "5"), ("12", "≈\xa04"), ("20", "≈\xa03"), ("40", "≈\xa03")],
    ]
    # Both comparisons are on one task: its baseline is trained once.
    assert [plan.hours for plan in panels.plans(found)] == ["3.5", "1.8", "3.0", "6.0"]
    assert panels.plan_words(found)[1] == "Least likely with 40: sort `kv` (92\xa0%) and sort `q_kv` (92\xa0%)."
    assert panels.plans(Verdicts(results(tmp_path, {"kv": "worse"}, {"kv": "worse"}))) == []
    found.results.planning["chance"] = float("nan")
    assert panels.plans(found) == panels.plan_words(found) == [], "with two seeds nothing can be predicted"


def test_the_map_orders_tasks_and_names_only_verdicts_that_occur(tmp_path: Path) -> None:
    found = Verdicts(results(tmp_path, {"q_kv": SAFE, "kv": WORSE}, {"q_kv": "equivalent", "kv": "worse"}))
    assert list(found.tasks)[:4] == ["sort", "recall", "shift", "copy"]
    assert [task.name for task in found.tasks.values() if task.unlearned] == ["recall"]
    assert list(panels.key(found)) == ["worse", "leaning worse", "undecided", "equivalent", "both solve"]
    cell = found.cells["characters", "kv"]
    assert (cell.short, cell.text, cell.interval) == ("−0.080", "−0.080", "[−0.090,\xa0−0.070]")
    assert found.cells["sort", "kv"].short == "−4.0"
    assert panels.margins(found) == "1 point of accuracy, 0.02 nats of loss or 1 BLEU"


def test_tasks_with_fewer_seeds_by_plan_are_not_incomplete(tmp_path: Path) -> None:
    found = results(tmp_path, {"kv": WORSE}, {"kv": "worse"}, pairs={("mnist", "kv"): 2, ("sort", "kv"): 4})
    runs = found.study.manifest.runs
    runs[:] = [run for run in runs if run.task != "mnist" or run.seed < 2]
    page = write_report(found).read_text(encoding="utf-8")
    assert page.count("<sup>‡</sup>") == 1 and "‡ Fewer than 5 pairs" in page and "2 to 5 seeds ·" in page


def test_the_tooltip_says_what_is_known(tmp_path: Path) -> None:
    found = Verdicts(results(tmp_path, {"kv": WORSE}, {"kv": "worse"})).cells
    assert found["sort", "kv"].words == "worse, −4.00 points [−4.50,\xa0−3.50], worse in 5 of 5 seeds"
    assert found["shift", "kv"].words == "both solve it in all 5 seeds"
    single = Verdicts(results(tmp_path, {"kv": ""}, {"kv": ""}, seeds=1)).cells
    assert single["sort", "kv"].words == "−0.30 points, worse in 1 of 1 seed"


def test_an_axis_has_few_round_numbers_at_every_scale() -> None:
    for high in (1e-7, 0.013, 4.0, 7e5, 3e17):
        ticks = Axis.around([0.0, high], 0).ticks(4)
        assert 1 <= len(ticks) <= 5 and ticks[0].text.strip("0.") == ""


def test_a_small_margin_is_printed_in_full() -> None:
    assert margin_of(0.0004, quantity("loss")) == "0.0004 nats" and margin_of(0.01, quantity("accuracy")) == "1 point"


def test_the_method_names_the_test_and_its_assumption(tmp_path: Path) -> None:
    words = method(Verdicts(results(tmp_path, {"kv": WORSE}, {"kv": "worse"})))
    assert (
        "come from Student’s t test, which assumes normal differences, because the exact sign-flip test needs 9"
        in words
    )
    found = results(tmp_path, {"kv": WORSE}, {"kv": "worse"})
    found.paired["test"] = ["sign-flip"] * 6 + [""]
    assert "come from the exact sign-flip test." in method(Verdicts(found))
    found.paired["test"] = ""
    assert "t test" not in (words := method(Verdicts(found))) and "sign-flip" not in words


def test_the_method_counts_the_tasks_of_each_variant(tmp_path: Path) -> None:
    found = results(tmp_path, {"kv": WORSE, "k": "worse"})
    paired = found.paired
    found = replace(found, paired=paired[(paired["variant"] == "kv") | paired["task"].isin(["sort", "copy"])].copy())
    words = method(Verdicts(found))
    assert "is shared among its 2 to 7 tasks" in words and "needs 7 to 9 seeds for 2 to 7 tasks" in words
    found.paired.loc[found.paired["variant"] == "kv", "test"] = "sign-flip"
    assert (
        "where it can decide, otherwise" in (words := method(Verdicts(found))) and "needs 7 seeds for 2 tasks" in words
    )


def test_every_variant_says_what_it_shares() -> None:
    said = {name: shares(name) for name in VARIANTS}
    assert (said["qkv"], said["kv"], said["k_pos"]) == ("separate Q, K, V", "Q = K", "Q = K = V + position")
    plain = [name for name, words in said.items() if words == "separate Q, K, V"]
    assert plain == ["qkv"]
    assert has_query("q_kv") and has_query("kv_rot") is False and has_query("mine") is None and shares("mine") == ""


def test_names_and_labels_never_become_markup() -> None:
    assert markup("**a <b>** `k<v`") == "<strong>a &lt;b&gt;</strong> <code>k&lt;v</code>"
    assert labelled("A & B (x<y)") == "A &amp; B <small>(x&lt;y)</small>"
    assert [sentence_case(label) for label in ("Sort", "MNIST", "Set anomaly", "CIFAR-10")] == [
        *("sort", "MNIST", "set anomaly", "CIFAR-10"),
    ]
    assert (listing([]), listing(["a"]), listing(["a", "b", "c"])) == ("", "a", "a, b and c")
    assert [tenth(margin) for margin in (1.0, 0.02, 0.5, 20.0)] == [1, 3, 2, 0]


def test_every_situation_has_a_page(tmp_path: Path) -> None:
    for baseline, words in (("qkv", "both solve"), ("kv", "better"), ("mine", "not worse")):
        found = results(tmp_path, {"q_kv": words}, {"q_kv": "not worse"}, baseline=baseline, tasks=TASKS)
        assert "</html>" in write_report(found).read_text(encoding="utf-8")
    found.paired["margin"] = float("nan")
    assert "</html>" in write_report(found).read_text(encoding="utf-8")
    alone = results(tmp_path, {})
    assert "Only <code>qkv</code> is trained here" in write_report(alone).read_text(encoding="utf-8")


@pytest.mark.parametrize("names", ["kv k", "kv k mqa kv_pos kv_rot kv_diag kv_mask kv_pair kv_rot_mqa"])
def test_the_picture_is_as_wide_as_its_columns_need(tmp_path: Path, names: str) -> None:
    variants = names.split()
    study = results(tmp_path, dict.fromkeys(variants, WORSE), dict.fromkeys(variants, "worse"))
    picture = verdict_figure(study, "light")
    width = float(re.findall(r'viewBox="0 0 (\d+) ', picture)[0])
    places = [float(x) for x in re.findall(r'<text class="m s c" x="([\d.]+)" y="62">', picture)]
    assert len(places) == len(variants) and places[-1] < width and (width > 860) == (len(variants) > 2)
    assert min(right - left for left, right in itertools.pairwise(places)) >= max(55, 6.7 * max(map(len, variants)))
