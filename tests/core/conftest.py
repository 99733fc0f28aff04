"""One thread, so that results do not depend on the machine. Makes the helpers of this folder importable."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fixtures import prepared, single_thread  # noqa: F401
