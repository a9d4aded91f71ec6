"""Command lines that nobody would type, given to the real `main`; labs are not started.

Cut off is what would start a lab or enter one: `emulator.run.starting.Start`, the first process of a lab, its
`Control`, the programs that Wirelab starts in it, and the minute that `down` waits for its end. What comes before
them is real, and so is every other command, for a user with no Docker Engine and no Wireshark, and with one running
lab, `small`.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import os
import random
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

from emulator import cli, controller, door
from emulator.commands import many
from emulator.errors import MachineError, UsageError
from emulator.kept import Keeping, keep
from emulator.lab import resolve
from emulator.lab.document import parse
from emulator.lab.load import build
from emulator.lab.resolved import ResolvedLab
from emulator.names import LAB_NAME
from emulator.report.json import as_dict
from emulator.run import control, everyone, runs
from emulator.run.control import LabGone
from emulator.sources import facts_of, loaded
from emulator.verify.evidence import Evidence
from emulator.verify.folder import Kept, plain
from emulator.verify.judge import judge
from emulator.verify.verdict import Report

from . import captures, labs
from .promises import ROOT, Broken, folder, kept, octets_of_stream, shown_safely

LINES = (
    "", "--help", "--version", "-h", "labs", "labs --json", "ps", "ps --json", "ps small", "doctor --json", "schema",
    "schema --markdown", "completion bash", "completion zsh", "completion fish", "validate lab.yml",
    "validate --json lab.yml wrong.yml", "validate octets", "plan lab.yml", "plan lab.yml --as json",
    "plan lab.yml --as sh", "plan nat", "plan --topology single,3 --as sh", "plan wrong.yml",
    "plan --topology tree,2,2", "plan --topology ring,3 --backend docker", "plan lab.yml --backend docker",
    "explain --pcap real.pcapng", "explain --pcap real.pcapng --json", "explain --pcap real.pcapng --html story.html",
    "explain --pcap octets", "explain small pc1 -- ping pc2", "explain small pc1 --follow -- ping -c 1 pc2",
    "explain -w x.pcapng small pc1 --timeout 3 -- true", "explain --pcap real.pcapng small", "up lab.yml",
    "up lab.yml --name other --json", "up --topology single,5", "up lab.yml --allow-caps --allow-binds",
    "down small", "down --all", "exec small pc1 -- true", "exec small --all --json --timeout 5 -- ip address",
    "exec small pc1,pc2 -- true", "exec small 'pc*' -- true", "shell small pc1", "verify lab.yml",
    "verify lab.yml --break cut", "verify --pairs --ip 4 small",
    "verify lab.yml wrong.yml --jobs 2 --junit report.xml", "verify -w keep.pcapng lab.yml --json", "capture small",
    "capture small pc1:eth0 -w - -f 'tcp port 80' --duration 3 --count 5", "link small pc1:eth0 down",
    "capture small pc1--pc2 -w x.pcapng --max-size 10M --files 3", "capture small --wireshark",
    "link small pc1:eth0 up", "fault small", "fault small --json", "fault small unplug pc1:eth0 pc2:eth0",
    "fault small freeze pc1 pc2", "fault small continue pc1", "fault small kill pc1", "fault small kill pc1:dhcp",
    "fault small restart pc1", "fault small partition pc1 pc2", "fault small partition pc1,sw", "fault small heal",
    "wireshark install", "wireshark uninstall", "verify --replay kept",
    "verify --replay kept --json --junit report.xml", "verify --replay sub", "verify --replay kept/report.json",
    "validate sub/lab.yml", "plan sub --as json", "up sub/lab.yml --name=../up", "up lab.yml --name=a/b",
)  # fmt: skip
"""Those of README.md and of the manual, with files that are there."""

WORDS = (
    "unplug", "plug", "freeze", "continue", "kill", "restart", "partition", "heal", "pc1,sw", "sw:pc1", "pc1:echo", ":",
    "", " ", "-", "--", "---", "-rf", "--no-such-option", "-x", "-w", "-w=", "--json=1", "--as=sh", "--as",
    "--jobs=0", "--jobs", "-1", "0", "1", "9" * 5000, "1e308", "nan", "inf", "-inf", "1e-400", "1_000", "٣", "0x10",
    "10M", "10G" * 100, "M", "-5k", "0k", "²M", "lab.yml", "wrong.yml", "missing.yml", "octets", "out", "loop", "sub",
    ".", "..", "sub/lab.yml", "x" * 300, "x" * 5000, "lab.yml/x", "real.pcapng", "unreadable", "small", "nat", "nta",
    "*", "?", "[a-z]*", "[", "pc1", "pc1,pc2", ",", "pc1:eth0", "pc1--pc2", "--pc1", "single,3", "single,0",
    "single,", "single", "single,999999999", "single," + "9" * 5000, "tree,1,1", "tree,99,99", "tree,-1,2",
    "linear,2,", "ring,2", "fat-tree,3", "fat-tree,4", "fat-tree,99999", "tree,²,1", "single,1e3", "SINGLE,3",
    "star,3", "$(reboot)", "`id`", "; rm -rf /", "a\nb", "\t", "\r", "\x1b[31mred\x1b]0;title\x07", "\x9b31m",
    "\u202egpj", "\udcff\udc80", "é", "\U0001f600", "wirelab: all is well\n  hint: none", "%s%n", "{0}",
    "--name=" + "x" * 100, "--name=-rf", "--name=../up", "--name=/tmp/up", "--name=..", "--name=a b", "--replay",
    "--replay=kept", "--replay=", "kept", "kept/lab.yml", "--pcap", "--html", "--topology",
    "--backend=docker", "--backend=netns", "--backend=vm", "--break", "--break=cut", "--filter=tcp", "--filter=(",
    "--all", "--help", "-h", "--version", "@lab.yml", "1.5", "bash", "install", "up", "down", "exec", "explain",
)  # fmt: skip


@functools.cache
def seeds() -> tuple[bytes, ...]:
    """Command lines, their words parted by NUL."""
    shown = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    )
    lines = [*LINES, *re.findall(r"(?:^|`)(?:\$ )?wirelab ([^`\n#>|…]*)", shown, re.MULTILINE)]
    found: dict[bytes, None] = {}
    for line in lines:
        with contextlib.suppress(ValueError):
            found["\0".join(shlex.split(line)).encode()] = None
    return tuple(found)


def mutate(octets: bytes, chance: random.Random) -> bytes:
    """A command line like `octets`."""
    words = octets.split(b"\0")
    if words[0] == b"doctor" and chance.random() < 0.95:
        words[0] = b"labs"  # it looks at every lab and asks the kernel, which takes a second
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        at = chance.randrange(len(words) + 1)
        kind = chance.randrange(8)
        if kind <= 2 or not words:
            words.insert(at, os.fsencode(chance.choice(WORDS)))
        elif kind == 3:
            words[at:] = words[at + 1 :]
        elif kind == 4:
            words.insert(at, chance.choice(words))
        elif kind == 5:
            words[at : at + 1] = [os.fsencode(chance.choice(WORDS))]
        elif kind == 6:
            other = chance.choice(seeds()).split(b"\0")
            words[at:] = other[chance.randrange(len(other)) :]
        else:
            place = chance.randrange(len(words))
            word = words[place]
            cut = chance.randrange(len(word) + 1)
            piece = chance.choice(
                (b"", b"=", b"-", b"\x1b", b"\n", b"\xff", b",", b":", os.fsencode(chance.choice(WORDS)))
            )
            words[place] = word[:cut] + piece + word[cut + chance.randrange(2) :]
    return b"\0".join(words)


_STAYS = re.compile(rb"--name=.*|(?:--replay=)?(?:sub|kept)/[a-z.]+", re.DOTALL)
"""Words with slashes and dots that lead to no file, or to one below the working folder that is no link."""


def split(octets: bytes) -> list[str]:
    """The words of a command line, as Python gets them. No word leads out of the working folder: the files that they
    name may be written."""
    words = [
        os.fsdecode(word if _STAYS.fullmatch(word) else word.replace(b"..", b".").replace(b"/", b"_"))
        for word in octets.split(b"\0")[:40]
    ]
    return [] if words == [""] else words


class _Start:
    """In the place of a lab's first process."""

    def __init__(self, name: str = "lab", *_: Any, **__: Any) -> None:
        if not LAB_NAME.fullmatch(name):
            raise UsageError(f"'{name}' cannot be the name of a lab")
        raise MachineError("no lab is started here", hint="this is a test of the command line")


