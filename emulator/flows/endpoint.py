"""One side of a TCP connection: its sequence numbers, and which of its octets are there. Pure.

Numbers of packets that were not captured are told by the acknowledgements of the other side.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from emulator.flows.connection import CLOSED, ESTABLISHED, INACTIVE, PARTIAL, RESET, SYN_ACK_SENT, SYN_SENT

FIN, SYN, RST, ACK = 1, 2, 4, 16

_IMPLAUSIBLE: Final = 1 << 20
"""An RST or SYN this far from the expected sequence number says nothing about how much was sent."""
_HELD_WITHOUT_ACK: Final = 16_384
_HELD_MAX: Final = 10 << 20
_PARTS_MAX: Final = 1024
_M32: Final = 0xFFFFFFFF
_HALF: Final = 1 << 31


def after(a: int, b: int) -> int:
    """How far sequence number `a` is behind `b` on the circle of 2**32: negative when before it."""
    return ((a - b + _HALF) & _M32) - _HALF


class Stream:
    """How much of one side's octets is there without a hole; numbers count from the SYN, which is 0."""

    __slots__ = ("acknowledged", "contiguous", "ended", "given_up", "held")

    def __init__(self) -> None:
        self.contiguous = self.acknowledged = 1
        self.held: list[tuple[int, int]] = []
        self.given_up = False
        self.ended = False

    def add(self, first: int, end: int) -> None:
        """Octets `first` up to, not including, `end` were sent."""
        first = max(first, self.acknowledged)
        if first >= end:
            return
        held = self.held
        if held and first == held[-1][1]:
            held[-1] = (held[-1][0], end)
        elif not held or first > held[-1][1]:
            held.append((first, end))
        else:
            low = bisect_left(held, first, key=lambda part: part[1])
            high = low
            while high < len(held) and held[high][0] <= end:
                first, end = min(first, held[high][0]), max(end, held[high][1])
                high += 1
            held[low:high] = [(first, end)]
        self._advance()

    def _advance(self) -> None:
        for first, end in self.held:
            if first > self.contiguous:
                return
            self.contiguous = max(self.contiguous, end)

    def clear(self) -> None:
        """Do not look for holes any more."""
        self.held.clear()
        self.given_up = True

    def drop(self, upto: int) -> None:
        """Octets before `upto` need not be held any more."""
        held = self.held
        while held and held[0][1] <= upto:
            del held[0]
        if held and held[0][0] < upto:
            held[0] = (upto, held[0][1])
        self.acknowledged = max(self.acknowledged, upto)

    def give_up(self, upto: int) -> list[tuple[int, int]]:
        """Give up what is missing before `upto`, since the receiver has it; returns what was."""
        missing = []
        for first, end in self.held:
            if first >= upto:
                break
            if first > self.contiguous:
                missing.append((self.contiguous, first))
            self.contiguous = max(self.contiguous, end)
        if upto > self.contiguous:
            missing.append((self.contiguous, upto))
            self.contiguous = upto
        return missing


