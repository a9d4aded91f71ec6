"""Capture filters: what libpcap and tcpdump make of them, and that the kernel obeys."""

from __future__ import annotations

import shutil
import socket

import pytest

from emulator.capture import bpf
from emulator.capture.pcapng import LINKTYPE_ETHERNET, LINKTYPE_RAW
from emulator.errors import MachineError, UsageError

ETHERNET = bytes(12)
ARP = ETHERNET + b"\x08\x06" + bytes(28)
UDP = ETHERNET + b"\x08\x00" + bytes.fromhex("4500001c000000004011000001020304050607080035003500080000")
needs_library = pytest.mark.skipif(bpf._library() is None, reason="libpcap is not installed")
needs_tcpdump = pytest.mark.skipif(shutil.which("tcpdump") is None, reason="tcpdump is not installed")


def passes(program: bpf.Program, *frames: bytes) -> list[bytes]:
    """Those of `frames` that reach a socket with that filter; the kernel runs it."""
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, receiver:
        bpf.attach(receiver, program)
        receiver.setblocking(False)
        for frame in frames:
            sender.send(frame)
        found = []
        while True:
            try:
                found.append(receiver.recv(65536))
            except BlockingIOError:
                return found


@needs_library
def test_the_kernel_obeys() -> None:
    programs = bpf.compile_filter("udp port 53 and host 1.2.3.4").programs
    assert passes(programs[LINKTYPE_ETHERNET], ARP, UDP) == [UDP]
    assert passes(programs[LINKTYPE_RAW], UDP[14:], ARP) == [UDP[14:]]
    assert passes(bpf.compile_filter("arp").programs[LINKTYPE_ETHERNET], ARP, UDP) == [ARP]


def test_no_filter_lets_everything_pass_and_nothing_nothing() -> None:
    assert passes(bpf.compile_filter(" ").programs[LINKTYPE_ETHERNET], ARP, UDP) == [ARP, UDP]
    assert passes(bpf.NOTHING, ARP, UDP) == []


@needs_library
def test_a_filter_of_ethernet_has_no_program_for_other_links() -> None:
    programs = bpf.compile_filter("ether host 02:57:4c:00:01:00").programs
    assert set(programs) == {LINKTYPE_ETHERNET}


@needs_library
@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("icmp foo", "syntax error"),
        ("port 99999", "illegal port number 99999 > 65535"),
        ("host 1.2.3.4 and (", "syntax error"),
        ("host no.such.name.invalid", "no.such.name.invalid"),
    ],
)
def test_a_wrong_filter_is_refused_in_the_words_of_libpcap(expression: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        bpf.compile_filter(expression)
    assert words in caught.value.message
    assert expression in caught.value.message
    assert caught.value.hint == "man pcap-filter"


def test_a_null_character_is_refused() -> None:
    with pytest.raises(UsageError, match="null character"):
        bpf.compile_filter("icmp\0or arp")


def test_what_is_no_text_is_refused() -> None:
    """As an argument that is no UTF-8 comes from the shell."""
    with pytest.raises(UsageError, match="UTF-8"):
        bpf.compile_filter("port \udcff")


@needs_library
@needs_tcpdump
@pytest.mark.parametrize("expression", ["icmp", "tcp port 80 or arp", "ip6 and not udp"])
def test_tcpdump_makes_the_same_program(expression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by_library = bpf.compile_filter(expression)
    monkeypatch.setattr(bpf, "_library", lambda: None)
    assert bpf.compile_filter(expression) == by_library


@needs_tcpdump
def test_tcpdump_refuses_a_wrong_filter_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpf, "_library", lambda: None)
    with pytest.raises(UsageError, match="the capture filter 'icmp foo' is wrong: syntax error"):
        bpf.compile_filter("icmp foo")


def test_without_libpcap_and_tcpdump_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpf, "_library", lambda: None)
    monkeypatch.setattr(bpf.tools, "find", lambda program: None)
    with pytest.raises(MachineError) as caught:
        bpf.compile_filter("icmp")
    assert "tcpdump" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("expression", "asks"), [("vlan", True), ("not vlan 10 and ip", True), ("icmp", False), ("host vlan-server", True)]
)
def test_filters_for_tags_are_noticed(expression: str, asks: bool) -> None:
    assert bpf.asks_for_tags(expression) is asks
