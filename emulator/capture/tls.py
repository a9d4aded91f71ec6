"""TLS records in a TCP segment, and the handshake as far as it is in plain text (RFC 8446, RFC 5246). Pure.

A segment is read by itself: records that begin in it, and of the last one what is there. Wireshark knows the whole
conversation, hence two differences: it shows a record in the segment that ends it; and once TLS 1.3 is agreed it calls
the content type of an application record `tls.record.opaque_type`. (`tls.app_data` is the same in both.)
"""

from __future__ import annotations

import struct
from typing import Final

from emulator.capture.application import Fields, text

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
"""Content types (RFC 8446, section 5.1)."""

_RECORD: Final = struct.Struct("!BHH")
_VERSIONS: Final = range(0x0301, 0x0305)
_RECORD_OCTETS_MAX: Final = (1 << 14) + 2048
"""The longest encrypted record of TLS 1.2 (RFC 5246, section 6.2.3); those of TLS 1.3 are shorter."""

_HELLO_REQUEST, _CLIENT_HELLO, _SERVER_HELLO, _CERTIFICATE = 0, 1, 2, 11
_PLAIN_MESSAGES: Final = frozenset(
    {_HELLO_REQUEST, _CLIENT_HELLO, _SERVER_HELLO, 4, _CERTIFICATE, 12, 13, 14, 15, 16, 22}
)
"""Handshake messages that are ever sent in plain text (RFC 5246, section 7.4; RFC 6066; RFC 5077)."""

_LONG_MESSAGES: Final = frozenset({_CLIENT_HELLO, _CERTIFICATE})
"""Those that go on in the next record when they do not fit."""

_MESSAGE_OCTETS_MAX: Final = 1 << 17
_SERVER_NAME, _SUPPORTED_VERSIONS = 0, 43
"""Extensions (RFC 6066, section 3; RFC 8446, section 4.2.1)."""


class _CutError(Exception):
    """The octets end before the value does."""


class _Reader:
    """Octets from the first to the last, as the presentation language of TLS has them (RFC 8446, section 3)."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._next = 0

    def left(self) -> int:
        """How many octets have not been read."""
        return len(self._octets) - self._next

    def take(self, count: int) -> bytes:
        """The next `count` octets."""
        if count > self.left():
            raise _CutError
        self._next += count
        return self._octets[self._next - count : self._next]

    def number(self, octets: int) -> int:
        """The next number of so many octets."""
        return int.from_bytes(self.take(octets), "big")

    def vector(self, length_octets: int) -> _Reader:
        """What the length before it announces; the whole of it must be there."""
        return _Reader(self.take(self.number(length_octets)))


def tls_fields(payload: bytes) -> Fields | None:
    """The fields of a TCP payload that begins with the header of a TLS record; None for any other.

    Handshake messages and alerts are read when they are in plain text: before a ChangeCipherSpec in the same segment,
    and only if the lengths in them fit the record, which those of encrypted octets do not.
    """
    fields: Fields = {}
    offset, encrypted = 0, False
    while len(payload) - offset >= _RECORD.size:
        kind, version, length = _RECORD.unpack_from(payload, offset)
        if not (
            CHANGE_CIPHER_SPEC <= kind <= APPLICATION_DATA and version in _VERSIONS and 0 < length <= _RECORD_OCTETS_MAX
        ):
            break
        offset += _RECORD.size
        body = payload[offset : offset + length]
        offset += length
        _add(fields, "tls.record.content_type", kind)
        _add(fields, "tls.record.version", version)
        _add(fields, "tls.record.length", length)
        if kind == APPLICATION_DATA:
            if body:
                _add(fields, "tls.app_data", body)
        elif kind == CHANGE_CIPHER_SPEC:
            encrypted = True
        elif not encrypted and kind == HANDSHAKE:
            _handshake(body, length, fields)
        elif not encrypted and length == len(body) == 2:
            _add(fields, "tls.alert_message.level", body[0])
            _add(fields, "tls.alert_message.desc", body[1])
    return fields or None


def _add(fields: Fields, name: str, value: int | str | bytes) -> None:
    fields.setdefault(name, []).append(value)


def _handshake(body: bytes, length: int, fields: Fields) -> None:
    """Add the messages of a record of `length` octets, of which `body` is there; none when they are encrypted."""
    messages = []
    offset = 0
    while offset + 4 <= len(body):
        kind, octets = body[offset], int.from_bytes(body[offset + 1 : offset + 4], "big")
        end = offset + 4 + octets
        if kind not in _PLAIN_MESSAGES or octets >= _MESSAGE_OCTETS_MAX:
            return
        if end > length and kind not in _LONG_MESSAGES:
            return
        if kind == _HELLO_REQUEST and length != 4:
            return  # Four zeros: encrypted octets may well begin so, with a nonce that counts from zero (RFC 5288).
        messages.append((kind, body[offset + 4 : end]))
        offset = end
    if len(body) == length and 0 < length - offset < 4:
        return
    for kind, content in messages:
        _add(fields, "tls.handshake.type", kind)
        if kind in {_CLIENT_HELLO, _SERVER_HELLO}:
            try:
                _hello(_Reader(content), fields, client=kind == _CLIENT_HELLO)
            except _CutError:
                pass


def _hello(message: _Reader, fields: Fields, *, client: bool) -> None:
    """Add what a ClientHello or ServerHello says, up to where it is cut (RFC 8446, section 4.1)."""
    _add(fields, "tls.handshake.version", message.number(2))
    message.take(32)
    message.vector(1)
    if client:
        suites = message.vector(2)
        while suites.left() >= 2:
            _add(fields, "tls.handshake.ciphersuite", suites.number(2))
        message.vector(1)
    else:
        _add(fields, "tls.handshake.ciphersuite", message.number(2))
        message.take(1)
    if not message.left():
        return
    octets = message.number(2)
    extensions = _Reader(message.take(min(octets, message.left())))
    while extensions.left():
        kind, extension = extensions.number(2), extensions.vector(2)
        try:
            if kind == _SERVER_NAME and extension.left():
                _server_names(extension.vector(2), fields)
            elif kind == _SUPPORTED_VERSIONS:
                versions = extension.vector(1) if client else extension
                while versions.left() >= 2:
                    _add(fields, "tls.handshake.extensions.supported_version", versions.number(2))
        except _CutError:
            continue


def _server_names(names: _Reader, fields: Fields) -> None:
    while names.left():
        kind, name = names.number(1), names.vector(2)
        if kind == 0:
            _add(fields, "tls.handshake.extensions_server_name", text(name.take(name.left())))
