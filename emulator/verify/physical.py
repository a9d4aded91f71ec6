"""The physical layer: cables that carry frames both ways, octets, frame sizes, checksums."""

from __future__ import annotations

from collections import Counter

from emulator.capture.frame import Frame
from emulator.errors import counted
from emulator.lab.checks.frames import Checksums, LinksCarry, ReEncode, WithinMtu
from emulator.lab.resolved import Interface
from emulator.verify.finding import Finding, MissingEvidenceError, absent, failed, passed
from emulator.verify.view import View
from emulator.verify.wording import at, listed, numbers, told

_ETHERNET_OCTETS = 14
_VLAN_TAG_OCTETS = 4
_LOOPBACK = "lo"
_BAD, _GOOD = 0, 1
_CHECKSUMS = {"IPv4": ("ip", None), "TCP": ("tcp", 6), "UDP": ("udp", 17), "ICMP": ("icmp", 1)}


def _silence(view: View, sender: Interface, receiver: Interface) -> str | None:
    """What is wrong with one direction of a cable, or None when it carried frames."""
    sent, arrived = view.at(sender.place), view.at(receiver.place)
    if any(frame.direction is None for frame in (*sent, *arrived)):
        raise MissingEvidenceError(
            f"the capture does not say which way frames went at {sender.place} or {receiver.place}"
        )
    if not any(frame.direction == "out" for frame in sent):
        return f"{sender.place} → {receiver.place} carried nothing"
    if not any(frame.direction == "in" for frame in arrived):
        return f"{sender.place} → {receiver.place}: frames were sent and none arrived"
    return None


def links_carry(_check: LinksCarry, view: View) -> Finding:
    """Every cable carried at least one frame in each direction."""
    silent = [
        wrong
        for link in view.lab.links
        for sender, receiver in ((link.a, link.b), (link.b, link.a))
        if (wrong := _silence(view, sender, receiver)) is not None
    ]
    total = len(view.lab.links)
    if silent:
        return absent(f"expected frames both ways on {counted(total, 'link')}; {listed(silent)}{view.when}")
    if not total:
        return failed("expected frames on the links; the lab has no links")
    return passed(f"{counted(total, 'link')} carried frames both ways ({counted(len(view.frames), 'frame')} captured)")


def re_encode(_check: ReEncode, view: View) -> Finding:
    """Fields taken from octets, put together again, are the same octets."""
    wrong = [frame for frame in view.frames if frame.reencoded is False]
    if wrong:
        places = listed([f"{at(frame)} ({told(frame)})" for frame in wrong])
        return failed(
            f"expected every frame to be encoded from its fields to the captured octets; not so {places}", wrong
        )
    if not view.frames:
        return absent("expected frames to take apart; none were captured" + view.when)
    unknown = [frame for frame in view.frames if frame.reencoded is None]
    if unknown:
        raise MissingEvidenceError(f"{numbers(unknown)} could not be taken apart into fields")
    distinct = {frame.data for frame in view.frames}
    return passed(
        f"{counted(len(distinct), 'different frame')} ({sum(map(len, distinct)) * 8:,} bits) taken apart into fields "
        "and encoded again: the same bits"
    ).if_whole()


def _on_a_link(frame: Frame) -> bool:
    """Whether a frame was on a link and not on loopback, where the kernel neither fills in checksums nor keeps to the
    MTU of a link (its own is 65,536 octets)."""
    return frame.interface.partition(":")[2] != _LOOPBACK


def _payload_octets(frame: Frame) -> int:
    """How much of the frame the MTU limits: all but the Ethernet header (RFC 894) and VLAN tags."""
    return frame.length - _ETHERNET_OCTETS - _VLAN_TAG_OCTETS * len(frame.fields.get("vlan.id", ()))


def within_mtu(_check: WithinMtu, view: View) -> Finding:
    """No frame carries more octets than the MTU of its interface; loopback is left out."""
    mtu = {interface.place: interface.mtu_bytes for interface in view.lab.interfaces()}
    frames = [frame for frame in view.frames if frame.interface in mtu and _on_a_link(frame)]
    large = [frame for frame in frames if _payload_octets(frame) > mtu[frame.interface]]
    if large:
        first = large[0]
        return failed(
            f"expected at most {mtu[first.interface]} octets in a frame at {first.interface}; frame {first.number} "
            f"carries {_payload_octets(first)}, {counted(len(large), 'such frame')} in all",
            large,
        )
    if not frames:
        return absent("expected frames to measure; none were captured" + view.when)
    largest = max(frames, key=_payload_octets)
    return passed(
        f"{counted(len(frames), 'frame')} within the MTU; the largest carries {_payload_octets(largest)} of "
        f"{mtu[largest.interface]} octets ({at(largest)})",
        [largest],
    ).if_whole()


def checksums(_check: Checksums, view: View) -> Finding:
    """No checksum is wrong. One that could not be verified counts neither way; loopback is left out."""
    good: Counter[str] = Counter()
    wrong: list[tuple[str, Frame]] = []
    unverified = 0
    for frame in filter(_on_a_link, view.frames):
        for name, (field, protocol) in _CHECKSUMS.items():
            status = frame.number_of(f"{field}.checksum.status")
            if status < 0 or (protocol is not None and frame.number_of("ip.proto") not in (protocol, -1)):
                continue
            good[name] += status == _GOOD
            unverified += status not in (_BAD, _GOOD)
            if status == _BAD:
                wrong.append((name, frame))
    if wrong:
        places = listed([f"{name} in {at(frame)}" for name, frame in wrong])
        return failed(f"expected right checksums; wrong: {places}", [frame for _, frame in wrong])
    if not good.total():
        return absent("expected packets with checksums; saw none that could be verified" + view.when)
    kinds = ", ".join(f"{name} {count:,}" for name, count in good.items() if count)
    tail = f"; {unverified:,} could not be verified" if unverified else ""
    return passed(f"{counted(good.total(), 'checksum')} right ({kinds}){tail}").if_whole()
