"""Fields of DNS messages, named as Wireshark names them (RFC 1035, RFC 4034). Pure: messages come dissected.

Whole records are readable under names of our own: `wirelab.dns.answer`, `wirelab.dns.authority` and
`wirelab.dns.additional` have each record as a zone file would have it, without the class.
"""

from __future__ import annotations

import struct
from base64 import b32hexencode, b64encode
from time import gmtime, strftime
from typing import Any, Final

from emulator.capture.application import Fields, text
from emulator.capture.frame import Value

_TYPES: Final = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 39: "DNAME",
    41: "OPT", 43: "DS", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 50: "NSEC3", 51: "NSEC3PARAM", 64: "SVCB", 65: "HTTPS",
    255: "ANY",
}  # fmt: skip
"""Resource record types (IANA, DNS parameters)."""

_NAME_FIELDS: Final = {1: "dns.a", 2: "dns.ns", 5: "dns.cname", 12: "dns.ptr.domain_name", 28: "dns.aaaa"}
_OPT: Final = 41
_DS, _RRSIG, _NSEC, _DNSKEY, _NSEC3, _NSEC3PARAM = 43, 46, 47, 48, 50, 51
_SIGNED: Final = {
    _DS: "digesttype",
    _RRSIG: "signersname",
    _NSEC: "nextname",
    _DNSKEY: "algorithm",
    _NSEC3: "nexthashedownername",
    _NSEC3PARAM: "iterations",
}
"""Types of DNSSEC, and scapy's name of the last value that such a record must have (RFC 4034, RFC 5155)."""

_RSAMD5: Final = 1
"""An algorithm whose key tags are computed in another way; it must not be used (RFC 8624, section 3.1)."""


def dns_fields(message: Any) -> tuple[Fields, bool]:
    """The fields of a dissected DNS message (RFC 1035), and whether it holds all the records that it announces."""
    fields: Fields = {
        "dns.id": [message.id],
        "dns.flags.response": [bool(message.qr)],
        "dns.flags.opcode": [message.opcode],
        "dns.flags.truncated": [bool(message.tc)],
        "dns.flags.recdesired": [bool(message.rd)],
        "dns.flags.checkdisable": [bool(message.cd)],
        "dns.count.queries": [message.qdcount],
        "dns.count.answers": [message.ancount],
        "dns.count.auth_rr": [message.nscount],
        "dns.count.add_rr": [message.arcount],
    }
    if message.qr or message.ad:
        # As in Wireshark, a question has the flag only when it is set (RFC 6840, section 5.7).
        fields["dns.flags.authenticated"] = [bool(message.ad)]
    if message.qr:
        fields["dns.flags.authoritative"] = [bool(message.aa)]
        fields["dns.flags.recavail"] = [bool(message.ra)]
        fields["dns.flags.rcode"] = [message.rcode]
    questions = [record for record in message.getfieldval("qd") if hasattr(record, "qname")]
    for question in questions:
        fields.setdefault("dns.qry.name", []).append(_name(question.qname))
        fields.setdefault("dns.qry.type", []).append(question.qtype)
    whole = len(questions) == message.qdcount
    for section, field, announced in (
        ("answer", "an", message.ancount),
        ("authority", "ns", message.nscount),
        ("additional", "ar", message.arcount),
    ):
        records = [record for record in message.getfieldval(field) if hasattr(record, "rrname")]
        whole = whole and len(records) == announced
        for record in records:
            _record_fields(record, f"wirelab.dns.{section}", fields)
    return fields, whole


def _record_fields(record: Any, section: str, fields: Fields) -> None:
    def add(name: str, value: Value) -> None:
        fields.setdefault(name, []).append(value)

    owner = _name(record.rrname)
    add("dns.resp.name", owner)
    add("dns.resp.type", record.type)
    if record.type == _OPT:
        # RFC 6891, section 6.1.2: class and TTL mean something else here.
        add("dns.rr.udp_payload_size", record.rclass)
        add("dns.resp.z.do", bool(record.z & 0x8000))
        return
    add("dns.resp.ttl", record.ttl)
    if record.type in _NAME_FIELDS and hasattr(record, "rdata"):
        add(_NAME_FIELDS[record.type], _data(record))
    elif hasattr(record, "mname"):
        add("dns.soa.mname", _name(record.mname))
        add("dns.soa.rname", _name(record.rname))
        add("dns.soa.serial_number", record.serial)
    elif hasattr(record, "exchange"):
        add("dns.mx.mail_exchange", _name(record.exchange))
    elif record.type == 16 and isinstance(record.rdata, list):
        for string in record.rdata:
            add("dns.txt", text(string))
    elif _is_signed(record):
        for name, value in _signed_fields(record).items():
            add(name, value)
    add(section, f"{owner} {_type(record.type)} {record.ttl} {_data(record)}")


