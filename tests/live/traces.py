"""What commands of ours have left on the machine: processes, namespaces, interfaces, mounts, cgroups and files.

While a `Watch` is on, this process adopts the orphans of what it starts (PR_SET_CHILD_SUBREAPER, prctl(2)). So each
process of a lab stays below it, whoever of its parents was killed, and can be told from those of other tests.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import Person
from tests.live.conftest import wait_until

NIGHTLY = os.environ.get("NIGHTLY") == "1"
"""Whether this is the long form: `make nightly`."""

SEED = os.environ.get("SEED", "7")
"""What random points of time are made of."""

KINDS = ("user", "net", "mnt", "pid", "pid_for_children", "uts", "ipc", "cgroup", "time")
_PR_SET_CHILD_SUBREAPER = 36


def often(usual: int, nightly: int) -> int:
    """How many times: in `make test`, and in `make nightly`."""
    return nightly if NIGHTLY else usual


def write_figures(name: str, **figures: Any) -> None:
    """Say what was measured: to standard output, and to the file FIGURES if there is one."""
    line = json.dumps({"test": name, **figures})
    print(line)
    if place := os.environ.get("FIGURES"):
        with open(place, "a", encoding="utf-8") as stream:
            stream.write(f"{line}\n")


@dataclass(frozen=True)
class Process:
    """A process that lives."""

    pid: int
    parent: int
    started: int
    line: str


def living() -> dict[int, Process]:
    """All processes of this machine that are no zombies."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError):
                words = Path(f"/proc/{entry}/stat").read_text(errors="replace").rpartition(")")[2].split()
                if words[0] not in "ZX":
                    line = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found[int(entry)] = Process(int(entry), int(words[1]), int(words[19]), line.strip())
    return found


def below(pid: int) -> dict[int, Process]:
    """The processes that `pid` has started, and those that these have started, and so on."""
    everyone = living()
    children: dict[int, list[int]] = {}
    for process in everyone.values():
        children.setdefault(process.parent, []).append(process.pid)
    found: dict[int, Process] = {}
    ask = [pid]
    while ask:
        for child in children.get(ask.pop(), ()):
            found[child] = everyone[child]
            ask.append(child)
    return found


def _ancestors() -> list[int]:
    """This process, the one that started it, and so on."""
    everyone, found = living(), [os.getpid()]
    while (parent := everyone[found[-1]].parent) in everyone:
        found.append(parent)
    return found


def namespaces(pid: int) -> set[str]:
    """Identities of the namespaces in which a process is, `net:[4026531840]`."""
    found = set()
    for kind in KINDS:
        with contextlib.suppress(OSError):
            found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
    return found


def held(pid: int) -> set[str]:
    """Identities of the namespaces that a process is in or holds open."""
    found = namespaces(pid)
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{name}")
                if target.partition(":")[0] in KINDS:
                    found.add(target)
    return found


def _group(pid: int) -> str:
    """The control groups of a process; nothing when it has ended."""
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")} if folder.exists() else set()


def _cgroups() -> set[str]:
    """The names of all control groups, of both versions."""
    return {parent for parent, _, _ in os.walk("/sys/fs/cgroup")}


def _mounts() -> list[str]:
    """The mounts of this process; those of containers of others come and go."""
    moving = (" - overlay ", "/netns/", " nsfs ", "/docker/", "/containers/")
    return [
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if not any(w in line for w in moving)
    ]


