"""Watching a running lab: record everything, play the scenes, read the tables. The result is evidence, no verdict."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from emulator.capture.recorder import Recorder, Settings
from emulator.errors import CommandFailed, UsageError
from emulator.events import Bus, Event
from emulator.lab.resolved import Node, ResolvedLab, Scene, Step
from emulator.plan.addresses import gateway
from emulator.run.control import Control, LabGone, is_alive
from emulator.run.fault_file import read, states
from emulator.run.faults import Faults
from emulator.run.session import Job, Result, Session
from emulator.verify.evidence import Evidence, Output, Window

FIRST_PORT = 20_000
"""Ports that scenes choose lie below the range from which Linux takes source ports by itself (32,768 and up)."""
PORTS = 10_000
ASK_AGAIN_S = 0.05
"""Between two runs of a command that is repeated until its output matches."""
SIGHUP = 1


def table_commands(node: Node) -> Mapping[str, tuple[str, ...]]:
    """The commands that read the tables of `node`."""
    commands: dict[str, tuple[str, ...]] = {}
    if node.bridges:
        commands["fdb"] = ("bridge", "-json", "fdb", "show")
        commands["bridge-link"] = ("bridge", "-json", "-details", "link", "show")
        commands["stp"] = ("ip", "-json", "-details", "link", "show", "type", "bridge")
    if node.kind == "switch":
        return commands
    commands["address"] = ("ip", "-json", "address")
    commands["route"] = ("ip", "-json", "route")
    commands["neighbour"] = ("ip", "-json", "neighbour")
    if node.ipv6:
        commands["route6"] = ("ip", "-json", "-6", "route")
    if node.nat or node.firewall:
        commands["counters"] = ("iptables-save", "-c")
        commands["conntrack"] = ("conntrack", "-L")
    return commands


def read_tables(lab: ResolvedLab, session: Session) -> dict[str, dict[str, str]]:
    """All tables of all nodes, read at the same time. A table that cannot be read is left out."""
    wanted = [(node.name, table, argv) for node in lab.nodes.values() for table, argv in table_commands(node).items()]
    results = session.run(Job(node, argv, timeout_s=10) for node, _, argv in wanted)
    tables: dict[str, dict[str, str]] = {}
    for (node, table, _), result in zip(wanted, results, strict=True):
        if result.status == 0:
            tables.setdefault(node, {})[table] = result.stdout
    return tables


class Player:
    """Does steps in a running lab, and collects what their commands print. Those in the background go on until they
    end, are stopped by a later step, or `finish` is called."""

    def __init__(self, lab: ResolvedLab, session: Session, directory: Path, variables: Mapping[str, str]) -> None:
        self._lab = lab
        self._session = session
        self._directory = directory
        self._variables = variables
        self._faults = Faults(lab, session, directory)
        self._running: dict[str, tuple[Step, list[int], list[Result]]] = {}

    def play(self, step: Step) -> list[Result]:
        """Do one step; returns the results of the commands that ended with it."""
        if step.action == "run":
            return self._run(step)
        if step.action == "stop":
            return self._collect([step.target], stop=True)
        if step.action == "reload":
            node, _, service = step.target.partition(":")
            with Control(self._directory) as control:
                control.ask("signal", node=node, service=service, signal=SIGHUP)
        elif step.action == "heal":
            self._faults.heal()
        elif step.action == "partition":
            self._faults.partition(step.groups)
        else:
            name = "continue_" if step.action == "continue" else step.action
            getattr(self._faults, name)(step.target)
        return []

    def _run(self, step: Step) -> list[Result]:
        """Run the command of a step; on a node that is frozen or off it comes to nothing."""
        down = states(read(self._directory))
        jobs = [self._job(step, node) for node in step.nodes]
        nothing = [_nothing(job, down[job.node]) for job in jobs if job.node in down]
        jobs = [job for job in jobs if job.node not in down]
        if step.background:
            self._running[step.id] = step, self._session.start(jobs), nothing
            return []
        if step.until is not None:
            return self._repeat(jobs, step.until, step.timeout_s) + nothing
        return self._session.run(jobs) + nothing

    def finish(self) -> list[tuple[str, Result]]:
        """Ask everything in the background to end, but wait for what is unattended; returns its results by step."""
        attended = [name for name, (step, _, _) in self._running.items() if not step.unattended]
        for name in attended:
            self._session.stop(self._running[name][1])
        return [(name, result) for name in list(self._running) for result in self._collect([name], stop=False)]

    def _collect(self, names: Sequence[str], *, stop: bool) -> list[Result]:
        results = []
        for name in names:
            _, numbers, nothing = self._running.pop(name)
            if stop:
                self._session.stop(numbers)
            results += self._session.wait(numbers) + nothing
        return results

    def _job(self, step: Step, node: str) -> Job:
        values = {**self._variables, "gateway": gateway(self._lab, node) or ""}
        return Job(
            node,
            tuple(_filled(word, values) for word in step.argv),
            stdin=_filled(step.stdin, values),
            timeout_s=step.timeout_s,
            env=self._lab.nodes[node].env,
            unattended=step.unattended,
        )

    def _repeat(self, jobs: Sequence[Job], pattern: str, timeout_s: float) -> list[Result]:
        """Run `jobs` again and again until the output of each matches; returns their last results."""
        wanted = re.compile(_filled(pattern, self._variables), re.MULTILINE)
        deadline = time.monotonic() + timeout_s
        last: dict[str, Result] = {}
        while True:
            waiting = [job for job in jobs if job.node not in last or not wanted.search(last[job.node].stdout)]
            if not waiting or (last and time.monotonic() >= deadline):
                return [last[job.node] for job in jobs]
            if last:
                time.sleep(ASK_AGAIN_S)
            for job, result in zip(waiting, self._session.run(waiting), strict=True):
                last[job.node] = result


def _nothing(job: Job, state: str) -> Result:
    now = time.time_ns()
    return Result(job.node, job.argv, None, "", f"{job.node} is {state}: nothing runs there\n", now, now)


def _filled(word: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", value)
    return word


def observe(
    lab: ResolvedLab, session: Session, directory: Path, *, run: int, capture: Path, bus: Bus | None = None
) -> Evidence:
    """Play all scenes of `lab` while every interface is recorded into `capture`.

    Args:
        run: how often this lab was watched before; scenes take fresh ports from it.
    """
    bus = bus or Bus()
    variables = {"run.port": str(FIRST_PORT + run % PORTS), "run.number": str(run)}
    try:
        output = os.open(capture, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandFailed(f"cannot write {capture}: {error.strerror}") from None
    try:
        loopbacks = [interface.place for interface in lab.interfaces() if interface.is_loopback]
        only = [*lab.nodes, *loopbacks] if loopbacks else ()
        recorder = Recorder(directory, list(lab.nodes), output, only, Settings(live=_switches_nodes_off(lab)))
    finally:
        os.close(output)
    try:
        before = read_tables(lab, session)
        recorder.wait_ready()
        windows: dict[str, Window] = {}
        outputs: list[Output] = []
        for number, scene in enumerate(lab.scenes):
            bus.emit(Event("verify", scene.about or scene.name, number, len(lab.scenes)))
            began = time.time_ns()
            outputs += _scene(lab, session, directory, scene, variables)
            windows[scene.name] = Window(began, time.time_ns())
        after = read_tables(lab, session)
        bus.emit(Event("verify", "judging", len(lab.scenes), len(lab.scenes)))
        recorder.stop()
    except BaseException:
        recorder.close()
        raise
    from emulator.capture.decode import decode
    from emulator.capture.pcapng import read

    try:
        recorded = read(capture)
    except UsageError:
        if is_alive(directory):
            raise
        raise LabGone(f"the lab {directory.name} has ended") from None
    frames = decode(recorded.packets, recorded.interfaces)
    return Evidence(
        frames=frames,
        interfaces=recorded.interfaces,
        windows=windows,
        outputs=tuple(outputs),
        before=before,
        after=after,
        variables=variables,
        truncated=recorded.truncated,
    )


def _switches_nodes_off(lab: ResolvedLab) -> bool:
    """Whether a scene switches a node off, so that the recording has to look for its interfaces again."""
    steps = (step for scene in lab.scenes for step in scene.steps)
    return any(step.action in ("kill", "restart") and ":" not in step.target for step in steps)


def _scene(
    lab: ResolvedLab, session: Session, directory: Path, scene: Scene, variables: Mapping[str, str]
) -> list[Output]:
    player = Player(lab, session, directory, variables)
    outputs: list[tuple[str, Result]] = []
    for step in scene.steps:
        name = step.target if step.action == "stop" else step.id
        outputs += [(name, result) for result in player.play(step)]
    outputs += player.finish()
    return [_output(scene.name, step, result) for step, result in outputs]


def _output(scene: str, step: str, result: Result) -> Output:
    return Output(
        scene,
        step,
        result.node,
        result.argv,
        result.status,
        result.stdout,
        result.stderr,
        result.began_ns,
        result.ended_ns,
    )