def _start(*_: Any, **__: Any) -> NoReturn:
    _Start()
    raise AssertionError


def _gone(*_: Any, **__: Any) -> NoReturn:
    raise LabGone("the lab is not entered here", hint="this is a test of the command line")


class _Popen(subprocess.Popen[bytes]):
    """The real one, but for what Wirelab starts to enter a lab."""

    def __init__(self, args: Any, *rest: Any, **options: Any) -> None:
        if args[0] == sys.executable:
            _gone()
        super().__init__(args, *rest, **options)


def _keep(place: Path) -> None:
    """A verification that is kept, of two hosts that have exchanged nothing."""
    text = "name: two\nnodes: {a: {}, b: {}}\nlinks: [[a, b]]\nchecks: [{name: no, layer: network, check: re-encode}]\n"
    lab = resolve.resolve(build(parse(text.encode(), "lab.yml")))
    evidence = Evidence((), (), {}, (), {}, {}, {})
    report = Report(lab.name, judge(lab, evidence), 0.1)
    found = Kept("lab.yml", text, {}, None, None, "netns", plain(lab), {}, as_dict(report), evidence, {})
    with Keeping(place) as keeping:
        keeping.capture.write_bytes(captures.pcapng([]))
        keep(keeping, found, report, 0)


def _run(place: Path) -> None:
    """The run directory of the lab `small`, whose processes live (this one is taken for them), and answer nothing."""
    found, origin = loaded(str(place / "lab.yml"), None, "netns")
    folder = place / "runtime" / "wirelab" / "small"
    (folder / "log").mkdir(parents=True)
    folder.parent.chmod(0o700)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    runs.write_facts(folder, facts_of(found, origin, 1e9))


