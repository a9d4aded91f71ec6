"""Fields of application protocols, named as Wireshark names them. Pure: DNS and DHCP come dissected, HTTP as octets.

Names of our own, for what Wireshark has no field for, begin with `wirelab.`.
"""

from __future__ import annotations

import re
from typing import Any, Final

from emulator.capture.frame import Value

Fields = dict[str, list[Value]]

_TYPES: Final = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 39: "DNAME",
    41: "OPT", 43: "DS", 46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 64: "SVCB", 65: "HTTPS", 255: "ANY",
}  # fmt: skip
"""Resource record types (IANA, DNS parameters)."""

_NAME_FIELDS: Final = {1: "dns.a", 2: "dns.ns", 5: "dns.cname", 12: "dns.ptr.domain_name", 28: "dns.aaaa"}
_OPT: Final = 41

_DHCP_OPTIONS: Final = {
    "message-type": "dhcp.option.dhcp",
    "subnet_mask": "dhcp.option.subnet_mask",
    "router": "dhcp.option.router",
    "name_server": "dhcp.option.domain_name_server",
    "hostname": "dhcp.option.hostname",
    "domain": "dhcp.option.domain_name",
    "broadcast_address": "dhcp.option.broadcast_address",
    "requested_addr": "dhcp.option.requested_ip_address",
    "lease_time": "dhcp.option.ip_address_lease_time",
    "server_id": "dhcp.option.dhcp_server_id",
    "error_message": "dhcp.option.message",
    "renewal_time": "dhcp.option.renewal_time_value",
    "rebinding_time": "dhcp.option.rebinding_time_value",
    "vendor_class_id": "dhcp.option.vendor_class_id",
}
"""Scapy's names of DHCP options (RFC 2132) → Wireshark's fields."""

_REQUEST: Final = re.compile(rb"([A-Z]{3,16}) (\S{1,8192}) HTTP/(\d\.\d)\r?\n")
_RESPONSE: Final = re.compile(rb"HTTP/(\d\.\d) (\d{3})(?: ([^\r\n]*))?\r?\n")
_HEADERS_END: Final = re.compile(rb"\r?\n\r?\n")
_HTTP_HEADERS: Final = {
    "host": "http.host",
    "user-agent": "http.user_agent",
    "server": "http.server",
    "content-type": "http.content_type",
    "location": "http.location",
    "connection": "http.connection",
}


def text(octets: bytes) -> str:
    """Octets of a name or header as text; what is not UTF-8 is shown escaped."""
    return octets.decode("utf-8", "backslashreplace")


def http_fields(payload: bytes) -> Fields | None:
    """The fields of a TCP payload that begins with a request or status line (RFC 9112); None for any other.

    `http.file_data` is the part of the body that is in this segment.
    """
    if request := _REQUEST.match(payload):
        fields: Fields = {
            "http.request": [True],
            "http.request.method": [text(request[1])],
            "http.request.uri": [text(request[2])],
            "http.request.version": [text(b"HTTP/" + request[3])],
        }
    elif response := _RESPONSE.match(payload):
        fields = {
            "http.response": [True],
            "http.response.version": [text(b"HTTP/" + response[1])],
            "http.response.code": [int(response[2])],
            "http.response.phrase": [text(response[3] or b"")],
        }
    else:
        return None
    end = _HEADERS_END.search(payload)
    headers = payload[: end.start()] if end else payload
    for line in headers.split(b"\n")[1:]:
        name, colon, rest = line.partition(b":")
        key, value = text(name.strip()).lower(), text(rest.strip())
        if colon and key in _HTTP_HEADERS:
            fields.setdefault(_HTTP_HEADERS[key], []).append(value)
        elif colon and key == "content-length" and value.isascii() and value.isdigit() and len(value) < 20:
            fields.setdefault("http.content_length", []).append(int(value))
    if end and end.end() < len(payload):
        fields["http.file_data"] = [payload[end.end() :]]
    return fields


def dns_fields(message: Any) -> tuple[Fields, bool]:
    """The fields of a dissected DNS message (RFC 1035), and whether it holds all the records that it announces."""
    fields: Fields = {
        "dns.id": [message.id],
        "dns.flags.response": [bool(message.qr)],
        "dns.flags.opcode": [message.opcode],
        "dns.flags.truncated": [bool(message.tc)],
        "dns.flags.recdesired": [bool(message.rd)],
        "dns.count.queries": [message.qdcount],
        "dns.count.answers": [message.ancount],
        "dns.count.auth_rr": [message.nscount],
        "dns.count.add_rr": [message.arcount],
    }
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
    add(section, f"{owner} {_TYPES.get(record.type, f'TYPE{record.type}')} {record.ttl} {_data(record)}")


def _data(record: Any) -> str:
    """A record's data as a zone file would have it (RFC 1035, section 5.1; unknown types as in RFC 3597, section 5)."""
    if hasattr(record, "mname"):
        numbers = (record.serial, record.refresh, record.retry, record.expire, record.minimum)
        return " ".join((_name(record.mname), _name(record.rname), *map(str, numbers)))
    if hasattr(record, "exchange"):
        return f"{record.preference} {_name(record.exchange)}"
    if hasattr(record, "target") and hasattr(record, "port"):
        return f"{record.priority} {record.weight} {record.port} {_name(record.target)}"
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


def dhcp_fields(message: Any) -> tuple[Fields, bool]:
    """The fields of a dissected DHCP message (RFC 2131, RFC 2132), and whether all its options could be read."""
    hardware: bytes = message.chaddr
    fields: Fields = {
        "dhcp.type": [message.op],
        "dhcp.id": [message.xid],
        "dhcp.secs": [message.secs],
        "dhcp.flags.bc": [bool(int(message.flags) & 0x8000)],
        "dhcp.ip.client": [message.ciaddr],
        "dhcp.ip.your": [message.yiaddr],
        "dhcp.ip.server": [message.siaddr],
        "dhcp.ip.relay": [message.giaddr],
    }
    if message.htype == 1 and message.hlen == 6:
        fields["dhcp.hw.mac_addr"] = [hardware[:6].hex(":")]
    options = message.payload.fields.get("options")
    whole = isinstance(options, list) or not message.payload
    for option in options or ():
        if isinstance(option, bytes):
            whole = False
        elif isinstance(option, tuple):
            name, *values = option
            if name in _DHCP_OPTIONS:
                found = fields.setdefault(_DHCP_OPTIONS[name], [])
                found += [text(value).rstrip("\0") if isinstance(value, bytes) else value for value in values]
            elif name == "param_req_list":
                found = fields.setdefault("dhcp.option.request_list_item", [])
                found += [number for value in values for number in (value if isinstance(value, list) else [value])]
    return fields, whole
