"""Look up known vulnerabilities of the versions in requirements.lock in PyPI's database; exit code 1 if there is one.

If the database cannot be reached, one line says that nothing was audited.
"""

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"


def main() -> int:
    command = [sys.executable, "-m", "uv", "tool", "run", "pip-audit", "--requirement", str(LOCK)]
    command += ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    result = subprocess.run(command, capture_output=True, text=True)
    try:
        audited = json.loads(result.stdout)["dependencies"]
    except ValueError:
        complaint = result.stderr.strip().splitlines()
        print(f"audit: nothing was audited: {complaint[-1] if complaint else f'exit code {result.returncode}'}")
        return 0
    skipped = [entry for entry in audited if "skip_reason" in entry]
    found = [entry for entry in audited if entry.get("vulns")]
    for entry in found:
        for flaw in entry["vulns"]:
            fixed = ", ".join(flaw["fix_versions"]) or "no version yet"
            print(f"audit: {entry['name']} {entry['version']}: {flaw['id']}, fixed in {fixed}")
    if len(skipped) == len(audited):
        print(f"audit: nothing was audited: the database has none of the {len(audited)} packages, or cannot be reached")
    else:
        known = len(audited) - len(skipped)
        print(f"audit: {len(found)} of {known} packages have a known vulnerability, {len(skipped)} not found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
