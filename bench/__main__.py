"""`make bench`: everything side by side in one run.

    python -m bench [PART…] [--rounds 5] [--quick] [--json FILE] [--markdown]

The parts are those of `bench.common.PARTS`; none is all. The table goes to standard output, all single figures to
bench/results/DATE.json. The exit status is 1 when a bound does not hold or a part fails.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

from bench.common import PARTS, Bench, Broken, Lacking, Row, as_markdown, as_text, cells, machine, write_json


def main() -> int:
    """Measure, and print the table."""
    options = argparse.ArgumentParser(prog="bench", description="Measures everything side by side in one run.")
    options.add_argument("parts", metavar="PART", nargs="*", help=f"{', '.join(PARTS)}; default: all")
    options.add_argument("--rounds", type=int, default=5, help="rounds of each measurement (default: 5)")
    options.add_argument("--quick", action="store_true", help="small and few, to see that everything works")
    options.add_argument("--json", metavar="FILE", help="default: bench/results/DATE.json")
    options.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    chosen = options.parse_args()
    if unknown := sorted(set(chosen.parts) - set(PARTS)):
        options.error(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory(prefix="wirelab-bench-") as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder  # run directories of its own: `wirelab down --all` elsewhere ends none
        return _measure(chosen)


def _measure(chosen: argparse.Namespace) -> int:
    bench = Bench(repeats=1 if chosen.quick else max(1, chosen.rounds), quick=chosen.quick)
    about = machine()
    bench.say(", ".join(f"{key} {value}" for key, value in about.items()))
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    broken = False
    file = Path(chosen.json or f"bench/results/{time.strftime('%Y%m%d-%H%M%S')}.json")
    for part in chosen.parts or PARTS:
        began = time.monotonic()
        try:
            for row in importlib.import_module(PARTS[part]).measure(bench):
                rows.append(row)
                bench.say("  ".join(cell for cell in cells(row) if cell))
        except Lacking as reason:
            skipped[part] = str(reason)
            bench.say(f"{part}: not measured: {reason}")
            continue
        except (Exception, SystemExit) as reason:  # whatever it is: the other parts are worth an hour
            if not isinstance(reason, (Broken, SystemExit)):
                traceback.print_exc()
            skipped[part] = f"it failed: {reason or type(reason).__name__}"
            broken = True
            bench.say(f"{part}: {skipped[part]}")
            continue
        finally:
            write_json(rows, file, skipped)
        bench.say(f"{part}: {time.monotonic() - began:.0f} s")
    hardware = f"{about['processors']} processors ({about['processor']}), {about['memory_mib'] // 1024} GiB"
    software = f"Linux {about['kernel']}, Python {about['python']}, as {about['user']}"
    print(f"{hardware}, {software}; median (lowest–highest)\n")
    sys.stdout.write(as_markdown(rows) if chosen.markdown else as_text(rows))
    for part, reason in skipped.items():
        print(f"\nnot measured: {part}: {reason}")
    bench.say(f"all figures: {file}")
    return 1 if broken or any(row.holds is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
