"""Frames taken apart: encoding again, octets that make no sense, link types."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from emulator.capture.decode import decode
from emulator.capture.frame import Frame, Interface
from emulator.capture.pcapng import Packet

Decoded = Callable[..., Frame]
Expect = Callable[..., None]

ETH = Ether(src="02:57:4c:00:01:00", dst="02:57:4c:00:02:00")
IP4 = ETH / IP(src="10.0.0.1", dst="10.0.0.2")


def test_encoded_again_the_octets_are_the_same(frame: Decoded, octets: bytes) -> None:
    found = frame(octets)
    assert found.reencoded is True
    assert "malformed" not in found.layers
    assert all(type(value) in {int, bool, float, str, bytes} for each in found.fields.values() for value in each)


def test_cut_anywhere_nothing_is_raised(frame: Decoded, octets: bytes) -> None:
    whole = frame(octets)
    for end in range(len(octets)):
        snapped, short = frame(octets[:end], len(octets)), frame(octets[:end])
        for found in (snapped, short):
            layers = tuple(layer for layer in found.layers if layer not in {"malformed", "data"})
            assert layers == whole.layers[: len(layers)]
            assert found.get("frame.cap_len") == end
            assert found.get("_ws.malformed") == (True if "malformed" in found.layers else None)
        assert 0 not in snapped.fields.get("tcp.checksum.status", ())
        assert 0 not in snapped.fields.get("udp.checksum.status", ())


@settings(max_examples=400)
@given(
    st.data(),
    st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=5),
    st.binary(max_size=20),
)
def test_damaged_frames_raise_nothing(
    frame: Decoded, samples: Any, data: st.DataObject, changes: list[tuple[int, int]], tail: bytes
) -> None:
    octets = bytearray(samples.SAMPLES[data.draw(st.sampled_from(sorted(samples.SAMPLES)))])
    for place, value in changes:
        octets[place % len(octets)] = value
    for link_type in (1, 101, 147):
        frame(bytes(octets) + tail, link_type=link_type)


@given(st.binary(max_size=120), st.sampled_from([0x0800, 0x86DD, 0x0806, 0x8100, 60]))
def test_any_octets_raise_nothing(frame: Decoded, tail: bytes, kind: int) -> None:
    frame(bytes(12) + struct.pack("!H", kind) + tail)


@given(st.binary(max_size=200), st.sampled_from([b"\x42\x42\x03", b"\x42\x42\x03\0\0", b""]))
def test_any_llc_octets_raise_nothing(frame: Decoded, tail: bytes, head: bytes) -> None:
    found = frame(bytes(12) + struct.pack("!H", len(head + tail)) + head + tail)
    assert found.layers[:1] == ("eth",)


@given(st.binary(max_size=200), st.sampled_from([1, 6, 17, 58]), st.integers(20, 160))
def test_any_packet_raises_nothing(frame: Decoded, payload: bytes, protocol: int, first: int) -> None:
    frame(bytes(ETH / IP(src="10.0.0.1", dst="10.0.0.2", proto=protocol) / payload))
    frame(bytes(ETH / IPv6(src="::1", dst="::2", nh=protocol) / (bytes([first]) + payload)))


def test_frame_fields_and_shared_values(samples: Any) -> None:
    octets = samples.SAMPLES["echo"]
    interfaces = [Interface("pc1:eth0"), Interface("sw1:pc1")]
    first, second = decode([Packet(0, 5, octets, 45, "out"), Packet(1, 6, octets, 45, "in")], interfaces)
    assert (first.number, first.time_ns, first.interface, first.direction) == (1, 5, "pc1:eth0", "out")
    assert (second.number, second.time_ns, second.interface, second.direction) == (2, 6, "sw1:pc1", "in")
    assert second.get("frame.number") == 2
    assert second.get("frame.interface_name") == "sw1:pc1"
    assert second.get("frame.len") == 45
    assert second.fields["ip.src"] is first.fields["ip.src"]


def test_what_scapy_does_not_keep_is_not_called_the_same(frame: Decoded) -> None:
    """After the end of the option list (RFC 9293, section 3.1) padding is zero: other octets are in no field."""
    header = bytearray(bytes(IP4 / TCP(flags="S", options=[("MSS", 1460), ("EOL", None)])))
    assert frame(bytes(header)).reencoded is True
    header[-1] = 0x99
    found = frame(bytes(header))
    assert found.reencoded is False
    assert found.get("tcp.options.mss_val") == 1460


def test_a_header_that_does_not_fit_is_not_called_the_same(frame: Decoded, samples: Any) -> None:
    found = frame(samples.SAMPLES["syn"][:40])
    assert found.layers == ("eth", "ip", "tcp", "malformed")
    assert found.reencoded is False
    assert found.get("ip.src") == "10.0.0.1"


def test_a_packet_longer_than_its_frame_is_malformed(frame: Decoded, samples: Any) -> None:
    octets = samples.SAMPLES["udp"]
    assert frame(octets[:-1]).layers == ("eth", "ip", "udp", "data", "malformed")
    assert "malformed" not in frame(octets[:-1], len(octets)).layers


def test_other_link_types(frame: Decoded, samples: Any) -> None:
    assert frame(samples.SAMPLES["echo"][14:], link_type=101).layers == ("ip", "icmp", "data")
    assert frame(samples.SAMPLES["echo 6"][14:], link_type=101).layers == ("ipv6", "icmpv6")
    assert frame(bytes(20), link_type=101).layers == ("data",)
    unknown = frame(samples.SAMPLES["echo"], link_type=147)
    assert (unknown.layers, unknown.reencoded) == ((), None)


def test_decoding_leaves_the_output_alone() -> None:
    code = "import emulator.capture.decode, sys; print([m for m in sys.modules if m == 'scapy.all'])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_real_frames(frame: Decoded, samples: Any) -> None:
    for found in samples.real():
        assert found.reencoded is True
        assert "malformed" not in found.layers
        assert 0 not in found.fields.get("tcp.checksum.status", ())
        assert 0 not in found.fields.get("udp.checksum.status", ())
        for end in range(0, found.length, 7):
            frame(found.data[:end], found.length)
            frame(found.data[:end])


def test_a_frame_on_the_loopback_interface_is_as_any_other(expect: Expect, samples: Any) -> None:
    nobody = "00:00:00:00:00:00"
    expect("loopback", "eth ip tcp http", eth__src=nobody, eth__addr=(nobody, nobody), ip__src="127.0.0.1")
    expect("loopback 6", "eth ipv6 udp data", ipv6__dst="::1", udp__checksum__status=1)
    layers = [" ".join(found.layers) for found in samples.real() if found.text("eth.src") == nobody]
    assert {"eth ip tcp tls", "eth ip icmp data", "eth ipv6 icmpv6", "eth ip udp data", "eth ip udp dns"} == set(layers)
