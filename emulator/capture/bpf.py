"""Capture filters: an expression as tcpdump takes it, compiled by libpcap, and the program given to the kernel.

Sources: pcap-filter(7), pcap_compile(3PCAP), Documentation/networking/filter.rst of the kernel, socket(7). libpcap is
used through ctypes; where only tcpdump is there, `tcpdump -ddd` does the same. Standard library only.
"""

from __future__ import annotations

import ctypes
import re
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from emulator.capture.pcapng import LINKTYPE_ETHERNET, LINKTYPE_RAW, SNAPLEN_MAX
from emulator.errors import MachineError, UsageError
from emulator.run import tools

Program = Sequence[tuple[int, int, int, int]]
"""Instructions of the classic BPF machine: code, jump if true, jump if false, k."""

NOTHING: Final[Program] = ((0x06, 0, 0, 0),)
"""`ret #0`: no packet passes."""


@dataclass(frozen=True)
class Filter:
    """A capture filter: its text, and its program for each link type (LINKTYPE) that it can be meant for."""

    expression: str
    programs: Mapping[int, Program]


_DLT_RAW: Final = 12
_LINK_TYPES: Final = {LINKTYPE_ETHERNET: 1, LINKTYPE_RAW: _DLT_RAW}
"""LINKTYPE of a file → DLT, the number that libpcap has for it here (pcap-linktype(7))."""

_LIBRARIES: Final = ("libpcap.so.0.8", "libpcap.so.1", "libpcap.so")
_NETMASK_UNKNOWN: Final = 0xFFFFFFFF
_ERROR_OCTETS: Final = 256
_SO_ATTACH_FILTER: Final = 26
_SO_LOCK_FILTER: Final = 44
_PCAP_FILE: Final = struct.Struct("=IHHiIII")
_PCAP_MAGIC: Final = 0xA1B2C3D4
_TIMEOUT_S: Final = 10


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.POINTER(_Instruction)))


def compile_filter(expression: str) -> Filter:
    """The filter for `expression`; an empty one lets everything pass.

    Raises:
        UsageError: it is no filter; in libpcap's words.
        MachineError: neither libpcap nor tcpdump is here.
    """
    if "\0" in expression:
        raise UsageError("the capture filter holds a null character")
    if any("\ud800" <= character <= "\udfff" for character in expression):  # what the shell gave was no UTF-8
        raise UsageError("the capture filter is no UTF-8 text", hint="man pcap-filter")
    if not expression.strip():
        return Filter("", dict.fromkeys(_LINK_TYPES, ((0x06, 0, 0, SNAPLEN_MAX),)))
    programs: dict[int, Program] = {}
    library = _library()
    for link_type, dlt in _LINK_TYPES.items():
        try:
            programs[link_type] = _by_library(library, expression, dlt) if library else _by_tcpdump(expression, dlt)
        except UsageError:
            # An Ethernet address in a filter means that only Ethernet frames can pass it.
            if link_type == LINKTYPE_ETHERNET:
                raise
    return Filter(expression, programs)


def asks_for_tags(expression: str) -> bool:
    """Whether a VLAN tag decides. The kernel takes tags out of frames, so a program then must be made for a live
    interface (`compile_live`)."""
    return re.search(r"\bvlan\b", expression) is not None


def compile_live(expression: str, interface: str) -> Program | None:
    """The program for `expression` at `interface` of the caller's network namespace, with the kernel's own extensions
    for VLAN tags; None when libpcap is not here or cannot listen there."""
    library = _library()
    if library is None:
        return None
    handle = library.pcap_create(interface.encode(), ctypes.create_string_buffer(_ERROR_OCTETS))
    if not handle:
        return None
    try:
        library.pcap_set_snaplen(handle, SNAPLEN_MAX)
        library.pcap_set_buffer_size(handle, 1 << 20)
        if library.pcap_activate(handle) < 0 or library.pcap_datalink(handle) != _LINK_TYPES[LINKTYPE_ETHERNET]:
            return None
        return _compile(library, handle, expression)
    except UsageError:
        return None
    finally:
        library.pcap_close(handle)


def attach(sock: socket.socket, program: Program) -> None:
    """Let only packets that pass `program` reach `sock`, for as long as it is open.

    Raises:
        OSError: the kernel refuses the program.
    """
    octets = b"".join(struct.pack("@HBBI", *instruction) for instruction in program)
    held = ctypes.create_string_buffer(octets, len(octets))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(held)))
    sock.setsockopt(socket.SOL_SOCKET, _SO_LOCK_FILTER, 1)


def _library() -> Any:
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        handle, text = ctypes.c_void_p, ctypes.c_char_p
        library.pcap_open_dead.restype = library.pcap_create.restype = handle
        library.pcap_open_dead.argtypes = [ctypes.c_int, ctypes.c_int]
        library.pcap_create.argtypes = [text, ctypes.c_char_p]
        library.pcap_set_snaplen.argtypes = library.pcap_set_buffer_size.argtypes = [handle, ctypes.c_int]
        library.pcap_activate.argtypes = library.pcap_datalink.argtypes = library.pcap_close.argtypes = [handle]
        library.pcap_geterr.argtypes = [handle]
        library.pcap_close.restype = None
        library.pcap_geterr.restype = text
        pointer = ctypes.POINTER(_Program)
        library.pcap_compile.argtypes = [handle, pointer, text, ctypes.c_int, ctypes.c_uint]
        library.pcap_freecode.argtypes = [pointer]
        library.pcap_freecode.restype = None
        return library
    return None


def _by_library(library: Any, expression: str, dlt: int) -> Program:
    with _dead(library, dlt) as handle:
        return _compile(library, handle, expression)


@contextmanager
def _dead(library: Any, dlt: int) -> Iterator[int]:
    """A libpcap handle that has a link type and no interface."""
    handle = library.pcap_open_dead(dlt, SNAPLEN_MAX)
    if not handle:
        raise MachineError("libpcap has no memory")
    try:
        yield handle
    finally:
        library.pcap_close(handle)


def _compile(library: Any, handle: int, expression: str) -> Program:
    made = _Program()
    if library.pcap_compile(handle, ctypes.byref(made), expression.encode(), 1, _NETMASK_UNKNOWN) < 0:
        raise _wrong(expression, library.pcap_geterr(handle).decode(errors="replace"))
    try:
        found = made.instructions[: made.length]
        return tuple((each.code, each.jt, each.jf, each.k) for each in found)
    finally:
        library.pcap_freecode(ctypes.byref(made))


def _by_tcpdump(expression: str, dlt: int) -> Program:
    """What `tcpdump -ddd` prints for a capture file of that link type: it needs no interface and no rights then."""
    program = tools.find("tcpdump")
    if program is None:
        raise MachineError("a capture filter needs libpcap or tcpdump", hint=tools.package_hint(["tcpdump"]))
    empty = _PCAP_FILE.pack(_PCAP_MAGIC, 2, 4, 0, 0, SNAPLEN_MAX, LINKTYPE_RAW if dlt == _DLT_RAW else dlt)
    done = subprocess.run(
        [program, "-r", "-", "-ddd", "--", expression],
        input=empty,
        capture_output=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise _wrong(expression, said.removeprefix("tcpdump: "))
    rows = [[int(word) for word in line.split()] for line in done.stdout.decode().splitlines()[1:]]
    return tuple((code, jt, jf, k) for code, jt, jf, k in rows)


def _wrong(expression: str, said: str) -> UsageError:
    said = said.removeprefix("can't parse filter expression: ")
    return UsageError(f"the capture filter '{expression}' is wrong: {said}", hint="man pcap-filter")
