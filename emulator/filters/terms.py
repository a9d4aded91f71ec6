"""The parts of a parsed filter, and whether a frame passes them."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from ipaddress import ip_address, ip_network
from typing import Protocol

from emulator.filters.fields import KNOWN_FIELDS, FieldType

Value = int | float | str | bytes | bool
_NUMBER_OCTETS = 16
_ORDER: Mapping[str, Callable[[bytes, Span], bool]] = {
    "<": lambda octets, span: octets < span.low,
    ">": lambda octets, span: octets > span.high,
    "<=": lambda octets, span: octets <= span.high,
    ">=": lambda octets, span: octets >= span.low,
}
_MAC = re.compile(r"[0-9A-Fa-f]{2}(?:([:-])[0-9A-Fa-f]{2})(?:\1[0-9A-Fa-f]{2}){4}")
_HEX = re.compile(r"[0-9A-Fa-f]{2}(?:[:.-][0-9A-Fa-f]{2})*")
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]+|[0-9]+")
_DECIMAL = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}Z")


class Packet(Protocol):
    """What a filter needs to see of a frame."""

    @property
    def fields(self) -> Mapping[str, tuple[Value, ...]]: ...
    @property
    def layers(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Span:
    """Values from `low` to `high`, as octets whose order is the order of the values."""

    low: bytes
    high: bytes

    def __contains__(self, octets: bytes) -> bool:
        return self.low <= octets <= self.high


def _from_number(number: int) -> bytes:
    """`number` as octets that sort as the number does."""
    return min(max(number, 0), (1 << 8 * _NUMBER_OCTETS) - 1).to_bytes(_NUMBER_OCTETS, "big")


def _from_decimal(number: float) -> bytes:
    """`number` as octets that sort as the number does: those of IEEE 754, as none is below zero."""
    return struct.pack("!d", min(max(number, 0), 1 << 64) + 0.0)


def _from_value(kind: FieldType, value: Value) -> bytes | None:
    """A frame's value as octets that sort as the values of `kind` do; None when it is no such value."""
    if kind in (FieldType.TEXT, FieldType.OCTETS):
        return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
    if kind is FieldType.DECIMAL:
        return _from_decimal(value) if isinstance(value, int | float) else None
    if isinstance(value, int):
        return _from_number(value)
    if isinstance(value, float | bytes):
        return None
    if kind is FieldType.MAC:
        return bytes.fromhex(re.sub("[:-]", "", value)) if _MAC.fullmatch(value) else None
    try:
        return _from_number(int(ip_address(value)))
    except ValueError:
        return None


@dataclass(frozen=True)
class Operand:
    """A value as it was written in a filter."""

    text: str
    quoted: bool = False

    def __str__(self) -> str:
        if not self.quoted:
            return self.text
        return '"' + "".join(_escaped(character) for character in self.text) + '"'

    def octets(self) -> bytes:
        """The value as text or octets."""
        if not self.quoted and _HEX.fullmatch(self.text) and len(self.text) > 2:
            return bytes.fromhex(re.sub("[:.-]", "", self.text))
        return self.text.encode("utf-8", "surrogateescape")

    def span(self, kind: FieldType) -> Span:
        """What the value means for a field of `kind`; ValueError when it means nothing there."""
        if kind is FieldType.TEXT:
            octets = self.text.encode("utf-8", "surrogateescape")
            return Span(octets, octets)
        if kind is FieldType.OCTETS:
            return Span(self.octets(), self.octets())
        low, dots, high = self.text.partition("..")
        if dots:
            return Span(Operand(low).span(kind).low, Operand(high).span(kind).high)
        if kind is FieldType.NUMBER and _NUMBER.fullmatch(self.text):
            number = int(self.text, 16 if self.text[:2] in ("0x", "0X") else 10)
            return Span(_from_number(number), _from_number(number))
        if kind is FieldType.DECIMAL and _DECIMAL.fullmatch(self.text):
            octets = _from_decimal(float(self.text))
            return Span(octets, octets)
        if kind is FieldType.TIME and self.quoted and _TIME.fullmatch(self.text):
            octets = _from_number(int(datetime.fromisoformat(self.text).timestamp()))
            return Span(octets, octets)
        if kind is FieldType.FLAG and self.text.lower() in ("0", "1", "true", "false"):
            octets = _from_number(int(self.text.lower() in ("1", "true")))
            return Span(octets, octets)
        if kind is FieldType.MAC and _MAC.fullmatch(self.text):
            return Span(self.octets(), self.octets())
        if kind in (FieldType.ADDRESS4, FieldType.ADDRESS6):
            network = ip_network(self.text, strict=False)
            if network.version == (4 if kind is FieldType.ADDRESS4 else 6):
                return Span(_from_number(int(network[0])), _from_number(int(network[-1])))
        raise ValueError(self.text)


