"""Checks that are about no protocol in particular: frames that were seen, never seen, or seen in order."""

from __future__ import annotations

from emulator.capture.frame import Frame
from emulator.errors import counted
from emulator.lab.checks.frames import InOrder, NeverSeen, Seen
from emulator.verify.finding import Finding, MissingEvidenceError, absent, failed, passed
from emulator.verify.view import View
from emulator.verify.wording import at, listed, numbers, saw, told


def seen(check: Seen, view: View) -> Finding:
    """Matching frames at each place: exactly `count`, or within the bounds, or at least one."""
    text = view.wanted(check.filter)
    cited: list[Frame] = []
    told_places = []
    for place in check.at:
        found = view.matching(check.filter, view.at(place))
        if not found:
            return view.lacking(f"frames that match {text}", place)
        least, most = check.count or check.at_least or 1, check.count or check.at_most or len(found)
        if not least <= len(found) <= most:
            bounds = "" if check.count else "at least " if len(found) < least else "at most "
            limit = least if len(found) < least else most
            return absent(
                f"expected {bounds}{counted(limit, 'frame')} that match {text} at {place}{view.when}; saw "
                f"{len(found):,}: {numbers(found)}",
                place,
                frames=found,
            )
        told_places.append(f"{numbers(found)} at {place}")
        cited += found
    finding = passed(f"seen {listed(told_places, 4)}: {told(cited[0])}", cited)
    return finding if check.count is None and check.at_most is None else finding.if_whole(*check.at)


def never_seen(check: NeverSeen, view: View) -> Finding:
    """No matching frame at any place. Places that saw nothing at all prove nothing: some of them must have seen "
    "frames."""
    frames = view.at(*check.at)
    found = view.matching(check.filter, frames)
    if found:
        return failed(
            f"expected no frame that matches {view.wanted(check.filter)}; {at(found[0])} does ({told(found[0])}), "
            f"{counted(len(found), 'frame')} in all",
            found,
        )
    if not frames:
        raise MissingEvidenceError(f"{listed(check.at)} saw no frame at all{view.when}, so nothing can be said of them")
    silent = [place for place in check.at if not view.at(place)]
    tail = f"; {listed(silent)} saw none" if silent else ""
    return passed(f"never at {listed(check.at, 12)} among {counted(len(frames), 'frame')}{tail}").if_whole(*check.at)


def in_order(check: InOrder, view: View) -> Finding:
    """One frame after the other at one interface, each matching its filter; others may come between."""
    frames = view.at(check.at)
    chain: list[Frame] = []
    for text in check.filters:
        after = chain[-1].number if chain else 0
        following = [frame for frame in frames if frame.number > after]
        found = view.matching(text, following)
        if not found:
            place = f"after {at(chain[-1])}" if chain else f"at {check.at}"
            return absent(
                f"expected a frame that matches {view.wanted(text)} {place}{view.when}; {saw(following)}",
                check.at,
                frames=chain,
            )
        chain.append(found[0])
    steps = [f"{told(frame)} (frame {frame.number})" for frame in chain]
    return passed(f"in this order at {check.at}: {listed(steps, 6)}", chain)
