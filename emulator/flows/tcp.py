"""What a TCP connection goes through, as an observer sees it who may have missed any packet. Pure.

RFC 9293 says what ends do; an observer needs more: an end is what has been *seen* of it (`connection.py`, the
states), a FIN or RST closes it for the observer at once, and sequence numbers of packets that were not captured are
told by the acknowledgements of the other side. The rules are those of Zeek's TCP analysis, so that states and
counts come out the same.
"""

from __future__ import annotations

from typing import Final, Protocol

from emulator.flows.connection import (
    CLOSED,
    ESTABLISHED,
    INACTIVE,
    PARTIAL,
    RESET,
    SYN_ACK_SENT,
    SYN_SENT,
    Connection,
    is_power_of_ten,
)
from emulator.flows.endpoint import ACK, FIN, RST, SYN, Endpoint
from emulator.flows.ports import INTERACTIVE, LIKELY_TCP_SERVERS

SECOND: Final = 1_000_000_000
INACTIVITY: Final = 300 * SECOND
"""Silence of an established connection after which it is over."""
INTERACTIVE_INACTIVITY: Final = 3600 * SECOND
ATTEMPT_DELAY: Final = 5 * SECOND
"""A SYN without an answer is over after this."""
CLOSE_DELAY: Final = 5 * SECOND
"""After the last FIN, or an RST, this long are packets still those of the closed connection."""
RESET_DELAY: Final = 5 * SECOND
"""The same, for an RST after the same side's FIN."""
CHECK_FIRST: Final = 5 * SECOND
CHECK_AGAIN: Final = 6 * SECOND
LINGER: Final = 5 * SECOND
"""At each check, a connection closed on one side and silent for this long is over if nothing is to be expected."""

_HANDSHAKE: Final = (INACTIVE, SYN_SENT, SYN_ACK_SENT)
_M32: Final = 0xFFFFFFFF


class Timers(Protocol):
    """What the connection asks to be woken for."""

    def check(self, connection: Connection, at: int) -> None:
        """Call `Tcp.expired` then."""

    def attempt(self, connection: Connection, at: int) -> None:
        """End the connection then if the SYN had no answer."""

    def reset(self, connection: Connection, at: int) -> None:
        """End the connection then if it is still active."""

    def delete(self, connection: Connection, at: int) -> None:
        """End the connection then."""


