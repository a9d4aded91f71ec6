"""The one place where the stages meet: up, down, verify."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.errors import CommandFailed, MachineError, RightsLacking, UsageError
from emulator.events import Bus, Event
from emulator.lab.nodes import Backend
from emulator.lab.resolve import resolve
from emulator.lab.resolved import ResolvedLab
from emulator.observe import Player, observe
from emulator.plan.compile import compile_plan
from emulator.plan.ops import Plan
from emulator.run import deputy, runs, tools
from emulator.run.control import Control
from emulator.run.session import Result, Session
from emulator.verify.verdict import Report, Verdict


class Node:
    """A node of a running lab."""

    def __init__(self, lab: RunningLab, name: str) -> None:
        self._lab = lab
        self.name = name

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = False,
        stdin: str = "",
        timeout_s: float = 60.0,
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """Run a command on this node and wait for its end.

        Raises:
            CommandFailed: `check` is true and the command's status is not 0.
        """
        result = self._lab.session.run_one(self.name, argv, stdin=stdin, timeout_s=timeout_s, env=env)
        if check and result.status != 0:
            said = (result.stderr or result.stdout).strip()[-400:]
            how = "took too long" if result.status is None else f"ended with status {result.status}"
            raise CommandFailed(f"{argv[0]} on {self.name} {how}", hint=said or None)
        return result


class RunningLab:
    """A lab that runs. As a context manager it is taken down at the end."""

    def __init__(self, lab: ResolvedLab, directory: Path, start: runs.Start | None = None) -> None:
        self.lab = lab
        self.directory = directory
        self._start = start
        self._session: Session | None = None

    @property
    def name(self) -> str:
        """The name of the instance."""
        return self.directory.name

    @property
    def session(self) -> Session:
        """The way to run commands in the lab's nodes."""
        if self._session is None:
            self._session = Session(self.directory)
        return self._session

    def __getitem__(self, node: str) -> Node:
        """The node called `node`; KeyError when the lab has none."""
        if node not in self.lab.nodes:
            raise KeyError(node)
        return Node(self, node)

    def __enter__(self) -> RunningLab:
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def services(self) -> list[dict[str, Any]]:
        """The lab's services, and how those that ended ended."""
        with Control(self.directory) as link:
            return link.services()

    def set_cable(self, place: str, *, plugged: bool) -> None:
        """Pull the cable at `node:interface`, or put it back."""
        from emulator.run.cables import set_cable

        set_cable(self.lab, self.session, place, plugged=plugged)

    def close(self) -> None:
        """Stop talking to the lab; it goes on."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def leave(self) -> None:
        """Let the lab outlive this process. Until this is said, it ends with the process, however that ends."""
        self.close()
        if self._start is not None:
            self._start.commit()

    def down(self) -> None:
        """Take the lab down, and wait until nothing of it is left."""
        self.close()
        runs.stop(self.directory)
        if self._start is not None:
            self._start.close()


def load_lab(source: str | Path, *, twin: str | None = None, backend: Backend = "netns") -> tuple[ResolvedLab, Any]:
    """The resolved lab for a shipped lab's name, a file or a folder, and the document's plain values."""
    from emulator.lab.load import build, read_document

    document = read_document(runs.find_source(str(source)))
    return resolve(build(document, twin=twin), backend=backend), document


def _lacking(plan: Plan) -> None:
    lacking = tools.missing(plan.tools)
    if lacking:
        packages = ", ".join(f"{program} (package {tools.PACKAGES.get(program, program)})" for program in lacking)
        raise MachineError(f"this machine lacks {packages}", hint=tools.package_hint(lacking))


def _engine(name: str, plan: Plan) -> str:
    """The socket of an engine that can be used for labs; what is left there of an earlier lab called `name` goes.

    Raises:
        MachineError: there is none.
        RightsLacking: the rights do not suffice.
    """
    from emulator.run import engine

    path = engine.usable()
    _require_rights(plan)
    for found in engine.remains():
        if found.name == name:
            engine.clear(found)
    return path


def _require_rights(plan: Plan) -> None:
    from emulator.plan.containers import CAPABILITIES, CreateContainer
    from emulator.run import kernel

    made = [operation for operation in plan.operations if isinstance(operation, CreateContainer)]
    extra = sorted({name for one in made for name in one.capabilities} - {*CAPABILITIES, *deputy.CAPABILITIES})
    wanted = kernel.capability_set((*CAPABILITIES, *deputy.CAPABILITIES, *extra)) if os.geteuid() != 0 else 0
    if os.geteuid() == 0 and not deputy.has_rights():
        text = "to put interfaces into containers takes CAP_SYS_ADMIN and CAP_NET_ADMIN, which this root does not have"
        raise MachineError(text, hint="do it outside the container, or with --backend netns")
    if not deputy.has_rights() or wanted & ~kernel.capabilities("Prm"):
        raise RightsLacking(
            "to put interfaces into containers takes root", hint="use sudo, or the command wirelab up", extra=extra
        )


def _check_binds(lab: ResolvedLab, *, allowed: bool) -> None:
    """A lab file is data: what of this machine it wants to show to containers, its user has to agree to."""
    mounts = [(node.name, mount) for node in lab.nodes.values() if node.container for mount in node.container.mounts]
    lacking = [mount.source for _, mount in mounts if not os.path.exists(mount.source)]
    if lacking:
        raise UsageError(f"there is no {lacking[0]}, which the lab file binds")
    if mounts and not allowed:
        shown = [
            f"{os.path.realpath(mount.source)} ({'read-only' if mount.read_only else 'read and write'}) in {node}"
            for node, mount in mounts
        ]
        raise UsageError(f"the lab file wants to use files of this machine: {'; '.join(shown)}", hint="--allow-binds")


def up(
    source: str | Path,
    *,
    name: str | None = None,
    twin: str | None = None,
    bus: Bus | None = None,
    backend: Backend = "netns",
    allow_binds: bool = False,
) -> RunningLab:
    """Bring a lab up; returns when every service answers. The lab ends with this process unless it is left (`leave`).

    Args:
        source: a shipped lab's name, a lab file or its folder.
        name: the name of the instance; default: the lab's own.
        twin: build it broken by the patch of this twin.
        backend: what nodes are made of of which the file does not say it.
        allow_binds: containers may see the files of this machine that the lab file names.

    Raises:
        LabFileError, UsageError, MachineError, CommandFailed: nothing of the lab is left then.
    """
    path = runs.find_source(str(source))
    lab, document = load_lab(path, twin=twin, backend=backend)
    _check_binds(lab, allowed=allow_binds)
    plan = compile_plan(lab)
    _lacking(plan)
    engine_socket = _engine(name or lab.name, plan) if any(node.container for node in lab.nodes.values()) else None
    started = time.time()
    start = runs.Start(name or lab.name, engine_socket)
    builder = None
    try:
        builder = _start_builder(start.folder)
        start.wait_ready()
        _build(builder, plan, bus or Bus(), engine_socket)
        if holder := os.environ.get(deputy.ENVIRONMENT):
            (start.folder / deputy.LINK).symlink_to(holder)
        runs.write_facts(start.folder, _facts(lab, path, document.file, twin, started, backend))
    except BaseException:
        if builder is not None:
            builder.kill()
            builder.wait()
        start.close()
        raise
    finally:
        if builder is not None:
            for stream in (builder.stdin, builder.stdout):
                if stream:
                    stream.close()
    return RunningLab(lab, start.folder, start)


def attach(name: str) -> RunningLab:
    """The running lab called `name`."""
    directory = runs.directory(name)
    if deputy.of_lab(directory) and not deputy.has_rights():
        raise RightsLacking("to enter a lab with containers takes root", hint="use the command wirelab")
    facts = runs.facts(directory)
    lab, _ = _from_facts(facts)
    return RunningLab(lab, directory)


def _from_facts(facts: Mapping[str, Any]) -> tuple[ResolvedLab, Any]:
    from emulator.lab.document import parse
    from emulator.lab.load import build

    document = parse(facts["text"].encode(), facts["source"])
    lab = build(document, twin=facts["twin"], included=facts["included"])
    return resolve(lab, backend=facts["backend"]), document


def _facts(
    lab: ResolvedLab, path: Path, file: str, twin: str | None, started: float, backend: Backend
) -> dict[str, Any]:
    return {
        "backend": backend,
        "lab": lab.name,
        "title": lab.title,
        "source": file,
        "text": path.read_text(encoding="utf-8-sig"),
        "twin": twin,
        "included": dict(lab.included),
        "started": started,
        "seconds": round(time.time() - started, 3),
        "nodes": {
            node.name: {
                "kind": node.kind,
                "about": node.about,
                "env": dict(node.env),
                "bridges": [bridge.name for bridge in node.bridges],
                "interfaces": {
                    interface.name: {
                        "mac": interface.mac,
                        "addresses": [str(address) for address in interface.addresses],
                        "dhcp": interface.dhcp,
                        "peer": ":".join(interface.peer) if interface.peer else None,
                    }
                    for interface in node.interfaces
                },
            }
            for node in lab.nodes.values()
        },
    }


def _start_builder(directory: Path) -> subprocess.Popen[bytes]:
    """Start the builder early: it imports its packages while the first process makes the namespaces."""
    root = str(Path(__file__).resolve().parents[1])
    code = f"import sys; sys.path.insert(0, {root!r}); from emulator.run.builder import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", code, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
        start_new_session=True,
    )


def _build(builder: subprocess.Popen[bytes], plan: Plan, bus: Bus, engine_socket: str | None) -> None:
    if builder.stdin is None or builder.stdout is None:
        raise AssertionError("the builder has pipes")
    request: dict[str, Any] = {"lab": plan.lab, "operations": [operation.to_json() for operation in plan.operations]}
    if engine_socket:
        request |= {"engine": engine_socket, "owner": os.geteuid()}
    try:
        builder.stdin.write(json.dumps(request).encode())
        builder.stdin.close()
    except OSError:
        pass  # it has ended; what it said tells why
    answer: dict[str, Any] = {}
    for line in builder.stdout:
        answer = json.loads(line)
        if "done" in answer:
            bus.emit(Event("up", answer["text"], answer["done"], answer["total"]))
    builder.wait()
    if answer.get("ok"):
        return
    kind = MachineError if answer.get("machine") else CommandFailed
    raise kind(answer.get("error", f"the builder ended with status {builder.returncode}"), hint=answer.get("hint"))


@dataclass(frozen=True)
class Proof:
    """A verification: its report, and with a twin the checks that it is meant to break."""

    report: Report
    expected: tuple[str, ...] | None = None

    @property
    def not_broken(self) -> list[str]:
        """Checks that the twin should have turned to FAIL and did not."""
        failed = {result.name for result in self.report.results if result.verdict is Verdict.FAIL}
        return sorted(set(self.expected or ()) - failed)

    @property
    def broken_too(self) -> list[str]:
        """Checks that do not pass though the twin does not name them."""
        others = {result.name for result in self.report.results if result.verdict is not Verdict.PASS}
        return sorted(others - set(self.expected or ()))

    @property
    def as_meant(self) -> bool:
        """Whether exactly the checks that the twin names fail, and all others pass."""
        return not self.not_broken and not self.broken_too


def verify(
    target: str,
    *,
    twin: str | None = None,
    bus: Bus | None = None,
    keep: str | Path | None = None,
    fresh: bool = False,
    backend: Backend = "netns",
    allow_binds: bool = False,
) -> Proof:
    """Prove a lab layer by layer.

    Args:
        target: a running lab's name, which is verified as it runs; otherwise a shipped lab's name, a lab file or its
            folder, of which an instance is brought up and taken down.
        twin: break a fresh instance in this way first.
        keep: write the capture there (pcapng).
        fresh: always in an instance of its own, even if a lab of that name runs.
        backend, allow_binds: of that instance, as for `up`.
    """
    if twin is None and not fresh and target in runs.names():
        lab = attach(target)
        try:
            return Proof(verify_running(lab, bus=bus, keep=keep))
        finally:
            lab.close()
    source = source_of(target)
    name = f"{_short_name(source)}-verify-{os.getpid()}"
    with up(source, name=name, twin=twin, bus=bus, backend=backend, allow_binds=allow_binds) as lab:
        expected = None
        if twin is not None:
            expected = lab.lab.twins[twin].spec.fails
            player = Player(lab.lab, lab.session, lab.directory, {})
            for step in lab.lab.twins[twin].steps:
                player.play(step)  # what it starts in the background ends with the instance
        return Proof(verify_running(lab, bus=bus, keep=keep), expected)


def source_of(target: str) -> Path:
    """The lab file of a running lab's name, a shipped lab's name, a lab file or its folder."""
    if target in runs.names():
        return Path(runs.facts(runs.directory(target))["source"])
    return runs.find_source(target)


def _short_name(source: Path) -> str:
    name = (source.parent if source.name == "lab.yml" else source).stem
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)[:40].strip("-") or "lab"


def verify_running(lab: RunningLab, *, bus: Bus | None = None, keep: str | Path | None = None) -> Report:
    """Play the scenes of a running lab, and judge its checks from what was recorded."""
    from emulator.verify.judge import judge

    if not lab.lab.checks:
        raise UsageError(f"the lab {lab.lab.name} has no checks to prove")
    began = time.monotonic()
    capture = Path(keep) if keep else lab.directory / "capture.pcapng"
    run = _count_run(lab.directory)
    evidence = observe(lab.lab, lab.session, lab.directory, run=run, capture=capture, bus=bus)
    results = judge(lab.lab, evidence)
    return Report(lab.lab.name, results, round(time.monotonic() - began, 3), str(keep) if keep else None)


def _count_run(directory: Path) -> int:
    """The number of this verification of the lab, from 0; two at the same time get different ones."""
    descriptor = os.open(directory / "runs", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        number = int(os.read(descriptor, 32) or b"0")
        os.pwrite(descriptor, str(number + 1).encode(), 0)
        return number
    finally:
        os.close(descriptor)
