"""Verify all labs again and again, and say which verdicts were not always the same: soak.py [RUNS [JOBS]]."""

from __future__ import annotations

import collections
import json
import subprocess
import sys
import time


def main() -> int:
    """Returns 0 when every check of every lab passed every time."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    jobs = sys.argv[2] if len(sys.argv) > 2 else "2"
    verdicts: collections.defaultdict[tuple[str, str], collections.Counter[str]] = collections.defaultdict(
        collections.Counter
    )
    reasons: dict[tuple[str, str], str] = {}
    for number in range(1, runs + 1):
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "emulator", "verify", "--all", "--jobs", jobs, "--json"],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode not in (0, 1):
            return done.returncode
        answer = json.loads(done.stdout)
        failed = 0
        for lab in answer["labs"]:
            checks = lab.get("checks") or [{"name": "(the lab)", "verdict": "error", "reason": str(lab.get("error"))}]
            for check in checks:
                key = (lab["lab"], check["name"])
                verdicts[key][check["verdict"]] += 1
                if check["verdict"] != "pass":
                    failed += 1
                    reasons[key] = check["reason"]
        print(f"run {number}: {time.monotonic() - began:.0f} s, {failed} not passed", flush=True)
    print(f"{len(verdicts):,} checks of {len({lab for lab, _ in verdicts})} labs, {runs} runs")
    for (lab, check), found in sorted(verdicts.items()):
        if set(found) != {"pass"} or found.total() != runs:
            print(f"  {lab} {check}: {dict(found)}; {reasons.get((lab, check), 'not judged every time')}")
    return 0 if all(set(found) == {"pass"} and found.total() == runs for found in verdicts.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
