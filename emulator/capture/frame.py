"""A captured frame and its decoded fields. Pure data: no packet library is needed to read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Value = int | float | str | bytes | bool
Direction = Literal["in", "out"]


@dataclass(frozen=True)
class Interface:
    """An interface of a capture: `name` is `node:interface`, `mac` its own address, `dropped` what the kernel lost."""

    name: str
    mac: str = ""
    link_type: int = 1
    received: int | None = None
    dropped: int | None = None


@dataclass(frozen=True)
class Frame:
    """One frame at one interface.

    Attributes:
        number: its place in the capture file, from 1, as Wireshark counts.
        time_ns: nanoseconds since the epoch, by the kernel's clock.
        interface: `node:interface` where it was seen.
        direction: "out" when the node sent it there, "in" when it arrived, None when the file does not say.
        data: the captured octets.
        length: octets on the wire (more than len(data) when the capture was cut).
        fields: field names as Wireshark's display filters write them, each with all its values in order.
        layers: protocols from the outside in: ("eth", "ip", "tcp", "http").
        reencoded: the decoded fields, encoded again, gave exactly `data`.
    """

    number: int
    time_ns: int
    interface: str
    direction: Direction | None
    data: bytes
    length: int
    fields: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)
    layers: tuple[str, ...] = ()
    reencoded: bool | None = None

    def get(self, name: str) -> Value | None:
        """The first value of field `name`, or None when the frame has no such field."""
        values = self.fields.get(name)
        return values[0] if values else None

    def text(self, name: str) -> str:
        """The first value of `name` as text; empty when absent."""
        value = self.get(name)
        return "" if value is None else str(value)

    def number_of(self, name: str) -> int:
        """The first value of `name` as an integer, without its fraction; -1 when absent or not a number."""
        value = self.get(name)
        return int(value) if isinstance(value, int | float) else -1

    @property
    def node(self) -> str:
        """The node at whose interface the frame was seen."""
        return self.interface.partition(":")[0]
