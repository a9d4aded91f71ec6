"""What live tests look at from outside: what a lab could leave on the machine."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emulator.lab.load import load
from tests.conftest import ROOT, Person
from tests.live.warm import Warm, warm

LABS = sorted(folder.name for folder in (ROOT / "labs").iterdir() if (folder / "lab.yml").exists())
"""The shipped labs."""

_numbers = itertools.count()


def labs_with_all_kinds() -> list[str]:
    """A few of the shipped labs that have every kind of check among them."""
    kinds = {lab: {check.check for check in load(ROOT / "labs" / lab).spec.checks} for lab in LABS}
    missing = set().union(*kinds.values())
    found = []
    while missing:
        found.append(max(LABS, key=lambda lab: len(kinds[lab] & missing)))
        missing -= kinds[found[-1]]
    return found


def kept_twins() -> list[tuple[str, str]]:
    """A twin of each of these labs: `test_keep` breaks, keeps and judges them, `test_verify` breaks all others."""
    return [(lab, next(iter(load(ROOT / "labs" / lab).spec.break_))) for lab in labs_with_all_kinds()]


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    """Wait until `condition` holds; fail with `what` when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not in {timeout_s:g} s: {what}"
        time.sleep(0.01)


def processes(word: str) -> dict[int, str]:
    """Processes of this machine whose command line has `word` in it."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if word in line:
                    found[int(entry.name)] = line
    return found


def first_processes(runs: Path, lab: str) -> list[int]:
    """The keeper of a lab and its first process, while they live."""
    names = {}
    for pid in processes(f"init.py {runs / lab} "):
        with contextlib.suppress(OSError):
            names[Path(f"/proc/{pid}/comm").read_text().strip()] = pid
    return [names[name] for name in ("wirelab-keeper", "wirelab-init") if name in names]


def namespaces_of(pid: int) -> dict[str, str]:
    """The namespaces of a process: kind → identity."""
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("user", "net", "mnt", "pid", "uts", "ipc")}


def users_of(wanted: set[str]) -> list[int]:
    """Processes of this machine that are in one of the namespaces `wanted`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted & set(namespaces_of(int(entry.name)).values()):
                    found.append(int(entry.name))
    return found


def host_state() -> dict[str, str]:
    """The host's interfaces, routes, packet filter and kernel settings; counters and clocks left out."""
    commands = {
        "addresses": ["ip", "-o", "address"],
        "routes": ["ip", "-json", "route", "show", "table", "all"],
        "links": ["ip", "-o", "link"],
        "filter": ["iptables-save"],
        "mounts": ["cat", "/proc/self/mountinfo"],
        "sysctls": ["sysctl", "-a"],
    }
    state = {}
    for name, argv in commands.items():
        done = subprocess.run(
            argv, capture_output=True, text=True, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, check=False
        )
        lines = (line.partition(" valid_lft ")[0] for line in done.stdout.splitlines())
        state[name] = "\n".join(line for line in lines if not _moves(line))
        assert state[name] or name == "filter", f"nothing to compare: {argv}"
    return state


def _moves(line: str) -> bool:
    """Lines that change by themselves on an idle machine."""
    moving = (
        "fs.dentry-state", "fs.file-nr", "fs.inode-", "kernel.random.", "kernel.pty.nr", "fs.quota", "kernel.ns_last",
        "net.netfilter.nf_conntrack_count", "kernel.perf_event", "vm.", "# ", "fs.aio-nr", "user.",
    )  # fmt: skip
    of_engines = (" - overlay ", "/netns/", " nsfs ")  # containers of others come and go
    return line.startswith(moving) or any(word in line for word in of_engines)


def copy_pytest(user: Person) -> Path:
    """pytest and xdist where the ordinary user can read them."""
    site = Path(pytest.__file__).parents[1]
    target = user.installation / "pytest-packages"
    if not target.exists():
        target.mkdir()
        for name in ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments", "xdist", "execnet", "py.py"):
            source = site / name
            if source.is_dir():
                shutil.copytree(source, target / name)
            elif source.exists():
                shutil.copy(source, target)
            for metadata in site.glob(f"{name.strip('_').replace('xdist', 'pytest_xdist')}-*.dist-info"):
                shutil.copytree(metadata, target / metadata.name, dirs_exist_ok=True)
    return target


@pytest.fixture(scope="session")
def warm_people(people: dict[str, Person]) -> Iterator[Callable[[str], Warm]]:
    """The same by their names, with commands that begin at once."""
    known: dict[str, Warm] = {}
    with contextlib.ExitStack() as stack:

        def find(name: str) -> Warm:
            if name not in known:
                known[name] = stack.enter_context(warm(people[name]))
            return known[name]

        yield find


@pytest.fixture
def lab_name() -> str:
    """A name for an instance that no other test has."""
    return f"t{os.getpid()}-{next(_numbers)}"


@pytest.fixture
def nothing_left(person: Person, lab_name: str) -> Iterator[Callable[[], None]]:
    """Checks that nothing of the lab `lab_name` of `person` is left; done at the end too."""

    def check() -> None:
        place = str(person.runs / lab_name)
        wait_until(lambda: not processes(place + " ") and not processes(f" {lab_name} "), f"no process of {lab_name}")
        assert not (person.runs / lab_name).exists()
        assert not list(person.runs.glob(f"*{lab_name}*"))
        assert lab_name not in Path("/proc/self/mountinfo").read_text()

    yield check
    person.wirelab("down", lab_name, status=None)
    check()
