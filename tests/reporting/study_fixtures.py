"""Fixtures that the tests of analysis and reporting share."""

from pathlib import Path

import pandas as pd
import pytest

from kvformer.analysis.analyse import analyse
from kvformer.analysis.collect import collect
from kvformer.analysis.curves import average_curves
from kvformer.analysis.results import Results

PUBLISHED = Path(__file__).parents[2] / "config" / "published.csv"


@pytest.fixture(scope="session")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a collected fake study; tests must not write into it."""
    from fake_study import write_fake_study

    results = write_fake_study(tmp_path_factory.mktemp("results"))
    collect(results)
    return results


@pytest.fixture(scope="session")
def results(collected: Path) -> Results:
    """The numbers of the fake study."""
    return analyse(collected, PUBLISHED)


@pytest.fixture(scope="session")
def curves(results: Results) -> pd.DataFrame:
    """The averaged curves of the fake study."""
    return average_curves(results)
