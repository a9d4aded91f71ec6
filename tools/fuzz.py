"""Fuzz what takes data from anywhere, guided by coverage: fuzz.py [--runs N] [--seed N] [labs|captures|words …].

Each part has a process of its own, with bounded memory, in which Atheris (libFuzzer) keeps those inputs that reach new
code. What an input must not do is said in tests/fuzz/promises.py; one that does it ends the part, is kept in
build/fuzz/PART/found, and belongs into tests/fuzz/found once it is understood. Inputs that reached new code stay in
build/fuzz/PART/corpus for the next time.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("labs", "captures", "words")
MEMORY_OCTETS = 1 << 30
"""As much memory as a part may take beyond what it has once everything is imported."""

LONGEST = 30_000
"""As long as an input may be, in octets."""

SECONDS = 360
"""An input that takes longer ends the part even where the alarms in tests/fuzz/promises.py are not heard."""


def main() -> int:
    """Returns 0 when all promises were kept."""
    parser = argparse.ArgumentParser(description="Fuzz what takes data from anywhere.")
    parser.add_argument(
        "parts", nargs="*", metavar="PART", choices=(*PARTS, []), help="labs, captures, words; default: all"
    )
    parser.add_argument("--runs", type=int, default=100_000, help="inputs a part")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        _inside(options.parts[0], options.runs, options.seed)
    return max(_outside(part, options.runs, options.seed) for part in options.parts or PARTS)


def _outside(part: str, runs: int, seed: int) -> int:
    """Run a part in a process of its own, and say what came of it."""
    place = ROOT / "build" / "fuzz" / part
    for folder in ("corpus", "found"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    argv = [sys.executable, __file__, "--inside", part, "--runs", str(runs), "--seed", str(seed)]
    memory = Path("/dev/shm")  # noqa: S108 - for speed, since each input is a file
    with (
        tempfile.TemporaryDirectory(prefix="wirelab-fuzz-", dir=memory if memory.is_dir() else None) as folder,
        (place / "log").open("wb") as log,
    ):
        env = {**os.environ, "TMPDIR": folder}
        process = subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT, env=env)
        _, status, used = os.wait4(process.pid, 0)
    said = (place / "log").read_text(encoding="utf-8", errors="replace")
    seconds = time.monotonic() - began
    reached = _last(r"cov: (\d+)", said)
    done = _last(r"#(\d+)\s", said)
    print(
        f"{part}: {done:,} inputs in {seconds:,.0f} s ({done / seconds:,.0f}/s), "
        f"at most {used.ru_maxrss / 1024:,.0f} MiB, "
        f"{reached:,} branches reached, {len(list((place / 'corpus').iterdir())):,} inputs kept",
        flush=True,
    )
    if code := os.waitstatus_to_exitcode(status):
        rows = said.splitlines()
        start = next((number for number, row in enumerate(rows) if "Uncaught Python exception" in row), len(rows) - 20)
        print("\n".join(rows[start : start + 60]), file=sys.stderr)
    return min(abs(code), 1)


def _last(pattern: str, text: str) -> int:
    found = re.findall(pattern, text)
    return max((int(number) for number in found), default=0)


def _inside(part: str, runs: int, seed: int) -> None:
    """Give the part its inputs; does not return."""
    import atheris

    sys.path.insert(0, str(ROOT))
    with atheris.instrument_imports(include=["emulator"]):
        target = importlib.import_module(f"tests.fuzz.{part}")
        for module in _modules():
            importlib.import_module(module)
    from tests.fuzz import promises

    place = ROOT / "build" / "fuzz" / part
    seeds = place / "seeds"
    seeds.mkdir(exist_ok=True)
    for number, octets in enumerate(target.seeds()):
        (seeds / str(number)).write_bytes(octets)

    def mutate(octets: bytes, most: int, number: int) -> bytes:
        changed: bytes = target.mutate(octets, random.Random(number))  # noqa: S311 - no secret
        return changed[:most]

    def check(octets: bytes) -> None:
        target.check(octets)

    promises.limit_memory(MEMORY_OCTETS)
    argv = [
        sys.argv[0], f"-runs={runs}", f"-seed={seed}", f"-max_len={LONGEST}", f"-timeout={SECONDS}",
        "-rss_limit_mb=0", "-len_control=0",
        "-mutate_depth=1", "-print_final_stats=1", f"-artifact_prefix={place / 'found'}{os.sep}",
        str(place / "corpus"), str(seeds),
    ]  # fmt: skip
    atheris.Setup(argv, check, custom_mutator=mutate)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    atheris.Fuzz()


def _modules() -> list[str]:
    """What an input may lead to, imported at once so that all of it is counted."""
    rooms = ("lab", "plan", "capture", "flows", "explain", "filters", "report", "commands")
    found = ["emulator.cli", "emulator.controller"]
    for room in rooms:
        for path in sorted((ROOT / "emulator" / room).rglob("*.py")):
            found.append(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    return found


if __name__ == "__main__":
    sys.exit(main())