@dataclass
class Watch:
    """What was there before, and which namespaces the lab has had. `person` has a folder for temporary files here."""

    person: Person
    others: set[tuple[int, int]] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    mounts: list[str] = field(default_factory=list)
    links: set[str] = field(default_factory=set)
    cgroups: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    """Files in the person's home that a user has asked for."""

    def ours(self) -> dict[int, Process]:
        """The processes below this one that were not there before."""
        found = below(os.getpid())
        strangers = {pid for pid, process in found.items() if (pid, process.started) in self.others}
        for pid in list(strangers):
            strangers |= set(below(pid))
        return {pid: process for pid, process in found.items() if pid not in strangers}

    def look(self) -> dict[int, Process]:
        """Remember the namespaces of the processes of now, and return these."""
        ours = self.ours()
        own = namespaces(os.getpid())
        for pid in ours:
            self.seen |= held(pid) - own
        return ours

    def standing(self) -> dict[int, Process]:
        """As `look`, of a lab in which nothing is about to end: no process has a control group of its own."""
        ours = self.look()
        groups = {_group(pid) for pid in ours}
        assert groups == {_group(os.getpid())}, groups
        return ours

    def left(self) -> list[str]:
        """Everything of ours that is there."""
        found = [f"process {process.pid}: {process.line}" for process in self.ours().values()]
        suspects = [*self.ours(), *_ancestors()]  # of others not: the kernel gives numbers of namespaces out again
        found += [f"namespaces of {pid}: {spaces}" for pid in suspects if (spaces := held(pid) & self.seen)]
        found += [f"file {name}" for name in sorted(_files(self.person.home) - self.files - self.kept)]
        found += [f"mount {line}" for line in _mounts() if line not in self.mounts]
        found += [f"interface {name}" for name in sorted(set(os.listdir("/sys/class/net")) - self.links)]
        found += [
            f"cgroup {name}"
            for name in sorted(_cgroups() - self.cgroups)
            if "wirelab" in name and "wirelab-engine" not in name
        ]
        if self.person.uid and os.path.exists(f"/tmp/wirelab-{self.person.uid}"):  # root may have labs of its own
            found.append(f"file /tmp/wirelab-{self.person.uid}")
        return found

    def check(self, within_s: float = 20.0) -> None:
        """Nothing is left, or will be in a moment: the last processes may be on their way out."""
        deadline = time.monotonic() + within_s
        while left := self.left():
            assert time.monotonic() < deadline, "\n".join(left)
            time.sleep(0.01)

    def wait_only(self, standing: dict[int, Process], within_s: float = 20.0) -> None:
        """Wait until there are no processes but `standing`, all of which live."""

        def same() -> bool:
            return set(self.ours()) == set(standing)

        with contextlib.suppress(AssertionError):
            wait_until(same, "", within_s)
        now = self.ours()
        assert set(now) == set(standing), {
            "too many": [now[pid] for pid in set(now) - set(standing)],
            "lacking": [standing[pid] for pid in set(standing) - set(now)],
        }


@dataclass(frozen=True)
class Watched(Person):
    """A person whose commands are known, so that other children of this process can be told from them."""

    commands: set[int] = field(default_factory=set)

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """See `Person.popen`."""
        process = super().popen(argv, **options)
        self.commands.add(process.pid)
        return process


@contextlib.contextmanager
def watching(person: Person) -> Iterator[Watch]:
    """Watch over what commands of the person leave, who gets a folder of their own for temporary files."""
    temporary = person.home / "temporary"
    temporary.mkdir(exist_ok=True)
    if os.geteuid() == 0:
        os.chown(temporary, person.uid, person.uid)
    watched = Watched(**{**vars(person), "env": {**person.env, "TMPDIR": str(temporary)}})
    over = threading.Event()
    before = below(os.getpid())
    reaper = threading.Thread(target=_reap, args=(watched.commands, set(_children()), over))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    reaper.start()
    try:
        yield Watch(
            watched,
            {(pid, process.started) for pid, process in before.items()},
            files=_files(person.home),
            mounts=_mounts(),
            links=set(os.listdir("/sys/class/net")),
            cgroups=_cgroups(),
        )
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        over.set()
        reaper.join()


def _reap(commands: set[int], others: set[int], over: threading.Event) -> None:
    """What the first process of a machine does: take the exit status of orphans. A PID namespace, and so a lab, ends
    only when nothing of it is a zombie."""
    seen: dict[int, int] = {}
    while not over.wait(0.005):
        orphans = set(_children()) - commands - others
        seen = {pid: seen.get(pid, 0) + 1 for pid in orphans}
        for pid in (pid for pid, times in seen.items() if times > 5):  # a command that is just being started is none
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _children() -> Iterator[int]:
    """The children of this process, zombies too."""
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            yield from map(int, Path(f"/proc/self/task/{task}/children").read_text().split())
