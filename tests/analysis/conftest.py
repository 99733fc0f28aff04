"""The fake study, made-up pairs, and the fixtures of analysis and reporting, for the tests of this folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "reporting"))
sys.path.insert(0, str(Path(__file__).parent))

from study_fixtures import collected, curves, results  # noqa: F401
