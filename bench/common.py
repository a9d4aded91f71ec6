"""What all measurements share: alternating rounds, medians with their extremes, rows with a ratio, table and JSON.

A part is a module of this package with a function `measure(bench: Bench) -> Iterator[Row]`; `PARTS` names them.

    def measure(bench: Bench) -> Iterator[Row]:
        times = bench.rounds({"wirelab": ours, "by hand": theirs})      # each returns one figure
        yield Row("latency", "ping through a switch", "ms", times["wirelab"], "by hand", times["by hand"], at_most=1.05)
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

PARTS: Mapping[str, str] = {
    "up": "bench.up",
    "down": "bench.down",
    "memory": "bench.memory",
    "mininet": "bench.mininet",
    "pairs": "bench.pairs",
    "large": "bench.large",
    "traffic": "bench.traffic",
    "nat": "bench.nat",
    "exec": "bench.exec",
    "docker": "bench.docker",
}
"""What `make bench PART=…` can be asked for, in the order in which it runs, and the module of each."""

RECLAIM_LIMIT_S = 120.0
"""So long at most is waited between two rounds for the kernel to take back what the last one used."""

STEADY_S = 2.0
"""When nothing was taken back for so long, what is left belongs to somebody else."""


FORGIVEN_KIB = 4096
"""Of the kernel's objects, what other programs leave meanwhile, such as names of files."""


class Lacking(Exception):  # noqa: N818 - it names what is so, not a mistake
    """This machine cannot measure a part; the text says what is missing."""


class Broken(Exception):  # noqa: N818
    """Something that is measured did not work; the text says what."""


@dataclass(frozen=True)
class Sample:
    """The same thing measured several times."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)


@dataclass(frozen=True)
class Row:
    """One line of the table: our figure, somebody else's, and what the ratio of both has to be.

    Attributes:
        part: what `make bench PART=` calls it.
        what: the thing measured, in words.
        unit: of both figures.
        at_most, at_least: bounds of the ratio ours / other, or of our figure itself when there is no other.
        fixed: is added to the other's figure times `at_most` (ours ≤ at_most × other + fixed).
        paired: the ratio, which the bounds are for, is the median of the rounds' ratios, not the ratio of the medians:
            for what changes more from round to round than within one.
        note: what a reader should know of how it was measured.
    """

    part: str
    what: str
    unit: str
    ours: Sample
    against: str = ""
    other: Sample | None = None
    at_most: float | None = None
    at_least: float | None = None
    fixed: float = 0.0
    paired: bool = False
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Our median by the other's, or the median ratio; None without another or when that is 0."""
        if self.paired:
            return self.ratios and self.ratios.median
        return self.ours.median / self.other.median if self.other and self.other.median else None

    @property
    def ratios(self) -> Sample | None:
        """The ratio of each round by itself."""
        if self.other is None or not all(self.other.values):
            return None
        pairs = zip(self.ours.values, self.other.values)  # a part may have fewer rounds of the slower one
        return Sample(tuple(ours / other for ours, other in pairs))

    @property
    def holds(self) -> bool | None:
        """Whether the bounds hold for the medians or the median ratio; None without bounds."""
        if self.at_most is None and self.at_least is None:
            return None
        if self.paired and self.ratio is not None:
            return (self.at_least or 0.0) <= self.ratio <= (self.at_most or self.ratio)
        ours, base = self.ours.median, self.other.median if self.other else 1.0
        low = self.at_least is None or ours >= self.at_least * base
        return low and (self.at_most is None or ours <= self.at_most * base + self.fixed)

    @property
    def bound(self) -> str:
        """What was asked for, in a few signs."""
        unit = "×" if self.other else f" {self.unit}"
        parts = [f"≤ {_figure(self.at_most)}{unit}"] if self.at_most is not None else []
        parts += [f"≥ {_figure(self.at_least)}{unit}"] if self.at_least is not None else []
        return ", ".join(parts) + (f" + {_figure(self.fixed)} {self.unit}" if self.fixed else "")

    def as_json(self) -> dict[str, Any]:
        """The row as plain data, with every single figure."""

        def sample(one: Sample | None) -> dict[str, Any] | None:
            return one and {"median": one.median, "min": one.low, "max": one.high, "values": one.values}

        return {
            "part": self.part, "what": self.what, "unit": self.unit, "ours": sample(self.ours), "against": self.against,
            "other": sample(self.other), "ratio": self.ratio, "ratios": sample(self.ratios), "bound": self.bound,
            "holds": self.holds, "note": self.note,
        }  # fmt: skip


@dataclass
class Bench:
    """How to measure: how often, and what is told meanwhile.

    Attributes:
        repeats: rounds of each measurement.
        quick: a shorter form, to see that everything works; its figures are not to be published.
    """

    repeats: int = 5
    quick: bool = False
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def say(self, text: str) -> None:
        """Tell on standard error what is going on."""
        print(f"bench: {text}", file=sys.stderr, flush=True)

    def rounds(
        self, ways: Mapping[str, Callable[[], float]], *, repeats: int | None = None, reclaim: bool = True
    ) -> dict[str, Sample]:
        """Each of `ways` several times, one after the other and each time in the other order, so that what changes on
        the machine meanwhile hits all alike.

        Args:
            reclaim: after each wait until the kernel has taken back what it used.
        """
        found: dict[str, list[float]] = {name: [] for name in ways}
        before = slab_kib()
        for number in range(repeats or self.repeats):
            order = list(ways) if number % 2 == 0 else list(reversed(ways))
            for name in order:
                found[name].append(ways[name]())
                if reclaim and not wait_reclaimed(before):
                    self.say(f"after {name} the kernel has not taken back everything; something else uses it, too")
        return {name: Sample(tuple(values)) for name, values in found.items()}

    def name(self) -> str:
        """A name for a lab that nothing else has."""
        return f"bench-{os.getpid()}-{next(self._numbers)}"

    @contextlib.contextmanager
    def lab(self, *words: str) -> Iterator[str]:
        """A lab that is up inside the block: `lab("--topology", "single,100")` or `lab(FILE)`; gives its name."""
        name = self.name()
        run(wirelab("up", *words, "--name", name))
        try:
            yield name
        finally:
            run(wirelab("down", name))


