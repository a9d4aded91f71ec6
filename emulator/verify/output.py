"""What the commands of the scenes printed, and how they ended."""

from __future__ import annotations

import re

from emulator.lab.checks.frames import CommandOutput
from emulator.verify.evidence import Output
from emulator.verify.finding import Finding, MissingEvidenceError, failed, passed
from emulator.verify.view import View
from emulator.verify.wording import listed, shown

_NEVER_RAN = (126, 127)
"""Exit statuses of a program that could not be started or was not found (POSIX.1-2017, section 2.8.2 of the shell)."""
_SHOWN_CHARACTERS = 240
_COMMAND_CHARACTERS = 60


def _printed(output: Output) -> str:
    """Standard output, then standard error, each beginning on a line of its own."""
    between = "\n" if output.stdout and output.stderr and not output.stdout.endswith("\n") else ""
    return output.stdout + between + output.stderr


def _tail(text: str) -> str:
    """The end of what was printed, where the result mostly is."""
    text = text.strip()
    if not text:
        return "nothing"
    return shown(text if len(text) <= _SHOWN_CHARACTERS else f"…{text[-_SHOWN_CHARACTERS:]}", _SHOWN_CHARACTERS + 1)


def _ended(output: Output) -> str:
    """How a command ended, in words."""
    if output.status is None:
        return "it was killed because its time was over"
    if output.status < 0:
        return f"signal {-output.status} ended it"
    if output.status in _NEVER_RAN:
        return f"it ended with status {output.status}, which mostly means that the program could not be started"
    return f"it ended with status {output.status}"


def _command(output: Output) -> str:
    """`"ping -c 1 192.0.2.80" on pc1`."""
    return f"{shown(' '.join(output.argv), _COMMAND_CHARACTERS)} on {output.node}"


def _line(text: str, match: re.Match[str]) -> str:
    """The line in which a match begins; of a match over several lines, all of them."""
    start = text.rfind("\n", 0, match.start()) + 1
    end = text.find("\n", max(match.end() - 1, match.start()))
    return text[start : end if end >= 0 else len(text)].strip()


def _has_status(output: Output, wanted: int | str | None) -> bool:
    """Whether a command ended as wanted. With nothing said it may end as it likes, but it must have been started."""
    if wanted is None:
        return output.status not in _NEVER_RAN
    if wanted == "nonzero":
        return output.status is not None and output.status > 0 and output.status not in _NEVER_RAN
    return output.status == wanted


def _judged(check: CommandOutput, view: View, output: Output) -> Finding:
    text = _printed(output)
    said = f"it printed {_tail(text)}"
    if not _has_status(output, check.status):
        expected = "to run" if check.status is None else f"to end with status {check.status}"
        if check.status == "nonzero":
            expected = "to run and to fail with a status other than 0"
        return failed(f"expected {_command(output)} {expected}; {_ended(output)}; {said}")
    if check.lacks and output.status is None:
        return failed(
            f"expected {_command(output)} to end, so that what it does not print is known; {_ended(output)}; {said}"
        )
    found = []
    for pattern in map(view.expand, check.matches):
        match = re.search(pattern, text, re.MULTILINE)
        if match is None:
            return failed(f"expected {_command(output)} to print a match of {shown(pattern)}; {said}; {_ended(output)}")
        found.append(shown(_line(text, match), 80))
    for pattern in map(view.expand, check.lacks):
        match = re.search(pattern, text, re.MULTILINE)
        if match is not None:
            return failed(
                f"expected {_command(output)} to print no match of {shown(pattern)}; it printed "
                f"{shown(_line(text, match), 80)}"
            )
    parts = [f"printed {listed(list(dict.fromkeys(found)))}"] if found else []
    parts += (
        [f"nothing that matches {listed([shown(view.expand(text)) for text in check.lacks])}"] if check.lacks else []
    )
    return passed(f"{_command(output)}: {', '.join([*parts, _ended(output)])}")


def command_output(check: CommandOutput, view: View) -> Finding:
    """On each node where the step ran, its command printed and ended as it should."""
    steps = [step for scene in view.lab.scenes for step in scene.steps if step.id == check.step]
    ran = [output.node for output in view.evidence.outputs if output.step == check.step]
    nodes = [check.on] if check.on else list(dict.fromkeys([*ran, *(node for step in steps for node in step.nodes)]))
    if not nodes:
        raise MissingEvidenceError(f'step "{check.step}" never ran')
    findings = []
    for node in nodes:
        output = view.evidence.output(check.step, node)
        if output is None:
            raise MissingEvidenceError(f'step "{check.step}" never ran on {node}')
        findings.append(_judged(check, view, output))
    for finding in findings:
        if finding.verdict != "pass":
            return finding
    others = nodes[1:]
    return passed(findings[0].reason + (f"; likewise on {listed(others)}" if others else ""))