def _data(record: Any) -> str:
    """A record's data as a zone file would have it (RFC 1035, section 5.1; unknown types as in RFC 3597, section 5)."""
    if hasattr(record, "mname"):
        numbers = (record.serial, record.refresh, record.retry, record.expire, record.minimum)
        return " ".join((_name(record.mname), _name(record.rname), *map(str, numbers)))
    if hasattr(record, "exchange"):
        return f"{record.preference} {_name(record.exchange)}"
    if hasattr(record, "target") and hasattr(record, "port"):
        return f"{record.priority} {record.weight} {record.port} {_name(record.target)}"
    if _is_signed(record):
        return _signed_data(record)
    data = getattr(record, "rdata", None)
    if isinstance(data, str):
        return data
    if isinstance(data, bytes):
        return _name(data) if record.type in {2, 3, 4, 5, 12, 39} else f"\\# {len(data)} {data.hex()}".rstrip()
    if isinstance(data, list) and all(isinstance(string, bytes) for string in data):
        return " ".join(f'"{text(string)}"' for string in data)
    return "…"


def _name(octets: bytes) -> str:
    """A domain name as Wireshark shows it: without the final dot, and `<Root>` for the root."""
    return text(octets).removesuffix(".") or "<Root>"


def _type(number: int) -> str:
    return _TYPES.get(number, f"TYPE{number}")


def _is_signed(record: Any) -> bool:
    """Whether this is a record of DNSSEC that has all its values."""
    return record.type in _SIGNED and _SIGNED[record.type] in record.fields


def _signed_fields(record: Any) -> dict[str, Value]:
    """The fields of a record of DNSSEC (RFC 4034); times in seconds since 1970."""
    if record.type == _RRSIG:
        return {
            "dns.rrsig.type_covered": record.typecovered,
            "dns.rrsig.algorithm": record.algorithm,
            "dns.rrsig.signature_expiration": record.expiration,
            "dns.rrsig.signature_inception": record.inception,
            "dns.rrsig.key_tag": record.keytag,
            "dns.rrsig.signers_name": _name(record.signersname),
        }
    if record.type == _DS:
        return {
            "dns.ds.key_id": record.keytag,
            "dns.ds.algorithm": record.algorithm,
            "dns.ds.digest_type": record.digesttype,
        }
    if record.type == _DNSKEY:
        fields: dict[str, Value] = {
            "dns.dnskey.flags": int(record.flags),
            "dns.dnskey.algorithm": record.algorithm,
        }
        if record.algorithm != _RSAMD5:
            fields["dns.dnskey.key_id"] = _key_tag(record)
        return fields
    return {"dns.nsec.next_domain_name": _name(record.nextname)} if record.type == _NSEC else {}


def _key_tag(record: Any) -> int:
    """The key tag of a DNSKEY record (RFC 4034, appendix B)."""
    key: bytes = record.publickey
    data = struct.pack("!HBB", int(record.flags), record.protocol, record.algorithm) + key
    total = sum(data[::2]) * 256 + sum(data[1::2])
    return (total + (total >> 16)) & 0xFFFF


def _types(bitmaps: bytes) -> list[str]:
    """The names of the types in type bit maps (RFC 4034, section 4.1.2), as far as those are whole."""
    found = []
    while len(bitmaps) > 2:
        window, size = bitmaps[0] * 256, bitmaps[1]
        bits = bitmaps[2 : 2 + size]
        found += [_type(window + bit) for bit in range(len(bits) * 8) if bits[bit // 8] & 0x80 >> bit % 8]
        bitmaps = bitmaps[2 + size :]
    return found


def _signed_data(record: Any) -> str:
    """The data of a record of DNSSEC as a zone file would have it (RFC 4034, RFC 5155); keys are in base64."""
    words: tuple[Any, ...]
    if record.type == _RRSIG:
        expiration, inception = (strftime("%Y%m%d%H%M%S", gmtime(at)) for at in (record.expiration, record.inception))
        words = (_type(record.typecovered), record.algorithm, record.labels, record.originalttl, expiration, inception)
        words += record.keytag, _name(record.signersname), b64encode(record.signature).decode()
    elif record.type == _DS:
        words = record.keytag, record.algorithm, record.digesttype, record.digest.hex().upper()
    elif record.type == _DNSKEY:
        words = int(record.flags), record.protocol, record.algorithm, b64encode(record.publickey).decode()
    elif record.type == _NSEC:
        words = _name(record.nextname), *_types(record.typebitmaps)
    else:
        words = record.hashalg, int(record.flags), record.iterations, record.salt.hex().upper() or "-"
        if record.type == _NSEC3:
            following = b32hexencode(record.nexthashedownername).decode().rstrip("=")
            words += following, *_types(record.typebitmaps)
    return " ".join(map(str, words))
