"""Fields of HTTP and DHCP messages, named as Wireshark names them. Pure: DHCP comes dissected, HTTP as octets."""

from __future__ import annotations

import re
from typing import Any, Final

from emulator.capture.frame import Value

Fields = dict[str, list[Value]]

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
