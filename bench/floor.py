"""The kernel's floor: `kernel_floor.c`, built when it changed, run, and held until it is told to end."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.common import Broken, Lacking, run

SOURCE = Path(__file__).with_name("kernel_floor.c")

SHAPES = {"single": {10: "single,10", 100: "single,100", 1000: "single,1000"},
          "tree": {10: "tree,1,10", 100: "tree,2,10", 1000: "tree,3,10"}}  # fmt: skip
"""What is measured: all hosts on one switch, and ten hosts a switch; hosts → the topology's words."""


def hosts_a_switch(kind: str) -> int:
    """Of the floor: as many hosts on a bridge as in our topology of that kind. A bridge takes 1,023."""
    return 10 if kind == "tree" else 1000


def program() -> str:
    """The program's path; it is compiled once for each version of its source.

    Raises:
        Lacking: no C compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Lacking("this machine lacks a C compiler (package gcc, and libc6-dev)")
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"wirelab-bench-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.geteuid():
        raise Lacking(f"{folder} belongs to somebody else")
    built = folder / f"kernel_floor-{digest}"
    if not built.exists():
        run([compiler, "-O2", "-Wall", "-o", f"{built}.new", str(SOURCE)])
        Path(f"{built}.new").rename(built)
    return str(built)


def up_s(hosts: int, a_switch: int = 1000) -> float:
    """Seconds until `hosts` hosts are up, by the program's own clock; they are gone when this returns."""
    return float(run([program(), str(hosts), str(a_switch)]))


@contextlib.contextmanager
def held(hosts: int, a_switch: int = 1000) -> Iterator[subprocess.Popen[str]]:
    """As many hosts inside the block; they go when its process is killed or its standard input is closed."""
    process = subprocess.Popen(
        [program(), str(hosts), str(a_switch), "hold"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        if process.stdout is None or not process.stdout.readline():
            raise Broken(f"the floor of {hosts} hosts ended with status {process.wait()}")
        yield process
    finally:
        process.kill()
        process.communicate()
