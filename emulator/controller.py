"""The one place where the stages meet: up, down, verify."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.errors import CommandFailed, MachineError, UsageError
from emulator.events import Bus, Event
from emulator.lab.resolve import resolve
from emulator.lab.resolved import ResolvedLab
from emulator.observe import Player, observe
from emulator.plan.compile import compile_plan
from emulator.plan.ops import Plan
from emulator.run import runs, tools
from emulator.run.consent import Agreement, agree
from emulator.run.control import Control
from emulator.run.fault_file import check_runs
from emulator.run.faults import Faults
from emulator.run.session import Result, Session
from emulator.verify.verdict import Proof, Report

if TYPE_CHECKING:
    from emulator.kept import Keeping
    from emulator.verify.evidence import Evidence


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
            CommandFailed: `check` is true and the command's status is not 0; or the node is frozen or off.
        """
        check_runs(self._lab.directory, self.name)
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
        (self.faults.plug if plugged else self.faults.unplug)(place)

    @property
    def faults(self) -> Faults:
        """What can be broken in the lab while it runs, and healed."""
        return Faults(self.lab, self.session, self.directory)

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


def load_lab(source: str | Path, *, twin: str | None = None) -> tuple[ResolvedLab, Any]:
    """The resolved lab for a shipped lab's name, a file or a folder, and the document's plain values."""
    from emulator.lab.load import build, read_document

    document = read_document(runs.find_source(str(source)))
    return resolve(build(document, twin=twin)), document


def _lacking(plan: Plan) -> None:
    lacking = tools.missing(plan.tools)
    if lacking:
        packages = ", ".join(f"{program} (package {tools.PACKAGES.get(program, program)})" for program in lacking)
        raise MachineError(f"this machine lacks {packages}", hint=tools.package_hint(lacking))


def up(
    source: str | Path,
    *,
    name: str | None = None,
    twin: str | None = None,
    bus: Bus | None = None,
    allow_binds: Agreement = False,
) -> RunningLab:
    """Bring a lab up; returns when every service answers. The lab ends with this process unless it is left (`leave`).

    Args:
        source: a shipped lab's name, a lab file or its folder.
        name: the name of the instance; default: the lab's own.
        twin: build it broken by the patch of this twin.
        allow_binds: the user agrees to share what the lab file's `binds` name; or a function that is asked for it.

    Raises:
        LabFileError, UsageError, MachineError, CommandFailed: nothing of the lab is left then.
    """
    path = runs.find_source(str(source))
    lab, document = load_lab(path, twin=twin)
    plan = compile_plan(lab)
    _lacking(plan)
    shared = agree(((node.name, bind) for node in lab.nodes.values() for bind in node.binds), allow_binds)
    started = time.time()
    start = runs.Start(name or lab.name, shared)
    builder = None
    try:
        builder = _start_builder(start.folder)
        start.wait_ready()
        _build(builder, plan, bus or Bus())
        runs.write_facts(start.folder, _facts(lab, path, document.file, twin, started))
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
    facts = runs.facts(directory)
    lab, _ = _from_facts(facts)
    return RunningLab(lab, directory)


def _from_facts(facts: Mapping[str, Any]) -> tuple[ResolvedLab, Any]:
    from emulator.lab.document import parse
    from emulator.lab.load import build

    document = parse(facts["text"].encode(), facts["source"])
    return resolve(build(document, twin=facts["twin"], included=facts["included"])), document


