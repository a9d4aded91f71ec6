"""The display filter language: what passes, what is wrong and where, and that text and filter agree."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.capture.frame import Frame
from emulator.filters import KNOWN_FIELDS, KNOWN_PROTOCOLS, FieldType, FilterError, parse

LAYERS = ("eth", "ip", "tcp", "http")
FIELDS: dict[str, tuple[Any, ...]] = {
    "eth.dst": ("02:00:00:00:00:0a",),
    "ip.src": ("192.168.1.100",),
    "ip.addr": ("192.168.1.100", "192.0.2.80"),
    "ip.ttl": (64,),
    "ipv6.src": ("2001:db8::1",),
    "tcp.srcport": (40000,),
    "tcp.port": (40000, 80),
    "tcp.flags.syn": (False,),
    "tcp.flags.ack": (True,),
    "tcp.payload": (b"GET /\x00\xff HTTP",),
    "http.host": ("www.example.com",),
    "dns.qry.name": ("<Root>",),
    "stp.max_age": (20.0,),
    "stp.msg_age": (1.5,),
    "dns.rrsig.signature_expiration": (1893456000,),
    "tcp.options.sack_perm": (True,),
    "icmpv6.opt.linkaddr": ("02:00:00:00:00:0a",),
}


@pytest.mark.parametrize(
    "text",
    [
        "tcp",
        "http && ip",
        "frame",
        "tcp.flags.syn",
        "tcp.flags.syn == 0",
        "tcp.flags.ack == true and not tcp.flags.syn == 1",
        "ip.src == 192.168.1.100",
        'ip.src == "192.168.1.100"',
        "ip.src == 192.168.0.0/16",
        "ip.addr == 192.0.2.80",
        "!(ip.addr == 192.0.2.81)",
        "ip.addr != 192.0.2.81",
        "ip.src > 192.168.1.99 && ip.src lt 192.168.1.101",
        "ipv6.src == 2001:db8::/32",
        "ip.ttl == 0x40",
        "ip.ttl ge 64 and ip.ttl le 64",
        "ip.ttl in {1..63, 64}",
        "tcp.port in {80,443}",
        "ip.addr in {10.0.0.0/8, 192.0.2.1..192.0.2.99}",
        "eth.dst == 02:00:00:00:00:0A",
        "eth.dst == 02-00-00-00-00-0a",
        'tcp.payload contains "GET"',
        "tcp.payload contains 00:ff",
        r'tcp.payload contains "\x00\xff"',
        r'tcp.payload contains "\0\377"',
        'http.host contains "example"',
        "http.host == www.example.com",
        'http.host in {"www.qq.com", "www.example.com"}',
        'dns.qry.name == "<Root>"',
        "udp or (arp or tcp)",
        "udp && arp || tcp",
        "not udp and tcp",
        "stp.max_age == 20",
        "stp.max_age == 20.0 && stp.msg_age == 1.5",
        "stp.msg_age > 1 && stp.msg_age < 1.50390625",
        "stp.msg_age in {0.5..1.5}",
        "stp.msg_age != 1",
        'dns.rrsig.signature_expiration == "2030-01-01 00:00:00Z"',
        'dns.rrsig.signature_expiration > "2029-12-31T23:59:59Z"',
        "tcp.options.sack_perm",
        "icmpv6.opt.linkaddr == 02:00:00:00:00:0a",
    ],
)
def test_passes(text: str) -> None:
    wanted = parse(text)
    assert wanted.matches(FIELDS, LAYERS)
    assert wanted.matches_frame(Frame(1, 0, "pc1:eth0", "out", b"", 0, FIELDS, LAYERS))
    assert not parse(f"!({text})").matches(FIELDS, LAYERS)


@pytest.mark.parametrize(
    "text",
    [
        "udp",
        "tcp && arp",
        "ip.dst",
        "ip.dst == 192.0.2.80",
        "ip.dst != 192.0.2.80",
        "ip.addr != 192.0.2.80",
        "ip.addr != 192.168.0.0/16",
        "ip.ttl > 64",
        "ip.ttl < 64",
        "tcp.port in {443, 8000..8999}",
        "tcp.flags.syn == 1",
        'http.host == "WWW.example.com"',
        "ipv6.src == 2001:db9::/32",
        "stp.msg_age < 1.5",
        "stp.max_age > 20",
        "stp.msg_age == 1",
        'dns.rrsig.signature_expiration < "2030-01-01 00:00:00Z"',
        "tls",
    ],
)
def test_does_not_pass(text: str) -> None:
    assert not parse(text).matches(FIELDS, LAYERS)


@pytest.mark.parametrize(
    ("text", "column", "message", "hint"),
    [
        ("", 1, "an empty filter", None),
        ("  ", 1, "an empty filter", None),
        ("tcp.prot == 1", 1, "no field or protocol is called 'tcp.prot'", "did you mean tcp.port?"),
        ("ip && htpp", 7, "no field or protocol is called 'htpp'", "did you mean http?"),
        ("ip.ttl ==", 10, "expected a value instead of 'the end'", None),
        ("ip.ttl == x", 11, "ip.ttl is a number, which x is not", None),
        ("ip.ttl == 1..5", 11, "1..5 is not a value that ip.ttl can be compared with", None),
        ("ip.src == ip.dst", 11, "ip.dst is not a value that ip.src can be compared with", None),
        ("ip.src == 192.168.1.300", 11, "ip.src is an IPv4 address or prefix, which 192.168.1.300 is not", None),
        ("ip.src == 2001:db8::1", 11, "ip.src is an IPv4 address or prefix, which 2001:db8::1 is not", None),
        ("eth.src == 02:00", 12, "eth.src is a MAC address, which 02:00 is not", None),
        ("stp.hello == 1.", 14, "stp.hello is a number, perhaps with a decimal point, which 1. is not", None),
        ("stp.hello == -1", 14, "stp.hello is a number, perhaps with a decimal point, which -1 is not", None),
        (
            'dns.rrsig.signature_expiration > "2030-13-01 00:00:00Z"',
            34,
            'dns.rrsig.signature_expiration is a time in quotes, such as "2030-01-31 12:00:00Z", which '
            '"2030-13-01 00:00:00Z" is not',
            None,
        ),
        (
            "dns.rrsig.signature_expiration > 1893456000",
            34,
            'dns.rrsig.signature_expiration is a time in quotes, such as "2030-01-31 12:00:00Z", which '
            "1893456000 is not",
            None,
        ),
        (
            "tcp.options.sack_perm == 1",
            23,
            "tcp.options.sack_perm is a protocol: only its presence can be asked for",
            None,
        ),
        ("tcp.flags.syn == 2", 18, "tcp.flags.syn is 1 or 0, which 2 is not", None),
        ("tcp == 1", 5, "tcp is a protocol: only its presence can be asked for", None),
        ('ip.ttl contains "4"', 8, "`contains` looks into text and octets; ip.ttl is a number", None),
        ("tcp.port in {}", 15, "an empty set", None),
        ("tcp.port in {80 443}", 17, "expected a comma before 443, as Wireshark wants it", None),
        ("tcp.port in 80", 13, "expected '{' instead of '80'", None),
        ("tcp.port in {80", 16, "expected a value instead of 'the end'", None),
        ("(tcp", 5, "expected ')' instead of 'the end'", None),
        ("tcp udp", 5, "expected && or || before 'udp'", None),
        ("tcp &", 5, "unexpected '&'", None),
        ('http.host == "a', 14, "a string without its closing quote", None),
        ("== 1", 1, "expected the name of a field or protocol instead of '=='", None),
        ("!" * 100 + "tcp", 65, "nested too deeply", None),
        ("tcp \ud800", 5, "not Unicode text", None),
    ],
)
def test_what_is_wrong_and_where(text: str, column: int, message: str, hint: str | None) -> None:
    with pytest.raises(FilterError) as caught:
        parse(text)
    assert (caught.value.message, caught.value.column, caught.value.hint) == (message, column, hint)


def test_the_names_used() -> None:
    assert parse("ip.src == 10.0.0.1 && !(dns || tcp.port in {1})").fields == {"ip.src", "dns", "tcp.port"}


def test_values_of_another_type_than_the_fields_do_not_match() -> None:
    for value in (b"\xc0\xa8\x01\x01", "no address", ""):
        assert not parse("ip.src == 0.0.0.0/0").matches({"ip.src": (value,)})
    assert not parse("ip.ttl == 1").matches({"ip.ttl": ("one",)})
    assert not parse("ip.ttl == 1").matches({"ip.ttl": (1.0,)})
    assert not parse("stp.hello == 0").matches({"stp.hello": ("0", b"0")})
    assert parse('http.file_data contains "é"').matches({"http.file_data": ("café",)})


OPERANDS = {
    FieldType.NUMBER: st.integers(0, 2**40).map(str) | st.integers(0, 2**32).map(hex),
    FieldType.DECIMAL: st.decimals(0, 2**40, places=3).map(str) | st.integers(0, 2**70).map(str),
    FieldType.TIME: st.datetimes().map(lambda time: f'"{time.isoformat(timespec="seconds")}Z"'),
    FieldType.FLAG: st.sampled_from(["0", "1", "true", "false"]),
    FieldType.ADDRESS4: st.ip_addresses(v=4).map(str) | st.ip_addresses(v=4).map(lambda a: f"{a}/8"),
    FieldType.ADDRESS6: st.ip_addresses(v=6).map(str),
    FieldType.MAC: st.binary(min_size=6, max_size=6).map(lambda octets: octets.hex(":")),
}
QUOTED = st.text().map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')


@st.composite
def relations(draw: st.DrawFn) -> str:
    """A comparison, a set, or a name alone."""
    field = draw(st.sampled_from(sorted(KNOWN_FIELDS)))
    operand = OPERANDS.get(KNOWN_FIELDS[field], QUOTED)
    kind = draw(st.sampled_from(["compare", "set", "name"]))
    if kind == "compare":
        return f"{field} {draw(st.sampled_from(['==', '!=', '<', '>', '<=', '>=', 'eq', 'ne']))} {draw(operand)}"
    if kind == "set":
        return (
            f"{field} in {{{draw(st.sampled_from([', ', ','])).join(draw(st.lists(operand, min_size=1, max_size=4)))}}}"
        )
    return draw(st.sampled_from(sorted(KNOWN_PROTOCOLS)) | st.just(field))


EXPRESSIONS = st.recursive(
    relations(),
    lambda part: (
        st.builds("!({})".format, part)
        | st.builds("({}) && {}".format, part, part)
        | st.builds("{} or ({})".format, part, part)
    ),
    max_leaves=8,
)


@given(EXPRESSIONS)
def test_a_filters_text_is_the_same_filter(text: str) -> None:
    wanted = parse(text)
    assert parse(str(wanted)) == wanted
    assert wanted.matches(FIELDS, LAYERS) in (True, False)


PIECES = [*'ip!&|(){}<>="\\ 01,x/.:', "tcp.port", "ip.src", " in ", "==", "&&", " contains ", "10.0.0.0/8"]


@given(st.text() | st.lists(st.sampled_from(PIECES)).map("".join))
def test_any_text_is_a_filter_or_a_filter_error(text: str) -> None:
    try:
        parse(text)
    except FilterError as error:
        assert 1 <= error.column <= len(text) + 1


@given(
    st.dictionaries(
        st.sampled_from(sorted(KNOWN_FIELDS)), st.tuples(st.integers() | st.floats() | st.text() | st.binary())
    )
)
def test_hostile_values_crash_nothing(fields: dict[str, tuple[Any, ...]]) -> None:
    for text in (
        "stp.hello < 5.5",
        "ip.src == 10.0.0.0/8",
        "ip.ttl < 5",
        "eth.src != 02:00:00:00:00:01",
        'tcp.payload contains "x"',
    ):
        assert parse(text).matches(fields) in (True, False)
