"""The one place where the stages meet: up, down, verify."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.errors import CommandFailed, MachineError, RightsLacking, UsageError
from emulator.events import Bus, Event, Listener
from emulator.run import deputy, room, runs
from emulator.run.control import Control
from emulator.run.starting import Start
from emulator.sources import Origin, facts_of, from_facts, generated, loaded

if TYPE_CHECKING:
    from emulator.kept import Keeping
    from emulator.lab.nodes import Backend
    from emulator.lab.resolved import ResolvedLab
    from emulator.plan.ops import Plan
    from emulator.run.consent import Agreement
    from emulator.run.faults import Faults
    from emulator.run.session import Result, Session
    from emulator.run.view import Shared
    from emulator.verify.evidence import Evidence
    from emulator.verify.matrix import Matrix
    from emulator.verify.verdict import Proof, Report


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
        from emulator.run.fault_file import check_runs

        check_runs(self._lab.directory, self.name)
        result = self._lab.session.run_one(self.name, argv, stdin=stdin, timeout_s=timeout_s, env=env)
        if check and result.status != 0:
            said = (result.stderr or result.stdout).strip()[-400:]
            how = "took too long" if result.status is None else f"ended with status {result.status}"
            raise CommandFailed(f"{argv[0]} on {self.name} {how}", hint=said or None)
        return result


class RunningLab:
    """A lab that runs. As a context manager it is taken down at the end."""

    def __init__(self, lab: ResolvedLab, directory: Path, start: Start | None = None) -> None:
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
            from emulator.run.session import Session

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

    def run_all(
        self,
        argv: Sequence[str],
        *,
        nodes: Iterable[str] | None = None,
        stdin: str = "",
        timeout_s: float = 60.0,
        env: Mapping[str, str] | None = None,
    ) -> dict[str, Result]:
        """Run a command on several nodes at once, and wait until all have ended; what came of it, by node.

        Args:
            nodes: their names; default: every node.

        Raises:
            KeyError: the lab has no such node.
            MachineError, CommandFailed: it could not be started on one of them, which may be frozen or off.
        """
        from emulator.run.fault_file import check_runs
        from emulator.run.session import Job

        names = list(self.lab.nodes) if nodes is None else [self[node].name for node in nodes]
        for name in names:
            check_runs(self.directory, name)
        jobs = [Job(name, tuple(argv), stdin, timeout_s, env) for name in names]
        return {result.node: result for result in self.session.run(jobs)}

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
        from emulator.run.faults import Faults

        return Faults(self.lab, self.session, self.directory)

    def reach(self, *, version: int | None = None, bus: Bus | None = None) -> Matrix:
        """Test all ordered pairs of hosts by echo requests and replies.

        Args:
            version: 4 or 6 to test by this IP version alone; default: IPv4 where both hosts have it, else IPv6.
            bus: hears how far it is.
        """
        from emulator.reach.tester import reach

        return reach(self.lab, self.directory, version=version, bus=bus)

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


def _lacking(plan: Plan) -> None:
    from emulator.run import tools

    lacking = tools.missing(plan.tools)
    if lacking:
        packages = ", ".join(f"{program} (package {tools.PACKAGES.get(program, program)})" for program in lacking)
        raise MachineError(f"this machine lacks {packages}", hint=tools.package_hint(lacking))


def _engine(name: str, lab: ResolvedLab) -> str:
    """The socket of an engine that can be used for labs; what is left there of an earlier lab called `name` goes.

    Raises:
        MachineError: there is none.
        RightsLacking: the rights do not suffice.
    """
    from emulator.run import engine

    path = engine.usable()
    _require_rights(lab)
    for found in engine.remains():
        if found.name == name:
            engine.clear(found)
    return path


def _require_rights(lab: ResolvedLab) -> None:
    from emulator.plan.containers import CAPABILITIES
    from emulator.run import kernel

    asked = {name for node in lab.nodes.values() if node.container for name in node.container.capabilities}
    extra = sorted(asked - {*CAPABILITIES, *deputy.CAPABILITIES})
    wanted = kernel.capability_set((*CAPABILITIES, *deputy.CAPABILITIES, *extra)) if os.geteuid() != 0 else 0
    if os.geteuid() == 0 and not deputy.has_rights():
        text = "to put interfaces into containers takes CAP_SYS_ADMIN and CAP_NET_ADMIN, which this root does not have"
        raise MachineError(text, hint="do it outside the container, or with --backend netns")
    if not deputy.has_rights() or wanted & ~kernel.capabilities("Prm"):
        raise RightsLacking(
            "to put interfaces into containers takes root", hint="use sudo, or the command wirelab up", extra=extra
        )


def _agreed(lab: ResolvedLab, allow_binds: Agreement, allow_caps: Agreement) -> list[Shared]:
    """What the lab's nodes share with this machine: a lab file is data, its user has to agree to what it names, and to
    the capabilities that it asks for."""
    binds = [(node.name, bind) for node in lab.nodes.values() for bind in node.binds]
    asked = [(node.name, node.container.capabilities) for node in lab.nodes.values() if node.container]
    if not binds and not any(names for _, names in asked):
        return []
    from emulator.run.consent import agree, agree_to_capabilities

    agree_to_capabilities(asked, allow_caps)
    return agree(binds, allow_binds)


def up(
    source: str | Path | None = None,
    *,
    topology: str | None = None,
    name: str | None = None,
    twin: str | None = None,
    bus: Bus | None = None,
    backend: Backend = "netns",
    allow_binds: Agreement = False,
    allow_caps: Agreement = False,
) -> RunningLab:
    """Bring a lab up; returns when every service answers. The lab ends with this process unless it is left (`leave`).

    Args:
        source: a shipped lab's name, a lab file or its folder.
        topology: instead of a source, words such as `single,1000` of which a lab is generated.
        name: the name of the instance; default: the lab's own.
        twin: build it broken by the patch of this twin.
        backend: what nodes are made of of which the file does not say it.
        allow_binds: the user agrees to share what the lab file's `binds` name; or a function that is asked for it.
        allow_caps: the user agrees to the capabilities that its `cap-add` names, also over this machine; likewise.

    Raises:
        LabFileError, UsageError, MachineError, CommandFailed: nothing of the lab is left then.
    """
    if (source is None) == (topology is None):
        raise UsageError("either a lab or a topology", hint="wirelab up LAB, or wirelab up --topology single,100")
    told = (bus or Bus()).emit
    told(Event("up", "reading the lab"))
    if topology is not None:
        lab, origin = generated(topology, backend)
    else:
        lab, origin = loaded(str(source), twin, backend)
    room.refuse_too_large(lab.name, len(lab.nodes))
    instance = lab.name if name is None else name
    engine_socket = _engine(instance, lab) if any(node.container for node in lab.nodes.values()) else None
    shared = _agreed(lab, allow_binds, allow_caps)
    with Start(instance, engine_socket, shared) as start:  # it makes its namespaces while we make the plan
        return _built(start, lab, origin, told, engine_socket)


def up_begun(start: Start, topology: str, *, bus: Bus | None = None) -> RunningLab:
    """Bring up a generated lab whose first process is started already: see `up`. `start` has the lab's name.

    Raises:
        UsageError, MachineError, CommandFailed: nothing of the lab is left when `start` has been closed.
    """
    told = (bus or Bus()).emit
    told(Event("up", "reading the lab"))
    lab, origin = generated(topology, "netns")
    room.refuse_too_large(lab.name, len(lab.nodes))
    return _built(start, lab, origin, told)


def _built(
    start: Start, lab: ResolvedLab, origin: Origin, told: Listener, engine_socket: str | None = None
) -> RunningLab:
    from emulator.plan.compile import compile_plan
    from emulator.run.building import Building

    if engine_socket:
        importlib.import_module("docker")  # the builder, which is a fork of this process, has it then
    told(Event("up", "planning"))
    plan = compile_plan(lab)
    _lacking(plan)
    start.wait_ready()
    with Building(start, plan, engine_socket) as building:
        facts = facts_of(lab, origin, start.began)
        building.wait(lambda said: told(Event("up", said["text"], said["done"], said["total"])))
        facts["seconds"] = round(time.time() - start.began, 3)
        if holder := os.environ.get(deputy.ENVIRONMENT):
            (start.folder / deputy.LINK).symlink_to(holder)
        runs.write_facts(start.folder, facts)
    return RunningLab(lab, start.folder, start)


def attach(name: str) -> RunningLab:
    """The running lab called `name`."""
    directory = runs.directory(name)
    if deputy.of_lab(directory) and not deputy.has_rights():
        raise RightsLacking("to enter a lab with containers takes root", hint="use the command wirelab")
    facts = runs.facts(directory)
    return RunningLab(from_facts(facts), directory)


def verify(
    target: str,
    *,
    twin: str | None = None,
    bus: Bus | None = None,
    capture: str | Path | None = None,
    keep: str | Path | None = None,
    fresh: bool = False,
    backend: Backend = "netns",
    allow_binds: Agreement = False,
    allow_caps: Agreement = False,
    pairs: bool = False,
    version: int | None = None,
) -> Proof:
    """Prove a lab layer by layer; or, with `pairs` and where a lab has no checks, all pairs of its hosts.

    Args:
        target: a running lab's name, which is verified as it runs; otherwise a shipped lab's name, a lab file or its
            folder, of which an instance is brought up and taken down.
        twin: break a fresh instance in this way first.
        capture: write the packets there (pcapng).
        keep: the folder that all of it is kept in, for `replay`; it must be new or empty.
        fresh: always in an instance of its own, even if a lab of that name runs.
        pairs: test all pairs of hosts, and not the lab's checks.
        version: 4 or 6 to test pairs by this IP version alone.
        backend, allow_binds, allow_caps: of that instance, as for `up`.
    """
    from dataclasses import replace

    from emulator.reach.capacity import warnings

    with _keeping(keep) as place:
        if twin is None and not fresh and target in runs.names():
            lab = attach(target)
            try:
                proof = verify_running(lab, bus=bus, capture=capture, place=place, pairs=pairs, version=version)
                return replace(proof, note="\n".join(warnings(lab.lab)) or None)
            finally:
                lab.close()
        source = source_of(target)
        name = f"{_short_name(source)}-verify-{os.getpid()}"
        with up(
            source, name=name, twin=twin, bus=bus, backend=backend, allow_binds=allow_binds, allow_caps=allow_caps
        ) as lab:
            if twin is not None:
                from emulator.observe import Player

                player = Player(lab.lab, lab.session, lab.directory, {})
                for step in lab.lab.twins[twin].steps:
                    player.play(step)  # what it starts in the background ends with the instance
            proof = verify_running(lab, twin=twin, bus=bus, capture=capture, place=place, pairs=pairs, version=version)
            return replace(proof, note="\n".join(warnings(lab.lab)) or None)


def _keeping(target: str | Path | None) -> contextlib.AbstractContextManager[Keeping | None]:
    if target is None:
        return contextlib.nullcontext()
    from emulator.kept import Keeping

    return Keeping(target)


def source_of(target: str) -> Path:
    """The lab file of a running lab's name, a shipped lab's name, a lab file or its folder.

    Raises:
        UsageError: there is none.
    """
    if target in runs.names():
        facts = runs.facts(runs.directory(target))
        if facts["topology"] is not None:
            raise UsageError(f"the lab {target} was generated from {facts['topology']}; it has no file, and no twins")
        return Path(facts["source"])
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
    pairs: bool = False,
    version: int | None = None,
) -> Proof:
    """Play the scenes of a running lab, and judge its checks from what was recorded; or test the pairs of its hosts.

    Args:
        twin: the twin that it is broken by.
        capture: write the packets there (pcapng).
        place: keep all of it there.
        pairs: test all pairs of hosts, and not the lab's checks.
        version: 4 or 6 to test pairs by this IP version alone.
    """
    from emulator.verify.verdict import Proof, Report

    if pairs or not lab.lab.checks:
        if capture:
            raise UsageError("the pairs test records no packets", hint=f"wirelab capture {lab.name} -w {capture}")
        if place is not None:
            raise UsageError("the pairs test has no evidence to keep", hint=f"wirelab verify {lab.name} --json")
        return Proof(_pairs_report(lab, bus, version))
    from emulator.observe import observe
    from emulator.verify.judge import judge

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
    from dataclasses import replace

    from emulator.kept import keep
    from emulator.plan.compile import compile_plan
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
        backend=facts["backend"],
        resolved=plain(lab.lab),
        plan={"lab": plan.lab, "tools": plan.tools, "operations": operations},
        report=as_dict(replace(proof.report, capture=None)),
        evidence=evidence,
        versions=versions(plan.tools),
    )
    keep(place, kept, proof.report, len(evidence.frames))


def _pairs_report(lab: RunningLab, bus: Bus | None, version: int | None) -> Report:
    from emulator.verify.matrix import result
    from emulator.verify.verdict import Report

    matrix = lab.reach(version=version, bus=bus)
    return Report(lab.lab.name, (result(matrix),), matrix.seconds, matrix=matrix)


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