class Endpoint:
    """One side of a connection.

    Attributes:
        state, before: what has been seen of it, and what had been seen before that.
        first: sequence number of its SYN, seen or inferred; last: behind what it sent; ack: what was acknowledged.
        last_turns, ack_turns: how often those went round the circle of 2**32.
        seen: a packet of it was.
        closed: its end was noticed.
        counts: how often what may happen often did, by its letter in the history.
    """

    __slots__ = (
        "_stream", "ack", "ack_turns", "before", "closed", "counts", "fin_end", "fins", "first", "last", "last_fin",
        "last_rst", "last_syn", "last_turns", "seen", "state",
    )  # fmt: skip

    def __init__(self) -> None:
        self.state = self.before = INACTIVE
        self.first = self.last = self.ack = 0
        self.last_turns = self.ack_turns = 0
        self.fins = self.fin_end = 0
        self.last_syn = self.last_fin = self.last_rst = 0
        self.seen = self.closed = False
        self.counts: dict[str, int] | None = None
        self._stream: Stream | None = None

    @property
    def stream(self) -> Stream:
        """Which of its octets are there; made when first asked for, since a scan's connections have none."""
        if self._stream is None:
            self._stream = Stream()
        return self._stream

    def begin(self, first: int, last: int) -> None:
        """The sequence numbers begin here."""
        self.first = self.ack = first
        self.last = last

    @property
    def full_last(self) -> int:
        return (self.last_turns << 32) + self.last

    @property
    def full_ack(self) -> int:
        return (self.ack_turns << 32) + self.ack

    def relative(self, number: int, latest: int, turns: int) -> tuple[int, bool]:
        """`number` counted from the SYN, and whether it lies before it; `latest` is the newest of its kind."""
        ahead = after(number, latest)
        if ahead < 0 and turns and number > latest:
            turns -= 1
        elif ahead > 0 and number < latest:
            turns += 1
        if turns == 0:
            ahead = after(number, self.first)
            return ahead, ahead < 0
        return (turns << 32) + number - self.first, False

    def size(self, peer: Endpoint) -> int:
        """Octets of payload by sequence numbers, those included that were acknowledged but not captured."""
        half_open = self.before == SYN_SENT and self.state == RESET and peer.state == INACTIVE
        if half_open and self.full_ack not in (self.first, self.first + 1):
            return 0
        size = max(self.full_last, self.full_ack) - self.first
        if size:
            size -= 1
        if size and self.fins:
            size -= 1
        return size

    def pending(self, peer: Endpoint) -> bool:
        """Whether octets of this side, or the other's, are known to be missing or not yet acknowledged."""
        stream = self.stream
        if stream.given_up:
            return False
        here = self.first + stream.contiguous
        last = self.full_last
        if last < here:
            return False
        if here not in (last - 1, last):
            return True
        return self.state != RESET and bool(peer.stream.held)

    def take_start(self, flags: int, sequence: int, behind: int) -> None:
        """Begin the sequence numbers at a SYN, or where one must have been."""
        if self.state == INACTIVE:
            if flags & SYN:
                self.begin(sequence, behind)
            else:
                self.begin(sequence - 1 & _M32, sequence)
        elif flags & SYN and (self.state in (ESTABLISHED, PARTIAL) or self._renumbers(sequence)):
            self.begin(sequence, behind)

    def _renumbers(self, sequence: int) -> bool:
        """Whether a SYN counts in place of what was sent before: another SYN, or an RST that was not its own."""
        if self.state == RESET:
            return self.before == INACTIVE
        return self.state in (SYN_SENT, SYN_ACK_SENT) and sequence != self.first

    def take_ack(self, flags: int, ack: int) -> int:
        """Take the other side's acknowledgement; returns it counted from the SYN, 0 when it lies before that."""
        if self.state == INACTIVE:
            self.begin(ack - 1 & _M32, ack - 1 & _M32)
            return 1
        relative, misordered = self.relative(ack, self.ack, self.ack_turns)
        if misordered:
            return 0
        ahead = after(ack, self.ack)
        if not flags & RST and ahead > 0 and not (ack == 0 and ahead > _IMPLAUSIBLE):
            if ack < self.ack:
                self.ack_turns += 1
            self.ack = ack
        return relative

    def take_end(self, flags: int, behind: int, length: int) -> bool:
        """Move on to `behind` what was sent; returns whether it was sent before."""
        ahead = after(behind, self.last)
        if flags & (SYN | RST) and abs(ahead) > _IMPLAUSIBLE:
            return False
        if not (flags & FIN and self.last == self.first + 1 & _M32):
            if self.state == RESET:
                return False
            if ahead <= 0:
                return length > 0
        if behind < self.last:
            self.last_turns += 1
        self.last = behind
        return False

    def hold(self, first: int, length: int, peer: Endpoint) -> None:
        """Keep account of captured octets until they are acknowledged; without acknowledgements, not for ever."""
        stream = self.stream
        behind = first + length
        acknowledged = self.full_ack - self.first
        if stream.given_up or behind <= acknowledged:
            return
        stream.add(max(first, acknowledged), behind)
        if not stream.held:
            return
        if self.full_ack in (self.first, self.first + 1):
            if self.size(peer) > _HELD_WITHOUT_ACK:
                stream.drop(stream.contiguous)
            if stream.held and stream.held[-1][1] - stream.contiguous > _HELD_WITHOUT_ACK:
                stream.clear()
        elif stream.held[-1][1] - stream.held[0][0] > _HELD_MAX or len(stream.held) > _PARTS_MAX:
            stream.clear()

    @property
    def is_clean(self) -> bool:
        """Whether it was established in an orderly way, and has ended so if it has ended."""
        return self.state == ESTABLISHED or (self.state == CLOSED and self.before == ESTABLISHED)
