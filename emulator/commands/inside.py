"""`wirelab exec` and `wirelab shell`: a command in a node, with this terminal. Standard library only, to be instant."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from emulator.errors import CommandFailed, MachineError, UsageError
from emulator.run import running, spawn
from emulator.run.control import Control, enter_lab

if TYPE_CHECKING:
    import argparse


def execute(options: argparse.Namespace) -> int:
    """Run a command on a node, or on several at once."""
    argv = options.argv
    if options.all and options.node is not None:
        raise UsageError("`--all` is every node: no NODE goes with it", hint="wirelab exec LAB --all -- COMMAND…")
    if not options.all and options.node is None:
        raise UsageError(
            "on which node?", hint="wirelab exec LAB NODE -- COMMAND…, or wirelab exec LAB --all -- COMMAND…"
        )
    if not argv:
        raise UsageError("which command?", hint="wirelab exec LAB NODE -- COMMAND…")
    from emulator.commands import exec_many

    several = options.all or "," in options.node or exec_many.is_pattern(options.node)
    if several or options.json or options.timeout is not None:
        return exec_many.execute_many(options.lab, options.node, argv, as_json=options.json, timeout_s=options.timeout)
    return run_in_node(options.lab, options.node, argv, {})


def shell(options: argparse.Namespace) -> int:
    """Open a shell on a node."""
    from emulator.run import tools

    argv = ["bash", "--norc", "-i"] if tools.find("bash") else ["sh", "-i"]
    return run_in_node(options.lab, options.node, argv, {"PS1": f"{options.node}:\\w# "})


def run_in_node(lab: str, node: str, argv: list[str], env: dict[str, str]) -> int:
    """Run `argv` on `node` of the running lab `lab` with this process's standard streams.

    This process enters the lab for good. Returns the command's exit status, 128 + n when signal n ended it.
    """
    folder = running.directory(lab)
    facts = _node_facts(running.facts(folder), lab, node)
    if os.path.exists(os.path.join(folder, running.FAULTS)):
        from emulator.run import fault_file

        fault_file.check_runs(folder, node)
    try:
        here = os.getcwd()
    except OSError:
        here = "/"
    terminal = {"TERM": os.environ["TERM"]} if "TERM" in os.environ else {}
    try:
        with Control(folder) as control:
            spaces = control.node_spaces([node])[node]
            enter_lab(control.own_spaces())
        sys.stdout.flush()
        pid = spawn.start(
            spaces,
            argv,
            spawn.environment(node, {**terminal, **facts.get("env", {}), **env}),
            stdin=0,
            stdout=1,
            stderr=2,
            new_session=False,
            die_with_parent=True,
            cwd=here,
        )
    except OSError as error:
        if error.errno == 2:
            from emulator.run import tools

            raise MachineError(f"there is no program {argv[0]}", hint=tools.known_package_hint(argv[0])) from None
        raise CommandFailed(f"cannot run {argv[0]} on {node}: {error.strerror}") from None
    return _wait(pid)


def _node_facts(facts: dict[str, Any], lab: str, node: str) -> dict[str, Any]:
    nodes: dict[str, Any] = facts["nodes"]
    if node not in nodes:
        from emulator.commands.exec_many import near

        raise UsageError(f"the lab {lab} has no node {node}", hint=near(list(nodes), node))
    found: dict[str, Any] = nodes[node]
    return found


def _wait(pid: int) -> int:
    """Wait for the command; what the terminal sends goes to it by itself, what is sent to us is passed on."""

    def pass_on(number: int, _frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
