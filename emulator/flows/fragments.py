"""Fragments put together to the datagrams that they were (RFC 791 3.2, RFC 8200 4.5). Pure, within limits."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from emulator.flows.packets import Datagram

TIMEOUT: Final = 300 * 1_000_000_000
"""Nanoseconds to wait for the missing pieces."""
PENDING_MAX: Final = 4096
"""Datagrams in pieces at a time; the oldest makes room."""
_PENDING_OCTETS_MAX: Final = 64 << 20
_WHOLE_MAX: Final = 65_535

_Key = tuple[bytes, bytes, int, int]


class _Pieces:
    """The pieces of one datagram, in order and without overlap: what came first stays."""

    __slots__ = ("born", "end", "first", "octets", "offsets", "parts")

    def __init__(self, born: int) -> None:
        self.born = born
        self.offsets: list[int] = []
        self.parts: list[bytes] = []
        self.octets = 0
        self.end = 0
        self.first: Datagram | None = None

    def add(self, offset: int, part: bytes) -> None:
        """Keep of `part` what is new."""
        while part:
            place = bisect_right(self.offsets, offset)
            if place:
                covered = self.offsets[place - 1] + len(self.parts[place - 1]) - offset
                if covered > 0:
                    offset, part = offset + covered, part[covered:]
                    continue
            room = self.offsets[place] - offset if place < len(self.offsets) else len(part)
            self.offsets.insert(place, offset)
            self.parts.insert(place, part[:room])
            self.octets += min(room, len(part))
            offset, part = offset + room, part[room:]

    def whole(self) -> bytes | None:
        """The payload, once there is no hole from its beginning to its end."""
        if not self.end or self.octets < self.end:
            return None
        at = 0
        for offset, part in zip(self.offsets, self.parts, strict=True):
            if offset > at:
                break
            at = offset + len(part)
        return b"".join(self.parts)[:at] if at >= self.end else None


class Fragments:
    """Datagrams of which pieces are still missing."""

    def __init__(self) -> None:
        self._pending: dict[_Key, _Pieces] = {}
        self._octets = 0

    def __len__(self) -> int:
        return len(self._pending)

    def add(self, now: int, fragment: Datagram) -> bytes | None:
        """Take a fragment that was captured whole; returns the datagram as octets when it was the last one missing."""
        key = (fragment.source, fragment.destination, fragment.identification, fragment.version)
        pieces = self._pending.get(key)
        if pieces is not None and now - pieces.born >= TIMEOUT:
            self._forget(key)
            pieces = None
        if pieces is None:
            pieces = self._pending[key] = _Pieces(now)
        if not fragment.offset or pieces.first is None:
            pieces.first = fragment
        end = fragment.offset + fragment.size
        if not fragment.more or (pieces.end and end > pieces.end):
            pieces.end = max(pieces.end, end)
        before = pieces.octets
        pieces.add(fragment.offset, fragment.data[fragment.payload : fragment.payload + fragment.size])
        self._octets += pieces.octets - before
        whole = pieces.whole()
        if whole is not None and pieces.first is not None:
            self._forget(key)
            return _datagram(pieces.first, whole)
        while len(self._pending) > PENDING_MAX or self._octets > _PENDING_OCTETS_MAX:
            self._forget(next(iter(self._pending)))
        return None

    def _forget(self, key: _Key) -> None:
        self._octets -= self._pending.pop(key).octets


def _datagram(first: Datagram, payload: bytes) -> bytes | None:
    """A datagram with the header of the first fragment, which says that it is whole; None when it is too long."""
    if first.version == 4:
        header = bytearray(first.data[first.start : first.payload])
        header[2:4] = min(len(header) + len(payload), _WHOLE_MAX).to_bytes(2)
        header[6:8] = b"\0\0"
    else:
        header = bytearray(first.data[first.start : first.payload - 8])
        header[first.carried_by - first.start] = first.protocol
        header[4:6] = min(len(header) - 40 + len(payload), _WHOLE_MAX).to_bytes(2)
    return bytes(header) + payload if len(header) + len(payload) <= _WHOLE_MAX + 40 else None
