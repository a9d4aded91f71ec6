"""What one check found, before judgement puts the check's name to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from emulator.capture.frame import Frame
from emulator.verify.verdict import Verdict


class MissingEvidenceError(Exception):
    """What a check must look at was not recorded: the verdict is UNKNOWN. Its text is the reason."""


class DisprovedError(Exception):
    """Something that a check takes for granted is not so: the verdict is FAIL. Its text is the reason."""


@dataclass(frozen=True)
class Finding:
    """A verdict with its reason and the numbers of the frames that show it.

    `whole_at` are the places, nodes or node:interface, that must have been recorded without a gap for the verdict to
    hold, because it rests on something not having been seen there; () means all places, None that nothing rests on it.
    """

    verdict: Verdict
    reason: str
    frames: tuple[int, ...] = ()
    whole_at: tuple[str, ...] | None = None

    def if_whole(self, *places: str) -> Finding:
        """The same, provided that the capture at `places` (default: everywhere) has no gap."""
        return replace(self, whole_at=places)


def _numbers(frames: Iterable[Frame]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(frame.number for frame in frames))


def passed(reason: str, frames: Iterable[Frame] = ()) -> Finding:
    """The lab does what it should; `frames` show it."""
    return Finding(Verdict.PASS, reason, _numbers(frames))


def failed(reason: str, frames: Iterable[Frame] = ()) -> Finding:
    """Something wrong was seen in `frames`."""
    return Finding(Verdict.FAIL, reason, _numbers(frames))


def absent(reason: str, *places: str, frames: Iterable[Frame] = ()) -> Finding:
    """Something that was expected was not seen at `places` (none named: anywhere)."""
    return failed(reason, frames).if_whole(*places)
