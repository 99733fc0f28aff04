"""Write a study as data, for reporting: `python study.py FILE`, with its configuration as JSON in KVFORMER_STUDY.

KVFORMER_SKIPPED lists the tasks that planning left out.
"""

import json
import os
import sys
from pathlib import Path

from kvformer.config.loading import load_study
from kvformer.files import write_json

study = load_study(json.loads(os.environ["KVFORMER_STUDY"]))
write_json(Path(sys.argv[1]), study.content() | {"skipped": json.loads(os.environ["KVFORMER_SKIPPED"])})
print(f"{sys.argv[1]}: {len(study.runs())} runs")
