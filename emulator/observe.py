"""Watching a running lab: record everything, play the scenes, read the tables. The result is evidence, no verdict."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emulator.capture.recorder import Recorder
from emulator.errors import CommandFailed
from emulator.events import Bus, Event
from emulator.lab.resolved import Node, ResolvedLab, Scene, Step
from emulator.plan.addresses import gateway
from emulator.run.cables import set_cable
from emulator.run.control import Control
from emulator.run.session import Job, Session
from emulator.verify.evidence import Evidence, Output, Window

FIRST_PORT = 20_000
"""Ports that scenes choose lie below the range from which Linux takes source ports by itself (32,768 and up)."""
PORTS = 10_000
SIGNALS = {"kill": 9, "reload": 1}


def table_commands(node: Node) -> Mapping[str, tuple[str, ...]]:
    """The commands that read the tables of `node`."""
    if node.kind == "switch":
        return {"fdb": ("bridge", "-json", "fdb", "show")}
    commands: dict[str, tuple[str, ...]] = {
        "address": ("ip", "-json", "address"),
        "route": ("ip", "-json", "route"),
        "neighbour": ("ip", "-json", "neighbour"),
    }
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


def play(lab: ResolvedLab, session: Session, directory: Path, step: Step, variables: Mapping[str, str]) -> list[Any]:
    """Do one step; returns the results of its commands."""
    if step.action in ("plug", "unplug"):
        set_cable(lab, session, step.target, plugged=step.action == "plug")
        return []
    if step.action in SIGNALS:
        node, _, service = step.target.partition(":")
        with Control(directory) as control:
            control.ask("signal", node=node, service=service, signal=SIGNALS[step.action])
        return []
    jobs = []
    for node in step.nodes:
        values = {**variables, "gateway": gateway(lab, node) or ""}
        argv = tuple(_filled(word, values) for word in step.argv)
        jobs.append(Job(node, argv, timeout_s=step.timeout_s, env=lab.nodes[node].env))
    return session.run(jobs)


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
        recorder = Recorder(directory, list(lab.nodes), output)
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

    recorded = read(capture)
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


def _scene(
    lab: ResolvedLab, session: Session, directory: Path, scene: Scene, variables: Mapping[str, str]
) -> list[Output]:
    outputs = []
    for step in scene.steps:
        for result in play(lab, session, directory, step, variables):
            outputs.append(
                Output(
                    scene.name,
                    step.id,
                    result.node,
                    result.argv,
                    result.status,
                    result.stdout,
                    result.stderr,
                    result.began_ns,
                    result.ended_ns,
                )
            )
    return outputs