def _escaped(character: str) -> str:
    code = ord(character)
    if character in '"\\':
        return "\\" + character
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x20 or code == 0x7F else character


class Expression(Protocol):
    """A part of a filter."""

    def matches(self, packet: Packet) -> bool: ...
    def names(self) -> frozenset[str]: ...


@dataclass(frozen=True)
class Present:
    """The frame has the field, or the protocol."""

    name: str

    def matches(self, packet: Packet) -> bool:
        return self.name == "frame" or self.name in packet.layers or bool(packet.fields.get(self.name))

    def names(self) -> frozenset[str]:
        return frozenset({self.name})

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Compare:
    """A field against one value."""

    field: str
    operator: str
    operand: Operand

    @cached_property
    def _span(self) -> Span:
        return self.operand.span(KNOWN_FIELDS[self.field])

    def _holds(self, octets: bytes) -> bool:
        if self.operator == "contains":
            return self.operand.octets() in octets
        return octets in self._span if self.operator in ("==", "!=") else _ORDER[self.operator](octets, self._span)

    def matches(self, packet: Packet) -> bool:
        kind = KNOWN_FIELDS[self.field]
        values = [_from_value(kind, value) for value in packet.fields.get(self.field, ())]
        held = any(octets is not None and self._holds(octets) for octets in values)
        return bool(values) and not held if self.operator == "!=" else held

    def names(self) -> frozenset[str]:
        return frozenset({self.field})

    def __str__(self) -> str:
        return f"{self.field} {self.operator} {self.operand}"


@dataclass(frozen=True)
class Member:
    """A field against a set of values and ranges."""

    field: str
    operands: tuple[Operand, ...]

    def matches(self, packet: Packet) -> bool:
        return any(Compare(self.field, "==", operand).matches(packet) for operand in self.operands)

    def names(self) -> frozenset[str]:
        return frozenset({self.field})

    def __str__(self) -> str:
        return f"{self.field} in {{{', '.join(map(str, self.operands))}}}"


@dataclass(frozen=True)
class Not:
    """The opposite."""

    part: Expression

    def matches(self, packet: Packet) -> bool:
        return not self.part.matches(packet)

    def names(self) -> frozenset[str]:
        return self.part.names()

    def __str__(self) -> str:
        return f"!({self.part})"


@dataclass(frozen=True)
class Junction:
    """Parts joined by `&&` (all hold) or `||` (any holds)."""

    operator: str
    parts: tuple[Expression, ...]

    def matches(self, packet: Packet) -> bool:
        held = (part.matches(packet) for part in self.parts)
        return all(held) if self.operator == "&&" else any(held)

    def names(self) -> frozenset[str]:
        return frozenset[str]().union(*(part.names() for part in self.parts))

    def __str__(self) -> str:
        parts = (f"({part})" if isinstance(part, Junction) else str(part) for part in self.parts)
        return f" {self.operator} ".join(parts)


@dataclass(frozen=True)
class _Fields:
    fields: Mapping[str, tuple[Value, ...]]
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Filter:
    """A parsed filter; its text form parses to the same filter."""

    expression: Expression

    @property
    def fields(self) -> frozenset[str]:
        """The names of fields and protocols that the filter uses."""
        return self.expression.names()

    def matches(self, fields: Mapping[str, tuple[Value, ...]], layers: Iterable[str] = ()) -> bool:
        """Whether a frame with these fields and protocols passes the filter."""
        return self.expression.matches(_Fields(fields, tuple(layers)))

    def matches_frame(self, frame: Packet) -> bool:
        """Whether `frame` passes the filter."""
        return self.expression.matches(frame)

    def __str__(self) -> str:
        return str(self.expression)
