"""The fake study, and what tests of analysis and reporting share, importable by the tests of this folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "reporting"))

from study_fixtures import collected, curves, results  # noqa: F401
