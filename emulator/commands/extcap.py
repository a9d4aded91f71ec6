"""The program that Wireshark asks for the interfaces of running labs, and lets record them (extcap(4)).

`wirelab wireshark install` puts a small script into Wireshark's folder that calls `main`. Wireshark starts it anew for
each question, so it is the standard library alone, and the script itself answers what needs no look at the labs.
An interface is called `wirelab:LAB` (the whole lab) or `wirelab:LAB:NODE:INTERFACE`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from emulator.errors import UsageError, WirelabError, one_line, render
from emulator.run import runs

VERSION: Final = "1.0"
PREFIX: Final = "wirelab"
_FLAGS: Final = frozenset(("extcap-interfaces", "extcap-dlts", "extcap-config", "capture"))


def main(arguments: Sequence[str]) -> int:
    """Answer Wireshark's question; returns the exit status. Errors go to standard error, which Wireshark shows."""
    asked = read_arguments(arguments)
    try:
        done = _by_deputy(asked, arguments) if "capture" in asked else None
        return _answer(asked) if done is None else done
    except WirelabError as error:
        print(render(error), file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        return 0
    except OSError as error:
        print(f"wirelab: {error.strerror or error}", file=sys.stderr)
        return 1


def _by_deputy(asked: Mapping[str, str], arguments: Sequence[str]) -> int | None:
    from emulator.commands import deputy

    lab, _ = read_interface(asked.get("extcap-interface", ""))
    return deputy.in_lab(lab, deputy.EXTCAP, arguments)


def _answer(asked: Mapping[str, str]) -> int:
    if "extcap-interfaces" in asked:
        _print(interfaces())
    elif "extcap-interface" not in asked:
        raise UsageError("which interface?", hint="this program is for Wireshark: wirelab wireshark install")
    elif "extcap-dlts" in asked:
        print("dlt {number=1}{name=EN10MB}{display=Ethernet}")
    elif "extcap-config" in asked:
        _print(config(asked["extcap-interface"]))
    elif "capture" in asked:
        return _capture(asked)
    elif "extcap-capture-filter" in asked:
        _check_filter(asked["extcap-capture-filter"])
    else:
        raise UsageError("what about it?", hint="this program is for Wireshark: wirelab wireshark install")
    return 0


def _print(lines: Sequence[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def read_arguments(arguments: Sequence[str]) -> dict[str, str]:
    """Name → value of `--name value`, `--name=value` and `--name`. What is not known is for newer Wiresharks: passed
    over. `--nodes` can come several times."""
    found: dict[str, str] = {}
    words = list(arguments)
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            continue
        name, equals, value = word[2:].partition("=")
        if not equals and name not in _FLAGS and words and not words[0].startswith("--"):
            value = words.pop(0)
        found[name] = f"{found[name]},{value}" if name == "nodes" and name in found else value
    return found


def interfaces() -> list[str]:
    """The sentences that list every interface of every running lab of this user, and each whole lab."""
    lines = [f"extcap {{version={VERSION}}}{{display=Wirelab}}"]
    for name in runs.names():
        try:
            facts = runs.facts(runs.directory(name))
        except WirelabError:
            continue  # it is being taken down
        lines.append(f"interface {{value={PREFIX}:{name}}}{{display={_text(name)}: whole lab}}")
        for node, about in facts["nodes"].items():
            for interface in dict.fromkeys((*about["interfaces"], *about.get("bridges", ()))):
                place = f"{node}:{interface}"
                lines.append(f"interface {{value={PREFIX}:{name}:{place}}}{{display={_text(name)}: {_text(place)}}}")
    return lines


def config(value: str) -> list[str]:
    """The sentences for the dialog of an interface: of a whole lab, which nodes to record."""
    lab, place = read_interface(value)
    if place:
        return []
    nodes = runs.facts(runs.directory(lab))["nodes"]
    lines = [
        "arg {number=0}{call=--nodes}{display=Nodes}{type=multicheck}{group=Places}"
        "{tooltip=Record these nodes only; all when none is chosen}"
    ]
    for node, about in nodes.items():
        kind = f"{about['kind']}, {about['about']}" if about.get("about") else about["kind"]
        lines.append(f"value {{arg=0}}{{value={node}}}{{display={_text(node)} ({_text(kind)})}}{{default=false}}")
    return lines


def read_interface(value: str) -> tuple[str, str]:
    """The lab and the place (`node:interface`, or empty for the whole lab) of an interface that we listed.

    Raises:
        UsageError: it is none of ours.
    """
    prefix, _, rest = value.partition(":")
    lab, _, place = rest.partition(":")
    if prefix != PREFIX or not lab:
        raise UsageError(f"'{one_line(value)}' is no interface of a lab", hint="tshark -D lists them")
    return lab, place


def _text(text: str) -> str:
    """`text` as it may stand in a sentence: braces end a value there."""
    return one_line(text).translate({ord("{"): "(", ord("}"): ")"})


def _check_filter(expression: str) -> None:
    """Print why `expression` is no capture filter; nothing when it is one."""
    from emulator.capture.bpf import compile_filter

    try:
        compile_filter(expression)
    except UsageError as error:
        print(one_line(error.message))


def _capture(asked: Mapping[str, str]) -> int:
    """Record onto the pipe until Wireshark ends it, or the lab ends."""
    from emulator.capture.bpf import compile_filter
    from emulator.capture.recorder import Recorder, Settings
    from emulator.commands.capture import follow, stop_signals, summary

    if "fifo" not in asked:
        raise UsageError("where to? --fifo is missing")
    with stop_signals() as wake:
        # The first thing: Wireshark opens its end and waits. When there is an error, it sees the pipe's end.
        pipe = os.open(asked["fifo"], os.O_WRONLY | os.O_CLOEXEC)
        try:
            lab, place = read_interface(asked["extcap-interface"])
            folder = runs.directory(lab)
            nodes = list(runs.facts(folder)["nodes"])
            chosen = [node for node in asked.get("nodes", "").split(",") if node]
            expression = asked.get("extcap-capture-filter", "")
            settings = Settings(live=True, wanted=compile_filter(expression) if expression else None)
            recorder = Recorder(folder, nodes, pipe, [place] if place else chosen, settings)
        finally:
            os.close(pipe)
        try:
            recorder.wait_ready()
            figures = follow(recorder, wake, _tell)
        finally:
            recorder.close()
    if figures.dropped:
        print("\n".join(summary(figures)), file=sys.stderr)
    return 0


def _tell(message: Mapping[str, Any]) -> None:
    if "trouble" in message:
        print(one_line(f"wirelab: {message['trouble']}"), file=sys.stderr)
