"""Faults of a running lab, done and taken back: cables, nodes, daemons, partitions.

What a fault looks like to the others on the wire:

- *frozen*: the node's processes are stopped (SIGSTOP), and the packet filter drops what its cables bring and what it
  sends (nft(8), family netdev). The cables keep their carrier, addresses, routes and connections stay: a machine that
  hangs. A network namespace itself cannot be stopped, and would go on answering ARP and ping without the filter.
- *off*: the node's processes are killed, its cables lose their carrier, and its network namespace is replaced by an
  empty one, so whatever the kernel knew there is gone (addresses, routes, neighbours, tracked connections, sockets). To
  restart it is to carry out the plan's operations for this node again.
- *partition*: `emulator.plan.partition`.

Every fault stands in the lab's list (`emulator.run.fault_file`) from before it is done until it is undone.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emulator.errors import CommandFailed, MachineError, UsageError, WirelabError
from emulator.lab.problems import near
from emulator.lab.resolved import ResolvedLab
from emulator.plan import partition
from emulator.plan.restart import restart_plan
from emulator.run import tools
from emulator.run.cables import end_to_switch, set_cable
from emulator.run.control import Control
from emulator.run.fault_file import Fault, Ledger, states
from emulator.run.restart import boot
from emulator.run.session import Job, Session

_ENDED_S = 5.0
"""How long a killed service may take to be gone."""

_OPTIONS = "kernel options CONFIG_NF_TABLES_NETDEV, CONFIG_NETFILTER_EGRESS (Linux 5.16), CONFIG_NF_TABLES_BRIDGE"

_ASKED_S = 2.0
"""How long a service that is asked to end (SIGTERM) may take, before it is killed."""


class Faults:
    """The faults of one running lab. Each method is whole: it waits until what it does is done."""

    def __init__(self, lab: ResolvedLab, session: Session, directory: Path) -> None:
        self._lab = lab
        self._session = session
        self._directory = directory
        self._ledger = Ledger(directory)

    def now(self) -> tuple[Fault, ...]:
        """The faults that the lab has, the oldest first."""
        return self._ledger.read()

    def check(self, action: str, targets: Iterable[str]) -> None:
        """Make sure that all of `targets` are there, before the first of several is touched.

        Args:
            action: the name of a method for one target.

        Raises:
            UsageError: one of them is not there.
        """
        with Control(self._directory) as control:
            for target in targets:
                if action in ("unplug", "plug"):
                    self._cable(target)
                elif action in ("kill", "restart") and ":" in target:
                    self._known(control, target)
                else:
                    self._check_node(target)

    def unplug(self, place: str) -> None:
        """Pull the cable at `node:interface`."""
        fault = self._cable(place)
        with self._ledger.held():
            self._ledger.add(fault)
            set_cable(self._lab, self._session, fault.target, plugged=False, off=self._off())

    def plug(self, place: str) -> None:
        """Put the cable at `node:interface` back.

        Raises:
            UsageError: it is not this cable alone that is out, but a partition.
        """
        fault = self._cable(place)
        with self._ledger.held():
            self._plug(fault)
            if fault.target in self._pulled(self.now()):
                raise UsageError(f"{place}: a partition keeps the cable out", hint=self._hint("heal"))

    def freeze(self, node: str) -> None:
        """Stop a node as if it hung."""
        self._check_node(node)
        with self._ledger.held():
            if states(self.now()).get(node) == "off":
                raise UsageError(f"{node} is off, it cannot be frozen", hint=self._hint(f"restart {node}"))
            fault = Fault("freeze", node)
            new = self._ledger.add(fault)
            # Also where it was on the list: who wrote it there may have been killed before the rules were loaded.
            self._load({node: partition.silence(self._cables(node))}, fault, new=new)
            with Control(self._directory) as control:
                control.ask("freeze", node=node)

    def continue_(self, node: str) -> None:
        """Let a frozen node go on."""
        self._check_node(node)
        with self._ledger.held():
            if states(self.now()).get(node) == "off":
                raise UsageError(f"{node} is off, not frozen", hint=self._hint(f"restart {node}"))
            self._continue(node)

    def kill(self, target: str) -> None:
        """Cut the power of a node, or kill a service, `node:service`."""
        if ":" in target:
            self._kill_service(target)
            return
        self._check_node(target)
        with self._ledger.held():
            self._kill(target)

    def restart(self, target: str) -> list[str]:
        """Switch a node off, if it is on, and on; or start a service again, `node:service`.

        Returns:
            What does not answer in time, in words; nothing when all is well.
        """
        if ":" in target:
            return self._restart_service(target)
        self._check_node(target)
        with self._ledger.held():
            return self._restart([target])

    def partition(self, groups: Sequence[Sequence[str]]) -> None:
        """Cut the lab between `groups` of nodes (`emulator.plan.partition.cut`).

        Raises:
            UsageError: the groups are wrong, or there is another partition already.
        """
        named = [node for group in groups for node in group]
        for node in named:
            self._check_node(node)
        if not all(groups) or len(set(named)) != len(named):
            raise UsageError("a group of a partition has a node at least, and a node is in one group")
        fault = Fault("partition", groups=tuple(tuple(group) for group in groups))
        with self._ledger.held():
            if any(entry.kind == "partition" and entry != fault for entry in self.now()):
                raise UsageError("there is another partition already", hint=self._hint("heal"))
            new = self._ledger.add(fault)
            found = partition.cut(self._lab, fault.groups)
            self._load(found.rules, fault, new=new)
            for place in found.cables:
                set_cable(self._lab, self._session, place, plugged=False, off=self._off())

    def heal(self) -> list[str]:
        """Take all faults back, and start services again that failed; waits until the lab is as `up` leaves it.

        Returns:
            What does not answer in time, in words; nothing when all is well.
        """
        with self._ledger.held():
            faults = self.now()
            for fault in faults:
                if fault.kind == "freeze":
                    self._continue(fault.target)
            for fault in faults:
                if fault.kind == "partition":
                    self._join(fault)
            for fault in faults:
                if fault.kind == "unplug":
                    self._plug(fault)
            late = self._restart(self._off(), self.failed(), settle=True)
            self._ledger.remove(*self.now())
            return late

    def _hint(self, words: str) -> str:
        return f"wirelab fault {self._directory.name} {words}"

    # Cables

    def _cable(self, place: str) -> Fault:
        """The fault of a pulled cable, whichever end is named."""
        end = end_to_switch(self._lab, place)
        other = Fault("unplug", ":".join(end.peer or ()))
        return other if other in self.now() else Fault("unplug", end.place)

    def _plug(self, fault: Fault) -> None:
        if fault.target not in self._pulled(self.now(), besides=fault):
            set_cable(self._lab, self._session, fault.target, plugged=True, off=self._off())
            self._ask_anew(self._around([fault.target.partition(":")[0]]))
        self._ledger.remove(fault)

    def _pulled(self, faults: Iterable[Fault], besides: Fault | None = None) -> set[str]:
        """The interfaces that are switched off since their cable is pulled by one of `faults`, but not by `besides`."""
        places = set()
        for fault in faults:
            if fault.kind == "unplug" and fault != besides:
                places.add(fault.target)
            elif fault.kind == "partition" and fault != besides:
                cables = partition.cut(self._lab, fault.groups).cables
                places |= {end_to_switch(self._lab, place).place for place in cables}
        return places

    def _join(self, fault: Fault) -> None:
        """Undo a partition, but for cables that were pulled one by one."""
        found = partition.cut(self._lab, fault.groups)
        pulled = self._pulled(self.now(), besides=fault)
        for switch in found.rules:
            self._filter(switch, partition.remove(partition.TABLE, "bridge"))
        for place in found.cables:
            if end_to_switch(self._lab, place).place not in pulled:
                set_cable(self._lab, self._session, place, plugged=True, off=self._off())
        self._ledger.remove(fault)
        self._ask_anew(self._lab.nodes)

    # Nodes

    def _off(self) -> list[str]:
        return [node for node, state in states(self.now()).items() if state == "off"]

    def _check_node(self, node: str) -> None:
        if node not in self._lab.nodes:
            raise UsageError(f"the lab {self._directory.name} has no node {node}", hint=near(node, self._lab.nodes))

    def _cables(self, node: str) -> list[str]:
        return [interface.name for interface in self._lab.nodes[node].interfaces if interface.peer]

    def _load(self, rules: Mapping[str, str], fault: Fault, *, new: bool) -> None:
        """Load rules into nodes; where the machine cannot, nothing is left of a `new` fault. One that was there before
        stays on the list, since what it has done already is to be healed."""
        done = []
        try:
            if rules and tools.missing(["nft"]):
                raise MachineError("this machine lacks nft (package nftables)", hint=tools.package_hint(["nft"]))
            for node, text in rules.items():
                self._filter(node, text)
                done.append(node)
        except WirelabError:
            table = (partition.SILENCE, "netdev") if fault.kind == "freeze" else (partition.TABLE, "bridge")
            for node in done:
                self._filter(node, partition.remove(*table))
            if new:
                self._ledger.remove(fault)
            raise

    def _filter(self, node: str, rules: str) -> None:
        result = self._session.run_one(node, ["nft", "-f", "-"], stdin=rules, timeout_s=10, tools=True)
        if result.status != 0:
            said = result.stderr.strip()
            if "not supported" in said:
                raise MachineError(f"this kernel cannot filter at {node}: {said.splitlines()[0]}", hint=_OPTIONS)
            raise CommandFailed(f"cannot change the packet filter of {node}", hint=said[-400:])

    def _continue(self, node: str) -> None:
        with Control(self._directory) as control:
            control.ask("continue", node=node)
        self._filter(node, partition.remove(partition.SILENCE, "netdev"))
        self._ledger.remove(Fault("freeze", node))
        self._ask_anew(self._around([node]))

    def _kill(self, node: str) -> None:
        self._ledger.add(Fault("kill", node))
        with Control(self._directory) as control:
            control.ask("power-off", node=node, interfaces=self._cables(node))
        services = [fault for fault in self.now() if fault.kind == "kill" and fault.target.startswith(f"{node}:")]
        self._ledger.remove(Fault("freeze", node), *services)

    def _restart(self, nodes: Sequence[str], services: Collection[str] = (), *, settle: bool = False) -> list[str]:
        for node in nodes:
            self._kill(node)  # whoever is off already may be half on, if that was interrupted
        faults = self.now()
        running = self._running() if settle else ()
        plan = restart_plan(self._lab, nodes, services, pulled=self._pulled(faults), settle=settle, running=running)
        try:
            late = boot(self._directory, plan)
        except BaseException:
            for node in nodes:
                self._kill(node)
            raise
        for fault in faults:
            if fault.kind == "partition":
                for switch, rules in partition.cut(self._lab, fault.groups).rules.items():
                    if switch in nodes:
                        self._filter(switch, rules)
        self._ledger.remove(*(Fault("kill", node) for node in nodes))
        self._ask_anew(self._around(nodes))
        return late

    def _around(self, nodes: Iterable[str]) -> set[str]:
        """The hosts and routers that are in a network with one of `nodes`, through switches too."""
        interfaces = (interface for node in nodes for interface in self._lab.nodes[node].interfaces)
        segments = {interface.segment for interface in interfaces if interface.segment in self._lab.segments}
        return {node for segment in segments for node, _ in self._lab.segments[segment].members}

    def _ask_anew(self, nodes: Iterable[str]) -> None:
        """Let nodes forget neighbours that they asked for in vain: they would give up on them for seconds more."""
        argv = ("ip", "neighbour", "flush", "nud", "failed", "nud", "incomplete")
        down = states(self.now())
        hosts = [node for node in nodes if self._lab.nodes[node].kind != "switch" and node not in down]
        self._session.run(Job(node, argv, timeout_s=10, tools=True) for node in hosts)

    # Services

    def _service(self, control: Control, target: str) -> Mapping[str, Any]:
        """What is known of the service `target` of a node that runs."""
        found = self._known(control, target)
        node = target.partition(":")[0]
        if state := states(self.now()).get(node):
            word = "continue" if state == "frozen" else "restart"
            raise UsageError(f"{node} is {state}: nothing runs there", hint=self._hint(f"{word} {node}"))
        return found

    def _known(self, control: Control, target: str) -> Mapping[str, Any]:
        services = {f"{entry['node']}:{entry['service']}": entry for entry in control.services()}
        if target not in services:
            raise UsageError(f"no service {target} in the lab {self._directory.name}", hint=near(target, services))
        found: Mapping[str, Any] = services[target]
        return found

    def _kill_service(self, target: str) -> None:
        node, _, name = target.partition(":")
        with self._ledger.held(), Control(self._directory) as control:
            entry = self._service(control, target)
            if entry["running"]:
                if not entry["restart"]:  # what comes back by itself is no lasting fault
                    self._ledger.add(Fault("kill", target))
                control.ask("signal", node=node, service=name, signal=int(signal.SIGKILL), group=True)
                self._wait_for_end(control, target, entry["pid"], _ENDED_S)

    def _wait_for_end(self, control: Control, target: str, pid: int, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while (entry := self._service(control, target))["running"] and entry["pid"] == pid:
            if time.monotonic() > deadline:
                raise CommandFailed(f"{target} does not end")
            time.sleep(0.002)

    def _restart_service(self, target: str) -> list[str]:
        node, _, name = target.partition(":")
        with self._ledger.held():
            with Control(self._directory) as control:
                entry = self._service(control, target)
                self._ledger.add(Fault("kill", target))
                control.ask("end-service", node=node, service=name, signal=int(signal.SIGTERM))
                try:
                    self._wait_for_end(control, target, entry["pid"], _ASKED_S)
                except CommandFailed:
                    control.ask("end-service", node=node, service=name, signal=int(signal.SIGKILL))
                    self._wait_for_end(control, target, entry["pid"], _ENDED_S)
            late = boot(self._directory, restart_plan(self._lab, [], [target]))
            self._ledger.remove(Fault("kill", target))
            return late

    def _running(self) -> set[str]:
        with Control(self._directory) as control:
            return {f"{entry['node']}:{entry['service']}" for entry in control.services() if entry["running"]}

    def failed(self) -> list[str]:
        """The services that ended with something else than success, on nodes that run."""
        off = self._off()
        with Control(self._directory) as control:
            entries = [entry for entry in control.services() if not entry["running"] and not entry["restarting"]]
        return [f"{e['node']}:{e['service']}" for e in entries if e["status"] != 0 and e["node"] not in off]
