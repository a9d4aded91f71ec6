"""The command `wirelab`. This module knows the words; the commands' own modules are imported when they are called."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from emulator import __version__
from emulator.errors import EXIT_OK, EXIT_USAGE, RightsLacking, one_line
from emulator.guard import guarded


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"wirelab: {one_line(message)}\n  hint: {self.prog} --help\n")


def _lab(parser: argparse.ArgumentParser, *, running: bool = False, many: bool = False, optional: bool = False) -> None:
    text = "the name of a running lab" if running else "a shipped lab's name, a lab file or its folder"
    argument = parser.add_argument("lab", metavar="LAB", help=text, nargs="*" if many else "?" if optional else None)
    argument.completer = _complete_running if running else _complete_any  # type: ignore[attr-defined]


def _backend(parser: argparse.ArgumentParser, *, binds: bool = True) -> None:
    text = "what nodes are made of where the lab file does not say it: namespaces (default) or containers"
    parser.add_argument("--backend", choices=("netns", "docker"), default="netns", help=text)
    if binds:
        text = "let nodes see the files of this machine that the lab file names"
        parser.add_argument("--allow-binds", action="store_true", help=text)
        text = "let containers have the capabilities that the lab file asks for, also those over this machine"
        parser.add_argument("--allow-caps", action="store_true", help=text)


def _topology(parser: argparse.ArgumentParser) -> None:
    text = (
        "instead of a lab, one that is generated: single,HOSTS  tree,DEPTH,FANOUT  linear,SWITCHES  ring,SWITCHES  "
        "fat-tree,PORTS"
    )
    argument = parser.add_argument("--topology", metavar="KIND,N…", help=text)
    argument.completer = lambda **_: ["single,", "tree,", "linear,", "ring,", "fat-tree,"]  # type: ignore[attr-defined]


def _complete_running(**_: object) -> list[str]:
    from emulator.run import runs

    return runs.names()


def _complete_any(prefix: str, **_: object) -> list[str]:
    from emulator.run import runs

    names = {*runs.names(), *(folder.name for folder in runs.sources())}
    return sorted(names)


def _complete_node(parsed_args: argparse.Namespace, **_: object) -> list[str]:
    from emulator.run import runs

    return list(runs.facts(runs.directory(parsed_args.lab))["nodes"])


def _complete_place(parsed_args: argparse.Namespace, **_: object) -> list[str]:
    from emulator.run import runs

    nodes = runs.facts(runs.directory(parsed_args.lab))["nodes"]
    return [f"{node}:{interface}" for node, facts in nodes.items() for interface in facts["interfaces"]]


def _at_least_one(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, not '{text}'")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, not '{text}'")
    return seconds


def _octets(text: str) -> int:
    factor = {"k": 1_000, "M": 1_000_000, "G": 1_000_000_000}.get(text[-1:], 1)
    digits = text[:-1] if factor > 1 else text
    if not digits.isascii() or not digits.isdigit() or int(digits) < 1:
        raise argparse.ArgumentTypeError(f"expected a size such as 500k, 10M or 2G, not '{text}'")
    return int(digits) * factor


class _Unasked:
    """Stands for a command that is not the one to be read: to describe them all takes longer than many of them."""

    def add_argument(self, *_: Any, **__: Any) -> _Unasked:
        return self

    add_mutually_exclusive_group = set_defaults = add_argument


def parser(only: str | None = None) -> argparse.ArgumentParser:  # noqa: PLR0915 - one statement an argument
    """The whole command line, or, where there is a command `only`, that part of it."""
    top = _Parser(
        prog="wirelab",
        description="Real networks from a lab file, without root, proved by captured packets.",
        epilog="Exit status: 0 done, 1 a check or command failed, 2 wrong usage or lab file, 3 something is missing.",
    )
    top.add_argument("--version", action="version", version=f"wirelab {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser, prog=top.prog)

    def command(name: str, function: str, text: str) -> argparse.ArgumentParser:
        if only not in (None, name):
            return _Unasked()  # type: ignore[return-value]
        made = commands.add_parser(name, help=text, description=text[:1].upper() + text[1:] + ".")
        made.set_defaults(function=function)
        return made

    labs = command("labs", "files:labs", "list the shipped labs")
    labs.add_argument("--json", action="store_true", help="machine-readable")

    up = command("up", "up:up", "bring a lab up")
    _lab(up, optional=True)
    _topology(up)
    up.add_argument("--name", help="name of the instance (default: the lab's name)")
    _backend(up)
    up.add_argument("--json", action="store_true", help="machine-readable")

    down = command("down", "lifecycle:down", "take labs down")
    _lab(down, running=True, many=True)
    down.add_argument("--all", action="store_true", help="every running lab of yours")

    ps = command("ps", "lifecycle:ps", "show running labs; or one lab's nodes, addresses and services")
    _lab(ps, running=True, optional=True)
    ps.add_argument("--all-users", action="store_true", help="root only: the running labs of all users")
    ps.add_argument("--json", action="store_true", help="machine-readable")

    execute = command("exec", "inside:execute", "run a command on a node, or on several at once")
    execute.usage = "wirelab exec [options] LAB NODE -- COMMAND…\n       wirelab exec [options] LAB --all -- COMMAND…"
    _lab(execute, running=True)
    node_help = "its exit status is the command's; several: n1,n2 or 'h*', each line of output with its node's name"
    execute.add_argument("node", metavar="NODE", nargs="?", help=node_help).completer = _complete_node  # type: ignore[attr-defined]
    execute.set_defaults(argv=[])
    execute.add_argument("--all", action="store_true", help="on every node; exit status 1 when it fails on any")
    execute.add_argument("--json", action="store_true", help="machine-readable: status and output of each node")
    execute.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="end the commands after so long")

    shell = command("shell", "inside:shell", "open a shell on a node")
    _lab(shell, running=True)
    shell.add_argument("node", metavar="NODE").completer = _complete_node  # type: ignore[attr-defined]

    verify = command("verify", "proof:verify", "prove labs, layer by layer, from captured packets")
    _lab(verify, many=True)
    verify.add_argument("--all", action="store_true", help="every shipped lab, each in an instance of its own")
    verify.add_argument(
        "--jobs", type=_at_least_one, metavar="N", help="of several labs, so many at a time (default: one a core)"
    )
    verify.add_argument(
        "--pairs", action="store_true", help="test which hosts reach which, not the checks; labs without checks always"
    )
    verify.add_argument(
        "--ip", type=int, choices=(4, 6), help="with --pairs: by this IP version (default: IPv4 where both have it)"
    )
    verify.add_argument("--break", dest="twin", metavar="TWIN", help="break a fresh instance in this way first")
    _backend(verify)
    verify.add_argument("--json", action="store_true", help="machine-readable")
    verify.add_argument("--junit", metavar="FILE", help="write JUnit XML too")
    verify.add_argument("-w", "--write", metavar="FILE", help="keep the capture (pcapng)")
    verify.add_argument(
        "--keep", metavar="DIR", help="keep all of it, capture, outputs, tables and report, in this new folder"
    )
    verify.add_argument("--replay", metavar="DIR", help="judge again what is kept in this folder; needs no lab")

    plan = command("plan", "files:plan", "show what `up` would do")
    _lab(plan, optional=True)
    _topology(plan)
    _backend(plan, binds=False)
    plan.add_argument("--as", dest="form", choices=("text", "json", "sh"), default="text", help="default: text")

    validate = command("validate", "files:validate", "check lab files")
    validate.add_argument("files", metavar="FILE", nargs="+")
    validate.add_argument("--json", action="store_true", help="machine-readable")

    schema = command("schema", "files:schema", "print the JSON Schema of lab files")
    schema.add_argument("--markdown", action="store_true", help="the same as a page to read, with examples")

    capture = command("capture", "capture:capture", "record packets of a running lab until Ctrl-C")
    _lab(capture, running=True)
    places = capture.add_argument(
        "places",
        metavar="PLACE",
        nargs="*",
        help="NODE, NODE:IFACE, or a link, NODE[:IFACE]--NODE[:IFACE], which is both its ends; default: everything",
    )
    places.completer = _complete_place  # type: ignore[attr-defined]
    target = capture.add_mutually_exclusive_group()
    target.add_argument(
        "-w", "--write", metavar="FILE", help="pcapng file, or - for standard output; default: LAB-DATE-TIME.pcapng"
    )
    target.add_argument("--wireshark", action="store_true", help="open Wireshark on what is being recorded")
    capture.add_argument("-f", "--filter", metavar="FILTER", help="capture filter, as tcpdump takes it (pcap-filter)")
    capture.add_argument("--duration", type=_seconds, metavar="SECONDS", help="end after so long")
    capture.add_argument("--count", type=_at_least_one, metavar="N", help="end after so many packets")
    capture.add_argument("--max-size", type=_octets, metavar="SIZE", help="end when the file is full: 500k, 10M, 2G")
    capture.add_argument(
        "--files", type=_at_least_one, metavar="N", help="with --max-size: go on in a further file, keep the last N"
    )

    wireshark = command("wireshark", "wireshark:wireshark", "put running labs into Wireshark's list of interfaces")
    wireshark.add_argument("action", choices=("install", "uninstall"))

    explain = command(
        "explain", "explain:explain", "run a command on a node, or read a capture, and tell what happened on the wire"
    )
    explain.usage = "wirelab explain [options] LAB NODE -- COMMAND…\n       wirelab explain [options] --pcap FILE"
    _lab(explain, running=True, optional=True)
    explain.add_argument("node", metavar="NODE", nargs="?").completer = _complete_node  # type: ignore[attr-defined]
    explain.set_defaults(argv=[])
    explain.add_argument("--pcap", metavar="FILE", help="tell the story of this capture: pcapng or pcap")
    explain.add_argument("--json", action="store_true", help="machine-readable")
    explain.add_argument("--html", metavar="FILE", help="write the story as one page to click through, too")
    explain.add_argument("--follow", action="store_true", help="tell each exchange as soon as it is complete")
    explain.add_argument("-w", "--write", metavar="FILE", help="keep the capture (pcapng)")
    explain.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="end the command after so long")

    link = command("link", "lifecycle:link", "pull a cable or put it back")
    _lab(link, running=True)
    link.add_argument("place", metavar="NODE:IFACE").completer = _complete_place  # type: ignore[attr-defined]
    link.add_argument("state", choices=("up", "down"))

    fault = command("fault", "faults:fault", "break a running lab on purpose, show what is broken, heal it")
    fault.usage = "wirelab fault LAB [ACTION WHAT…] [--json]"
    _lab(fault, running=True)
    fault.add_argument(
        "action",
        nargs="?",
        choices=("unplug", "plug", "freeze", "continue", "kill", "restart", "partition", "heal"),
        help="unplug or plug NODE:IFACE; freeze or continue NODE; kill or restart NODE or NODE:SERVICE; "
        "partition NODE,NODE… [NODE,NODE…]; heal. Without it: list the faults",
    )
    fault.add_argument("what", metavar="WHAT", nargs="*", default=[]).completer = _complete_place  # type: ignore[attr-defined]
    fault.add_argument("--json", action="store_true", help="machine-readable")

    doctor = command("doctor", "machine:doctor", "show what this machine has and lacks")
    doctor.add_argument("--json", action="store_true", help="machine-readable")

    completion = command("completion", "machine:completion", "print the completion code of a shell")
    completion.add_argument("shell", choices=("bash", "zsh", "fish"))
    return top if commands.choices else parser()


def _parse(top: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """The options; of what takes options after the node too, the command behind `--` is put in by hand."""
    place = list(arguments).index("--") if "--" in arguments else 0
    if arguments[:1] == ["exec"] and len(arguments) > 3 and not any(word.startswith("-") for word in arguments[:4]):
        options = top.parse_args(arguments[:3])  # exec LAB NODE COMMAND…
        options.argv = list(arguments[3:])
        return options
    if arguments[:1] in (["explain"], ["exec"]) and place:
        options = top.parse_args(arguments[:place])
        options.argv = list(arguments[place + 1 :])
        return options
    return top.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status and never raises."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser())
    options = _parse(parser(words[0] if words else None), words)
    return guarded(lambda: _call(options, words))


def _call(options: argparse.Namespace, words: Sequence[str]) -> int:
    if getattr(options, "replay", None) is None:  # what was kept is judged without touching any lab
        from emulator.commands import deputy

        if (done := deputy.instead(options, words)) is not None:
            return done
    module, _, name = options.function.partition(":")
    function: Any = getattr(importlib.import_module(f"emulator.commands.{module}"), name)
    try:
        status: int | None = function(options)
    except RightsLacking as error:
        from emulator.commands import deputy

        return deputy.after(error, options, words)
    return EXIT_OK if status is None else status


if __name__ == "__main__":
    sys.exit(main())
