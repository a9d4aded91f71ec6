"""`wirelab down`, `ps` and `link`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.errors import UsageError, counted, one_line, printable, render
from emulator.run import fault_file, runs
from emulator.run.control import PATIENCE_S, Control, LabGone, LabSilent

if TYPE_CHECKING:
    from emulator.run.engine import Remains

LOG_LINES = 8
LOG_OCTETS = 8192
"""How much of its log `ps` shows of a service that has ended."""


def down(options: argparse.Namespace) -> int:
    """Take labs down."""
    from emulator.commands.progress import progress
    from emulator.events import Event

    if options.all and options.lab:
        raise UsageError("`--all` is every running lab: no LAB goes with it", hint="wirelab down --all")
    if not options.all and not options.lab:
        raise UsageError("which lab?", hint="wirelab down LAB…, or wirelab down --all")
    from emulator.run import deputy, engine  # here, since `up` has no use for them

    runs.tidy()  # what a killed `down` had begun to remove has no name any more by which it could be asked for
    told: list[str] = []
    left = engine.remains(engine.ASK_S, told.append)
    _tell(told)
    lost = {found.name for found in left}
    names = runs.names()
    wanted = list(dict.fromkeys([*names, *sorted(lost)])) if options.all else options.lab
    folders = [runs.directory(name) for name in wanted if name in names or name not in lost]
    for number, folder in enumerate(folders):
        holder = deputy.of_lab(folder)
        with progress() as bus:  # wiped before the next line is printed
            total = len(folders) if len(folders) > 1 else 0
            bus.emit(Event("down", f"{folder.name}: waiting for the kernel", number, total))
            runs.stop(folder)
            if holder:
                engine.wait_gone(holder)
        print(f"{folder.name} is down")
    if folders and not told:  # again: a lab whose keeper was killed leaves its own only now
        left = engine.remains()
    for found in left:
        if found.name in wanted:
            engine.clear(found)
            print(f"{found.name}: {counted(len(found.ids), 'container')} that it left behind removed")
    runs.tidy()
    return 0


def ps(options: argparse.Namespace) -> int:
    """Show running labs, or one, or those of everybody."""
    if options.all_users:
        return _ps_everyone(options)
    runs.tidy()
    if options.lab is not None:
        return _ps_one(options.lab, as_json=options.json)
    rows = [row for row in (_summary(name) for name in runs.names()) if row]
    rows += [_left_behind(found) for found in _remains()]
    if options.json:
        print(json.dumps(rows))
        return 0
    if not rows:
        print("no lab is running", file=sys.stderr)
        return 0
    broken = any(row["faults"] for row in rows)
    table = [["NAME", "LAB", "NODES", "SERVICES", "UP", *(["FAULTS"] if broken else [])]]
    for row in rows:
        if row["left_behind"]:
            text = f"has ended, but left {counted(row['left_behind'], 'container')}: wirelab down {row['name']}"
            table.append([row["name"], "-", str(row["nodes"]), text, "-", *([""] if broken else [])])
            continue
        bad = [f"{service['service']} on {service['node']} {ending(service)}" for service in row["failed"]]
        state = f"{row['services']} running" + (f"; {'; '.join(bad)}" if bad else "")
        faults = ["; ".join(fault["text"] for fault in row["faults"])] if broken else []
        table.append([row["name"], row["lab"], str(row["nodes"]), state, _age(row["started"]), *faults])
    _print_table(table)
    return 0


def _ps_everyone(options: argparse.Namespace) -> int:
    """The labs of all users, for root."""
    from emulator.run import everyone

    if options.lab is not None:
        raise UsageError("`--all-users` shows all labs: no LAB goes with it", hint="wirelab ps --all-users")
    rows, troubles = everyone.labs()
    for trouble in troubles:
        print(one_line(f"wirelab: {trouble}"), file=sys.stderr)
    if options.json:
        print(json.dumps(rows))
        return 0
    if not rows:
        print("no lab is running", file=sys.stderr)
        return 0
    table = [["USER", "NAME", "LAB", "NODES", "SERVICES", "UP", "PID"]]
    for row in rows:
        state = f"{row['services']} running" + (f", {row['failed']} ended" if row["failed"] else "")
        words = [row["user"], row["name"], row["lab"], str(row["nodes"]), state, _age(row["started"]), str(row["pid"])]
        table.append([one_line(word) for word in words])
    _print_table(table)
    return 0


def _summary(name: str) -> dict[str, Any] | None:
    try:
        folder = runs.directory(name)
        facts = runs.facts(folder)
        with Control(folder, PATIENCE_S) as control:
            services = control.services()
    except LabSilent as error:
        print(render(error), file=sys.stderr)
        return None
    except (UsageError, LabGone):
        return None
    faults = fault_file.read(folder)
    down = fault_file.states(faults)
    failed = [entry for entry in services if not entry["running"] and down.get(entry["node"]) != "off"]
    return {
        "name": name,
        "lab": facts["lab"],
        "source": facts["source"],
        "started": facts["started"],
        "nodes": len(facts["nodes"]),
        "services": sum(service["running"] for service in services),
        "failed": [{**entry, "log": _last_lines(folder, entry)} for entry in failed],
        "faults": [fault.as_json() for fault in faults],
        "left_behind": 0,
    }


def _remains() -> list[Remains]:
    """Containers of labs that have ended; the engine is asked only where there is one."""
    from emulator.run import engine

    told: list[str] = []
    found = engine.remains(engine.ASK_S, told.append)
    _tell(told)
    return found


def _tell(texts: list[str]) -> None:
    for text in texts:
        print(f"wirelab: {text}", file=sys.stderr)


def _left_behind(found: Remains) -> dict[str, Any]:
    none: dict[str, Any] = {"lab": None, "source": None, "started": None, "services": 0, "failed": [], "faults": []}
    return {"name": found.name, **none, "nodes": len(found.nodes), "left_behind": len(found.ids)}


def _ps_one(name: str, *, as_json: bool) -> int:
    folder = runs.directory(name)
    facts = runs.facts(folder)
    with Control(folder, PATIENCE_S) as control:
        services = control.services()
    live = _leased_addresses(folder, facts)
    faults = fault_file.read(folder)
    down = fault_file.states(faults)
    nodes = []
    for node, known in facts["nodes"].items():
        own = [
            service if service["running"] else {**service, "log": _last_lines(folder, service)}
            for service in services
            if service["node"] == node
        ]
        for interface, details in known["interfaces"].items():
            details["addresses"] = [] if down.get(node) == "off" else live.get((node, interface), details["addresses"])
        nodes.append({"name": node, "state": down.get(node, "running"), **known, "services": own})
    if as_json:
        about = {"name": name, "lab": facts["lab"], "started": facts["started"]}
        print(json.dumps({**about, "nodes": nodes, "faults": [fault.as_json() for fault in faults]}))
        return 0
    _print_nodes(nodes, with_state=bool(down))
    for service in (service for node in nodes if node["state"] != "off" for service in node["services"]):
        if not service["running"]:
            _print_end(service)
    if faults:
        print(f"\nfaults (wirelab fault {name} heal takes them back):")
        for fault in faults:
            print(printable(f"    {fault.describe()}"))
    return 0


def _print_nodes(nodes: list[dict[str, Any]], *, with_state: bool) -> None:
    table = [["NODE", "KIND", *(["STATE"] if with_state else []), "INTERFACE", "ADDRESS", "SERVICES"]]
    for entry in nodes:
        states = [_service_state(service) for service in entry["services"]] if entry["state"] != "off" else []
        first = True
        for interface, details in entry["interfaces"].items() if entry["kind"] != "switch" else [("", {})]:
            addresses = ", ".join(details.get("addresses", ())) or ("-" if interface else "")
            cells = [entry["name"], entry["kind"], *([entry["state"]] if with_state else [])]
            cells = cells if first else [""] * len(cells)
            table.append([*cells, interface, addresses, ", ".join(states) if first else ""])
            first = False
    _print_table(table)


def _service_state(service: dict[str, Any]) -> str:
    again = service["restarts"]
    if service["running"]:
        return (
            f"{service['service']} (restarted {again} time{'' if again == 1 else 's'})" if again else service["service"]
        )
    return f"{service['service']} {ending(service)}{', restarting' if service['restarting'] else ''}"


def _print_end(service: dict[str, Any]) -> None:
    """How a service ended, and what it said last."""
    when = time.strftime("%H:%M:%S", time.localtime(service["ended"]))
    again = f" after {counted(service['restarts'], 'restart')}" if service["restarts"] else ""
    said = "; it said last:" if service["log"] else "; it said nothing"
    print(printable(f"\n{service['service']} on {service['node']} {ending(service)} at {when}{again}{said}"))
    for line in service["log"]:
        print(one_line(f"    {line}"))


def _last_lines(folder: Path, service: dict[str, Any]) -> list[str]:
    """The end of what a service said."""
    try:
        with open(folder / "log" / f"{service['node']}-{service['service']}.log", "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - LOG_OCTETS))
            text = log.read(LOG_OCTETS).decode(errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-LOG_LINES:]


def _leased_addresses(folder: Any, facts: dict[str, Any]) -> dict[tuple[str, str], list[str]]:
    """Addresses of interfaces that are configured by DHCP, asked from the nodes themselves."""
    from emulator.run.session import Job, Session

    clients = [
        (node, name)
        for node, known in facts["nodes"].items()
        for name, details in known["interfaces"].items()
        if details["dhcp"]
    ]
    if not clients:
        return {}
    with Session(folder) as session:
        jobs = [Job(node, ("ip", "-json", "-4", "address", "show", "dev", name), timeout_s=5) for node, name in clients]
        results = session.run(jobs)
    return {
        client: [
            f"{address['local']}/{address['prefixlen']}"
            for link in json.loads(result.stdout or "[]")
            for address in link.get("addr_info", ())
        ]
        for client, result in zip(clients, results, strict=True)
    }


def link(options: argparse.Namespace) -> int:
    """Pull a cable or put it back."""
    from emulator import controller

    lab = controller.attach(options.lab)
    try:
        lab.set_cable(options.place, plugged=options.state == "up")
    finally:
        lab.close()
    print(f"{options.place}: the cable is {'plugged in' if options.state == 'up' else 'pulled'}")
    return 0


def ending(service: dict[str, Any]) -> str:
    """How a service ended, in words."""
    status = service["status"]
    return f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"


def _age(started: float) -> str:
    seconds = max(0, int(time.time() - started))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _print_table(rows: list[list[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print(one_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip())
