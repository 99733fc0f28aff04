"""Marks the slow tests, so that `make test-fast` can leave them out; skips those that need a GPU if there is none."""

from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SLOW = (
    "cluster",
    "faults",
    "workflow",
    "analysis/test_coverage.py",
    "analysis/test_results.py",
    "analysis/test_sampling.py",
    "analysis/test_scaling.py",
    "analysis/test_simulations.py",
    "analysis/test_statistics.py::test_holm_is_that_of_statsmodels",
    "benchmarks/test_gpu.py::test_the_whole_script",
    "benchmarks/test_scale.py",
    "core/test_attempts.py",
    "core/test_cli.py::test_nothing_heavy_is_imported_without_need",
    "core/test_cli.py::test_training_imports_neither_torchvision_nor_mlflow_nor_pandas",
    "core/test_cost.py::test_macs_by_formula_are_those_that_pytorch_counts",
    "core/test_devices.py::test_a_compiled_run_equals_the_plain_one",
    "core/test_extension.py::test_a_new_task_and_a_new_variant_are_trained",
    "core/test_gpus.py::test_a_run_uses_the_gpu_that_it_claimed",
    "core/test_gpus.py::test_each_run_has_a_gpu_of_its_own_and_the_rest_share_evenly",
    "core/test_graphs.py",
    "core/test_kept_step.py",
    "core/test_linear.py::test_large_tensors_reuse_the_memory_of_earlier_ones",
    "core/test_optimizers.py::test_a_step_does_not_import_the_compiler",
    "core/test_resume.py",
    "core/test_terms.py::test_it_computes_its_logits_and_counts_its_parameters",
    "core/test_terms.py::test_it_is_explained_listed_and_trained",
    "core/test_train_many.py",
    "data/test_datasets.py::test_addresses_and_digests_are_those_of_torchvision",
    "data/test_datasets.py::test_planning_imports_nothing_heavy",
    "data/test_features.py",
    "data/test_prepare.py::test_processes_that_start_together_prepare_once",
    "data/test_registries.py",
    "docs/test_numbers.py::test_the_command_checks_and_says_so",
    "docs/test_numbers.py::test_the_documents_say_what_the_committed_results_say",
    "packaging/test_dependencies.py::test_nothing_that_training_loads_is_left_out",
    "reporting/test_browser.py",
    "reporting/test_crate.py::test_reporting_never_imports_torch_or_training",
    "reporting/test_figures.py",
    "reporting/test_first_screen.py",
    "reporting/test_report.py",
    "reporting/test_tables.py",
    "tracking/test_cells.py",
    "tracking/test_parallel.py",
    "tracking/test_people.py",
    "tracking/test_remote.py",
    "tracking/test_server.py",
    "tracking/test_store.py",
    "tracking/test_track.py",
)
"""Folders, files and tests that take more than about two seconds of processor time (`--durations=0` shows them)."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `SLOW` names; tests in several variants (`name[variant]`) as one."""
    for item in items:
        if not item.path.is_relative_to(TESTS):
            continue
        file = item.path.relative_to(TESTS).as_posix()
        name = getattr(item, "originalname", None) or item.name
        if {file.split("/")[0], file, f"{file}::{name}"} & set(SLOW):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("gpu") and not _has_gpu():
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@cache
def _has_gpu() -> bool:
    import torch  # whatever needs a GPU has imported it

    return torch.cuda.is_available()
