"""One thread, so that numbers do not depend on the machine; and the helpers of this folder importable by its tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fixtures import prepared, single_thread  # noqa: F401