class Tcp:
    """The TCP part of a connection.

    Attributes:
        active: nothing has ended it yet.
        partial: it was joined when it was already under way.
    """

    __slots__ = ("_deferred", "_deferred_tells", "_timers", "active", "connection", "orig", "partial", "resp")

    def __init__(self, connection: Connection, timers: Timers, now: int) -> None:
        self.connection = connection
        self.orig, self.resp = Endpoint(), Endpoint()
        self.active = True
        self.partial = False
        self._timers = timers
        self._deferred = self._deferred_tells = False
        timers.check(connection, now + CHECK_FIRST)

    def flip(self) -> None:
        """The sides change their roles."""
        self.orig, self.resp = self.resp, self.orig
        self.partial = False

    @property
    def over(self) -> bool:
        """Whether both sides have closed."""
        return self.orig.closed and self.resp.closed

    def sizes(self) -> tuple[int, int]:
        """Octets of payload of originator and responder; negative where the sequence numbers make no sense."""
        return self.orig.size(self.resp), self.resp.size(self.orig)

    def begins_anew(self, flags: int, sequence: int) -> bool:
        """Whether a packet belongs to a new connection between the same ports: a SYN that is not this one's."""
        if not flags & SYN:
            return False
        end = self.orig
        if flags & ACK:
            if self.orig.state != INACTIVE:
                return False
            end = self.resp
        if self.over:
            return True
        if sequence == end.first:
            return False
        swapped = not flags & ACK and end.state == SYN_ACK_SENT and self.resp.state == INACTIVE
        return not (swapped and sequence == self.resp.first)

    def packet(
        self, now: int, from_orig: bool, flags: int, sequence: int, ack: int, window: int, length: int, whole: bool
    ) -> None:
        """Take a segment whose checksum is right.

        Args:
            now: its time.
            from_orig: from which side.
            flags: the header's octet of flags; sequence, ack, window: its fields.
            length: octets of payload by the IP header's word.
            whole: whether all of them were captured.
        """
        connection = self.connection
        end, peer = (self.orig, self.resp) if from_orig else (self.resp, self.orig)
        if not end.seen and (from_orig or not self.partial):
            self.partial = not flags & SYN or (from_orig and flags & ACK != 0)
        span = (0 if flags & RST else length) + (flags >> 1 & 1) + (flags & 1)
        behind = sequence + span & _M32
        end.take_start(flags, sequence, behind)
        relative, misordered = end.relative(sequence, end.last, end.last_turns)
        self._history(end, from_orig, flags, relative, length)
        if window == 0 and not flags & RST and peer.state != CLOSED and end.state != RESET:
            self._often(end, "W")
        if not self.over:
            connection.last = now
        if flags & FIN:
            end.fins += 1
            end.fin_end = relative + span
        acknowledged = peer.take_ack(flags, ack) if flags & ACK else 0
        if end.take_end(flags, behind, length):
            self._often(end, "T")
        closes, tells = self._step(now, end, peer, from_orig, flags, sequence, length)
        if flags & ACK:
            self._received(peer, end, acknowledged)
        end.seen = True
        if length and whole and not flags & RST and not misordered:
            end.hold(relative + 1 if flags & SYN else relative, length, peer)
        self._check_end(end, peer)
        if closes:
            self._close(end, peer, tells)

    def _often(self, end: Endpoint, letter: str) -> None:
        """Note what may happen often, at the first, tenth, hundredth … time."""
        if end.counts is None:
            end.counts = {}
        count = end.counts[letter] = end.counts.get(letter, 0) + 1
        if is_power_of_ten(count):
            self.connection.note(letter, end is self.orig)

    def _history(self, end: Endpoint, from_orig: bool, flags: int, relative: int, length: int) -> None:
        note_once = self.connection.note_once
        control = flags & (SYN | FIN | RST)
        if not control:
            if length:
                note_once("D", "D", from_orig)
            elif flags & ACK:
                note_once("A", "A", from_orig)
        elif control == SYN:
            letter = "H" if flags & ACK else "S"
            if note_once("S", letter, from_orig) and relative != end.last_syn:
                self.connection.note(letter, from_orig)
            end.last_syn = relative
        elif control == FIN:
            if note_once("F", "F", from_orig) and relative + length != end.last_fin:
                self.connection.note("F", from_orig)
            end.last_fin = relative + length
        elif control == RST:
            if note_once("R", "R", from_orig) and relative != end.last_rst:
                self.connection.note("R", from_orig)
            end.last_rst = relative
        elif control & FIN and control & RST:
            note_once("I", "I", from_orig)
        else:
            note_once("Q", "Q", from_orig)

    def _step(
        self, now: int, end: Endpoint, peer: Endpoint, from_orig: bool, flags: int, sequence: int, length: int
    ) -> tuple[bool, bool]:
        """Move `end` on; returns whether that closes it, and whether it is a proper end of the connection."""
        if end.state in (ESTABLISHED, PARTIAL):
            if not flags & (SYN | FIN | RST):
                return False, False
            return self._step_established(end, peer, flags)
        if end.state == INACTIVE:
            return self._step_inactive(now, end, peer, from_orig, flags, sequence, length)
        if end.state in (SYN_SENT, SYN_ACK_SENT):
            if flags & FIN:
                self._become(end, peer, CLOSED)
            if flags & RST:
                self._become(end, peer, RESET)
                self.active = False
            return flags & (FIN | RST) != 0, flags & FIN != 0
        if end.state == CLOSED and flags & RST and peer.state != CLOSED:
            self._become(end, peer, RESET)
            self._timers.reset(self.connection, now + RESET_DELAY)
            return not end.closed, False
        return False, False

    def _step_inactive(
        self, now: int, end: Endpoint, peer: Endpoint, from_orig: bool, flags: int, sequence: int, length: int
    ) -> tuple[bool, bool]:
        closes = tells = False
        if flags & SYN:
            if from_orig:
                self._become(end, peer, SYN_ACK_SENT if flags & ACK else SYN_SENT)
                self._timers.attempt(self.connection, now + ATTEMPT_DELAY)
            else:
                if not flags & ACK and peer.state == SYN_ACK_SENT and sequence == end.first:
                    # The SYN was captured behind its SYN/ACK, as two network cards may deliver them.
                    self.connection.flip()
                    self._become(peer, end, ESTABLISHED)
                if peer.state == SYN_SENT:
                    self._become(peer, end, ESTABLISHED)
                self._become(end, peer, ESTABLISHED)
                if peer.state != PARTIAL:
                    self._established()
        if flags & FIN:
            self._become(end, peer, CLOSED)
            closes = tells = True
        if flags & RST:
            refused = peer.state == ESTABLISHED if from_orig else peer.state in (SYN_SENT, SYN_ACK_SENT)
            self._become(end, peer, RESET)
            closes, tells = True, not refused
        if end.state == INACTIVE:
            if not from_orig and length == 0 and peer.state == SYN_SENT:
                pass  # some servers acknowledge a SYN before they answer it
            elif flags & ACK and peer.state == ESTABLISHED:
                self._become(end, peer, ESTABLISHED)  # SYN/ACK and ACK were seen: only the SYN was missed
                self.partial = False
            else:
                self._become(end, peer, PARTIAL)
        return closes, tells

    def _step_established(self, end: Endpoint, peer: Endpoint, flags: int) -> tuple[bool, bool]:
        if flags & SYN and end.state == PARTIAL and peer.state == INACTIVE and not flags & ACK:
            self._become(end, peer, SYN_SENT)
        if flags & RST:
            self._become(end, peer, RESET)
            if peer.state != RESET or peer.before != ESTABLISHED:
                self.active = False
            return True, False
        if flags & FIN:
            self._become(end, peer, CLOSED)
            if peer.state == RESET and peer.before == CLOSED:
                self._become(peer, end, CLOSED)  # FIN, then RST, then the other FIN: an ordinary end
            return True, True
        return False, False

    def _become(self, end: Endpoint, peer: Endpoint, state: int) -> None:
        if state == end.state:
            return
        if state not in _HANDSHAKE and end.state in _HANDSHAKE and peer.state in _HANDSHAKE:
            self.connection.timeout = INACTIVITY
        end.before, end.state = end.state, state

    def _established(self) -> None:
        """Connections of people, not of programs, may be silent for long."""
        connection = self.connection
        port = connection.resp_port
        if (
            self.orig.state == INACTIVE
            and port not in LIKELY_TCP_SERVERS
            and connection.orig_port in LIKELY_TCP_SERVERS
        ):
            port = connection.orig_port
        if port in INTERACTIVE:
            connection.timeout = INTERACTIVE_INACTIVITY

    def _received(self, peer: Endpoint, end: Endpoint, acknowledged: int) -> None:
        """`end` has acknowledged octets of `peer`, counted from the SYN: those before need not be waited for."""
        stream = peer.stream
        if peer.fins and acknowledged >= peer.fin_end > 0:
            acknowledged = peer.fin_end - 1
        if acknowledged <= stream.acknowledged:
            return
        if acknowledged > stream.contiguous and not (acknowledged <= 2 and self.partial):
            for first, behind in stream.give_up(acknowledged):
                if not stream.given_up and end.is_clean and peer.is_clean:
                    self._often(peer, "G")
                    self.connection.missed += behind - first
        stream.drop(acknowledged)
        self._check_end(peer, end)

    def _check_end(self, end: Endpoint, peer: Endpoint) -> None:
        """When everything of `end` has arrived, notice a close that had to wait for it."""
        if not (end.fins or end.state in (CLOSED, RESET)) or end.stream.ended or end.pending(peer):
            return
        end.stream.ended = True
        if self._deferred:
            self._close(end, peer, self._deferred_tells)
            self._deferred = False

    def _close(self, end: Endpoint, peer: Endpoint, tells: bool) -> None:
        if end.pending(peer):
            self._deferred = True
            self._deferred_tells = self._deferred_tells or tells
            return
        self._deferred = False
        if end.closed:
            return
        end.closed = True
        connection = self.connection
        if end.state == RESET or peer.closed or peer.state == INACTIVE:
            if end.before != INACTIVE or peer.state != INACTIVE:
                if tells or self._deferred_tells:
                    self.active = False
                self._deferred_tells = False
            connection.epoch += 1
            self._timers.delete(connection, connection.last + CLOSE_DELAY)
        elif end.before != INACTIVE:
            self._timers.check(connection, connection.last + CHECK_AGAIN)

    def unanswered(self) -> bool:
        """Whether a SYN is all that there is."""
        return self.active and self.orig.state in (SYN_SENT, SYN_ACK_SENT) and self.resp.state == INACTIVE

    def expired(self, now: int) -> bool:
        """Whether, at a check, the connection is over; if not and still active, another check is arranged."""
        if not self.active:
            return False
        orig, resp = self.orig, self.resp
        if self.connection.last + LINGER < now:
            states = (orig.state, resp.state)
            if (orig.closed or resp.closed) and (self.over or RESET in states or INACTIVE in states):
                return True
            if states == (INACTIVE, INACTIVE):
                return True
        self._timers.check(self.connection, now + CHECK_AGAIN)
        return False
