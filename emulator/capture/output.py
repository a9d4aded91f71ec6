"""The capture as it is written: one stream, or a ring of files that each can be read alone. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter
from typing import Final

from emulator.capture.outlet import Outlet
from emulator.capture.pcapng import STATISTICS_OCTETS, Writer
from emulator.capture.ring import Arrival
from emulator.errors import CommandFailed, UsageError

_ROOM_MIN: Final = 4096
"""What a file must have room for beside its interfaces, names and figures, in octets."""

_block_of = itemgetter(1)


@dataclass(frozen=True)
class Description:
    """An interface as the file describes it."""

    name: str
    mac: str
    link_type: int


@dataclass(frozen=True)
class Row:
    """The figures of one interface, by its number in the file."""

    number: int
    received: int
    dropped: int


class Output:
    """Writes a capture, at most `limit_octets` to a file.

    All methods raise CommandFailed when it cannot be written, and BrokenPipeError when nobody reads it any more.
    """

    def __init__(
        self, fd: int, *, snaplen: int, limit_octets: int | None = None, open_next: Callable[[], int] | None = None
    ) -> None:
        """Begin the file.

        Args:
            fd: where it goes first; stays open.
            snaplen: octets kept of a packet.
            limit_octets: the size of a file.
            open_next: gives the descriptor of the next file, which is closed here; None when there is to be none.
        """
        self.start_ns = 0
        """When the recording began, nanoseconds since the epoch."""
        self.outlet = Outlet(fd)
        self._writer = Writer(self.outlet)
        self._snaplen = snaplen
        self._limit = limit_octets
        self._open_next = open_next
        self._described: list[Description] = []
        self._names: dict[str, str] = {}
        self._octets_before = 0
        self._fresh = False

    @property
    def octets(self) -> int:
        """Octets written, to all files together."""
        return self._octets_before + self.outlet.written

    def interface(self, description: Description) -> int:
        """Describe an interface, and return its number."""
        self._described.append(description)
        return self._describe(description)

    def _describe(self, each: Description) -> int:
        with _writing():
            return self._writer.interface(each.name, mac=each.mac, link_type=each.link_type, snaplen=self._snaplen)

    def names(self, names: Mapping[str, str]) -> None:
        """Say how addresses are called: address → name."""
        self._names.update(names)
        with _writing():
            self._writer.names(names)

    def flush(self) -> None:
        """Hand on what was written, and see whether the limit leaves room for packets.

        Raises:
            UsageError: it does not.
        """
        with _writing():
            self._writer.flush()
        if self._limit and self._room() < _ROOM_MIN and not self._octets_before:
            count = len(self._described)
            interfaces = "1 interface" if count == 1 else f"{count} interfaces"
            raise UsageError(f"a file of {self._limit:,} octets has no room for the packets of {interfaces}")

    def _room(self) -> int:
        return (self._limit or 0) - self.outlet.written - STATISTICS_OCTETS * len(self._described)

    def packets(self, arrivals: Sequence[Arrival], figures: Callable[[], Sequence[Row]], now_ns: int) -> int:
        """Write packets and hand them on; returns how many: fewer than all when the last file is full.

        Args:
            figures: those of a file that ends here.
            now_ns: the time for these, nanoseconds since the epoch.
        """
        done = 0
        while True:
            part = arrivals[done:]
            fits = len(part)
            if self._limit:
                room = self._room()
                sizes = accumulate(len(block) for _time_ns, block in part)
                fits = next((index for index, size in enumerate(sizes) if size > room), fits)
                if not fits and self._fresh:
                    fits = 1  # larger than a file may be; it would fit into the next one no better
            with _writing():
                self._writer.packets(map(_block_of, part[:fits]))
                self._writer.flush()
            done += fits
            self._fresh = self._fresh and not fits
            if done == len(arrivals) or self._open_next is None:
                return done
            self.statistics(figures(), now_ns)
            self._turn_over(self._open_next)

    def statistics(self, rows: Sequence[Row], now_ns: int) -> None:
        """Write the figures of all interfaces, which end a file."""
        with _writing():
            for row in rows:
                self._writer.statistics(
                    row.number, received=row.received, dropped=row.dropped, start_ns=self.start_ns, end_ns=now_ns
                )
            self._writer.flush()

    def _turn_over(self, open_next: Callable[[], int]) -> None:
        """Begin the next file, which says again what the interfaces and names are."""
        self._octets_before += self.outlet.written
        self.outlet.close()
        with _writing():
            self.outlet = Outlet(open_next(), owned=True)
        self._writer = Writer(self.outlet)
        for description in self._described:
            self._describe(description)
        self.names(self._names)
        with _writing():
            self._writer.flush()
        self._fresh = True

    def close(self) -> None:
        """Give back what was opened here."""
        self.outlet.close()


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandFailed(f"cannot write the capture: {error.strerror or error}") from error
