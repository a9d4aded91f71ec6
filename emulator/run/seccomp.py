"""Which calls to the kernel no program in a node may make, as a filter of seccomp(2). Standard library only.

- ioctl TIOCSTI and TIOCLINUX: `exec` and `shell` give a program the user's own terminal, and with these it could type
  into the shell from which it was started (ioctl_tty(2)).
- add_key, request_key, keyctl: the keys of the user's session are nobody's who runs in a node (keyrings(7)). A keyring
  of one's own would do as well, but each counts against the user's quota (`kernel.keys.maxkeys`, 200).

All else is let through. The kernel looks at one argument, and only of ioctl.
"""

from __future__ import annotations

import errno
import struct
from typing import Final

TIOCSTI: Final = 0x5412
TIOCLINUX: Final = 0x541C

_X32: Final = 0x40000000
CALLS: Final = {
    0xC000003E: ((16, _X32 | 514), (248, 249, 250, _X32 | 248, _X32 | 249, _X32 | 250)),  # x86-64
    0x40000003: ((54,), (286, 287, 288)),  # i386
    0xC00000B7: ((29,), (217, 218, 219)),  # aarch64
    0x40000028: ((54,), (309, 310, 311)),  # arm
    0xC00000F3: ((29,), (217, 218, 219)),  # riscv64
}
"""Architecture (AUDIT_ARCH_…, linux/audit.h) → the numbers of ioctl, and of the calls about keys."""

# linux/bpf_common.h and linux/seccomp.h; all architectures above are little-endian.
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER, _ARCHITECTURE, _COMMAND = 0, 4, 24
"""Where in `struct seccomp_data` the call's number is, the architecture, and the lower half of the second argument: the
kernel itself looks at no more of ioctl's."""
ALLOW: Final = 0x7FFF0000
REFUSE: Final = 0x00050000 | errno.EPERM


def program() -> bytes:
    """The filter, as classic BPF (`struct sock_filter`, eight octets an instruction)."""
    found: list[tuple[int, int, int, int]] = []
    for architecture, (ioctl, keys) in CALLS.items():
        tests = [(number, "command") for number in ioctl] + [(number, "refuse") for number in keys]
        rest_of_part = 1 + len(tests) + 6
        found += [(_LOAD, 0, 0, _ARCHITECTURE), (_IF_EQUAL, 0, rest_of_part, architecture), (_LOAD, 0, 0, _NUMBER)]
        for place, (number, then) in enumerate(tests):
            rest = len(tests) - place - 1
            found.append((_IF_EQUAL, rest + (1 if then == "command" else 5), 0, number))
        found += [
            (_RETURN, 0, 0, ALLOW),
            (_LOAD, 0, 0, _COMMAND),
            (_IF_EQUAL, 2, 0, TIOCSTI),
            (_IF_EQUAL, 1, 0, TIOCLINUX),
            (_RETURN, 0, 0, ALLOW),
            (_RETURN, 0, 0, REFUSE),
        ]
    found.append((_RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in found)