@functools.cache
def _home() -> dict[str, str]:
    """The environment of a user with a home of their own, a lab file, a wrong one, a capture, a verification that is
    kept, a running lab, and no engine."""
    place = folder()
    (place / "lab.yml").write_bytes(labs.seeds()[0])
    for name in ("lab.yml", "page.html"):
        (place / "sub" / name).write_bytes((place / name).read_bytes())
    (place / "wrong.yml").write_text('name: -rf\nnodes: {a: {kind: "\\e[31m"}}\nlinks: [[a, b]]\n', encoding="utf-8")
    (place / "real.pcapng").write_bytes(captures.seeds()[-1])
    (place / "runtime").mkdir(mode=0o700)
    _keep(place / "kept")
    _run(place)
    found = {name: str(place) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "TMPDIR")}
    engine = f"unix://{place}/no-engine"
    return {
        "PATH": f"{place}/programs",
        "LANG": "C.UTF-8",
        "XDG_RUNTIME_DIR": f"{place}/runtime",
        "DOCKER_HOST": engine,
        **found,
    }


@functools.lru_cache(100)
def _parser(only: str | None = None) -> argparse.ArgumentParser:
    """The real one, made once for each command: that takes longer than to read a line with it."""
    return _made(only)


_made = cli.parser  # before `check` puts another in its place


@functools.lru_cache(1000)
def _resolved(path: Path, twin: str | None, _changed_ns: int, _octets: int) -> ResolvedLab:
    return _read(path, twin=twin)


_read = resolve.resolve_file


def _resolve_file(path: Path, *, twin: str | None = None) -> ResolvedLab:
    """The real one, once for each file that is right: `validate nat` reads it for every twin, and again for every time
    that it is named."""
    file = path / "lab.yml" if path.is_dir() else path
    try:
        found = file.stat()
    except OSError:
        return _read(path, twin=twin)
    return _resolved(path, twin, found.st_mtime_ns, found.st_size)


@contextlib.contextmanager
def _inside(place: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(place)
    try:
        with mock.patch.dict(os.environ, _home(), clear=True):
            yield
    finally:
        os.chdir(before)


def check(octets: bytes) -> str:
    """Give the words to `main`; its exit status.

    Raises:
        Broken: a promise does not hold.
        Exception: it raised, which `main` never does.
    """
    words = split(octets)
    _one_reading(words)
    out, err = octets_of_stream(), octets_of_stream()
    err.reconfigure(errors="backslashreplace")
    faster = (mock.patch.object(cli, "parser", _parser), mock.patch.object(resolve, "resolve_file", _resolve_file))
    cut = (
        mock.patch.object(controller, "Start", _Start),
        mock.patch.object(runs, "stop", _gone),
        mock.patch.object(control.Control, "__init__", _gone),
        *([mock.patch.object(subprocess, "Popen", _Popen)] if words[:1] != ["doctor"] else ()),
        mock.patch.object(many, "prove_all", _start),
        mock.patch.object(everyone, "labs", lambda: ([], [])),  # for root it starts a process for each user
    )
    with contextlib.ExitStack() as stack:
        for each in (_inside(folder()), *faster, *cut, kept(folder(), programs=words[:1] == ["doctor"])):
            stack.enter_context(each)
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        status = _status(words)
    said, printed = (stream.buffer.getvalue().decode() for stream in (err, out))  # type: ignore[attr-defined]
    shown_safely(said)
    shown_safely(printed)
    if "Traceback" in said or "fault of Wirelab" in said:
        raise Broken(f"a fault: {said!a}")
    if status not in (0, 1, 2, 3):
        raise Broken(f"exit status {status}")
    if status and not printed:
        _one_error(said, status)
    return f"status {status}"


def _one_reading(words: list[str]) -> None:
    """Require that the door, where it takes a command line for one that it knows, reads it as the whole parser does."""
    asked = door.plain_up(words)
    if asked is not None:
        options = vars(_parser("up").parse_args(words))
        wanted = vars(_parser("up").parse_args(["up"])) | {"topology": asked[0], "name": asked[1]}
        if options != wanted:
            raise Broken(f"the door reads it otherwise: {options} is not {wanted}")


def _status(words: list[str]) -> int:
    try:
        return cli.main(words)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else -1


def _one_error(said: str, status: int) -> None:
    """Require one clear error: a line and its hint, or the problems of a lab file and how many."""
    rows = said.splitlines()
    if re.search(r"^\d+ problems?; nothing was built\Z", rows[-1] if rows else ""):
        return
    note = rows[:1] if len(rows) == 3 else []  # what `up` says of a topology first
    if [row.partition(": ")[0].strip() for row in rows[len(note) :]] not in (["wirelab"], ["wirelab", "hint"]):
        raise Broken(f"not one clear error (status {status}): {said!a}")