def _facts(lab: ResolvedLab, path: Path, file: str, twin: str | None, started: float) -> dict[str, Any]:
    return {
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


def _build(builder: subprocess.Popen[bytes], plan: Plan, bus: Bus) -> None:
    if builder.stdin is None or builder.stdout is None:
        raise AssertionError("the builder has pipes")
    request = {"lab": plan.lab, "operations": [operation.to_json() for operation in plan.operations]}
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


def verify(
    target: str,
    *,
    twin: str | None = None,
    bus: Bus | None = None,
    capture: str | Path | None = None,
    keep: str | Path | None = None,
    fresh: bool = False,
    allow_binds: Agreement = False,
) -> Proof:
    """Prove a lab layer by layer.

    Args:
        target: a running lab's name, which is verified as it runs; otherwise a shipped lab's name, a lab file or its
            folder, of which an instance is brought up and taken down.
        twin: break a fresh instance in this way first.
        capture: write the packets there (pcapng).
        keep: the folder that all of it is kept in, for `replay`; it must be new or empty.
        fresh: always in an instance of its own, even if a lab of that name runs.
        allow_binds: as of `up`, for an instance of its own.
    """
    with _keeping(keep) as place:
        if twin is None and not fresh and target in runs.names():
            lab = attach(target)
            try:
                return verify_running(lab, bus=bus, capture=capture, place=place)
            finally:
                lab.close()
        source = source_of(target)
        name = f"{_short_name(source)}-verify-{os.getpid()}"
        with up(source, name=name, twin=twin, bus=bus, allow_binds=allow_binds) as lab:
            if twin is not None:
                player = Player(lab.lab, lab.session, lab.directory, {})
                for step in lab.lab.twins[twin].steps:
                    player.play(step)  # what it starts in the background ends with the instance
            return verify_running(lab, twin=twin, bus=bus, capture=capture, place=place)


def _keeping(target: str | Path | None) -> contextlib.AbstractContextManager[Keeping | None]:
    if target is None:
        return contextlib.nullcontext()
    from emulator.kept import Keeping

    return Keeping(target)


def source_of(target: str) -> Path:
    """The lab file of a running lab's name, a shipped lab's name, a lab file or its folder."""
    if target in runs.names():
        return Path(runs.facts(runs.directory(target))["source"])
    return runs.find_source(target)


def _short_name(source: Path) -> str:
    name = (source.parent if source.name == "lab.yml" else source).stem
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)[:40].strip("-") or "lab"


def verify_running(
    lab: RunningLab,
    *,
    twin: str | None = None,
    bus: Bus | None = None,
    capture: str | Path | None = None,
    place: Keeping | None = None,
) -> Proof:
    """Play the scenes of a running lab, and judge its checks from what was recorded.

    Args:
        twin: the twin that it is broken by.
        capture: write the packets there (pcapng).
        place: keep all of it there.
    """
    from emulator.verify.judge import judge

    if not lab.lab.checks:
        raise UsageError(f"the lab {lab.lab.name} has no checks to prove")
    began = time.monotonic()
    file = Path(capture) if capture else place.capture if place else lab.directory / "capture.pcapng"
    run = _count_run(lab.directory)
    evidence = observe(lab.lab, lab.session, lab.directory, run=run, capture=file, bus=bus)
    results = judge(lab.lab, evidence)
    seconds = round(time.monotonic() - began, 3)
    report = Report(lab.lab.name, results, seconds, str(capture) if capture else None)
    proof = Proof(report, None if twin is None else lab.lab.twins[twin].spec.fails, twin)
    if place is not None:
        if capture:
            place.copy_capture(file)
        _keep(place, lab, evidence, proof)
    return proof


def _keep(place: Keeping, lab: RunningLab, evidence: Evidence, proof: Proof) -> None:
    from emulator.kept import keep
    from emulator.report.json import as_dict
    from emulator.run.versions import versions
    from emulator.verify.folder import Kept, plain

    facts = runs.facts(lab.directory)
    plan = compile_plan(lab.lab)
    operations = [{**operation.to_json(), "text": operation.describe()} for operation in plan.operations]
    kept = Kept(
        source=facts["source"],
        text=facts["text"],
        included=facts["included"],
        twin=facts["twin"],
        expected=proof.expected,
        resolved=plain(lab.lab),
        plan={"lab": plan.lab, "tools": plan.tools, "operations": operations},
        report=as_dict(replace(proof.report, capture=None)),
        evidence=evidence,
        versions=versions(plan.tools),
    )
    keep(place, kept, proof.report, len(evidence.frames))


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