def wirelab(*words: str) -> list[str]:
    """The command line `wirelab WORDS…` of this checkout, as a user types it."""
    installed = ROOT / ".venv" / "bin" / "wirelab"
    if installed.exists():
        return [str(installed), *words]
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from emulator.door import main; sys.exit(main())"
    return [sys.executable, "-c", code, *words]


def run(argv: Sequence[str], *, status: int = 0, **options: Any) -> str:
    """What a command prints that is to end with `status`; its error output is shown when it does not."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, **options)
    if done.returncode != status:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise Broken(f"{' '.join(argv[-6:])} ended with status {done.returncode}\n{said}")
    return done.stdout


def timed(argv: Sequence[str]) -> float:
    """Seconds from the start of a command to its end."""
    began = time.perf_counter()
    run(argv)
    return time.perf_counter() - began


def need(*programs: str) -> None:
    """Raise Lacking unless the machine has all `programs`."""
    missing = [program for program in programs if shutil.which(program, path=_path()) is None]
    if missing:
        raise Lacking(f"this machine lacks {', '.join(missing)} (tools/setup.sh bench installs what is needed)")


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def meminfo_kib(key: str) -> int:
    """A line of /proc/meminfo (proc_meminfo(5)), in KiB."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        if name == key:
            return int(rest.split()[0])
    raise Lacking(f"/proc/meminfo has no line {key}")


KINDS = ("Slab", "Percpu", "AnonPages", "Shmem", "PageTables", "KernelStack")


def used_kib() -> int:
    """Memory that is in use, in KiB: that of the kernel's objects and per-processor data, of processes, and of files in
    memory (proc_meminfo(5)). What is free is no measure: the kernel gives pages back long after it needs them no more.
    """
    return sum(meminfo_kib(kind) for kind in KINDS)


def slab_kib() -> int:
    """Memory of the kernel's objects, in KiB. A network namespace with two interfaces has some 280, so it tells when
    they are gone. (Per-processor data do not: their pages are kept; nor does the number of `net_namespace` objects,
    which the kernel frees when it takes the next namespaces apart.)"""
    return meminfo_kib("Slab")


def wait_reclaimed(before_kib: int, limit_s: float = RECLAIM_LIMIT_S, forgiven_kib: int = FORGIVEN_KIB) -> bool:
    """Wait until `slab_kib` is what it was; whether that came about before nothing changed any more."""
    deadline = time.monotonic() + limit_s
    lowest, since = slab_kib(), time.monotonic()
    while (now := slab_kib()) > before_kib + forgiven_kib:
        if now < lowest:
            lowest, since = now, time.monotonic()
        if time.monotonic() > min(deadline, since + STEADY_S):
            return False
        time.sleep(0.005)
    return True


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = "unknown"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "processor": model,
        "processors": os.cpu_count(),
        "memory_mib": meminfo_kib("MemTotal") // 1024,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "user": "root" if os.geteuid() == 0 else "ordinary user",
        "load": round(os.getloadavg()[0], 2),
    }


def _figure(value: float) -> str:
    """A figure with three digits that mean something."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _shown(sample: Sample | None) -> str:
    """`0.48 (0.46–0.51)`."""
    if sample is None:
        return ""
    if len(sample.values) == 1:
        return _figure(sample.median)
    return f"{_figure(sample.median)} ({_figure(sample.low)}–{_figure(sample.high)})"


HEAD = ("Measured", "unit", "wirelab", "against", "", "ratio", "asked", "")


def cells(row: Row) -> tuple[str, ...]:
    """What stands in the table for a row."""
    ratio = "" if row.ratio is None else _figure(row.ratio)
    if row.ratios and len(row.ratios.values) > 1:
        ratio += f" ({_figure(row.ratios.low)}–{_figure(row.ratios.high)})"
    verdict = {True: "yes", False: "NO", None: ""}[row.holds]
    return (row.what, row.unit, _shown(row.ours), _shown(row.other), row.against, ratio, row.bound, verdict)


def as_text(rows: Sequence[Row]) -> str:
    """The table for a terminal; median, and in brackets the lowest and the highest."""
    lines = [HEAD, *map(cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() + "\n" for line in lines)


def as_markdown(rows: Iterable[Row]) -> str:
    """The table for docs/performance.md."""
    lines = [HEAD, ("---", "---", "---:", "---:", "---", "---:", "---", "---"), *map(cells, rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_json(rows: Sequence[Row], file: Path, skipped: Mapping[str, str]) -> None:
    """All figures of a run, and the machine, as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "machine": machine(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "rows": [row.as_json() for row in rows],
        "skipped": dict(skipped),
    }
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
