"""What the one has who types `wirelab up` and `wirelab exec`: a terminal, open files, keys of the session. None of it
is for programs in nodes."""

from __future__ import annotations

import json
import os
import pty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Person
from tests.live.conftest import processes

KEY_CALLS = {"x86_64": (248, 250), "aarch64": (217, 219)}
"""The numbers of add_key and keyctl."""

LAB = """
name: {name}
nodes:
  a:
    exec: [[sh, -c, "ls -l /proc/self/fd >/run/built"]]
    files: {{/run/read-key: {script}}}
    programs:
      look:
        run: [sh, -c, "ls -l /proc/self/fd >/run/seen; python3 /run/read-key >/run/key; : >/run/done; sleep 1000"]
        ready: {{file: /run/done}}
  b: {{}}
links: [[a, b]]
"""

READ_KEY = """
import ctypes, json
add_key, keyctl = {calls}
libc = ctypes.CDLL(None, use_errno=True)
room = ctypes.create_string_buffer(64)
found = libc.syscall(keyctl, 10, -3, b"user", b"of-the-session", 0)
said = [found if found < 0 else libc.syscall(keyctl, 11, found, room, 64), ctypes.get_errno(), room.value.decode()]
ctypes.set_errno(0)
added = libc.syscall(add_key, b"user", b"another", b"x", 1, -3)
print(json.dumps([*said, added > 0, ctypes.get_errno()]))
"""
"""Search the keyring of the session for a key and read it (keyctl(2)), and add one."""

WITH_KEY = """
import ctypes, os, sys
add_key, keyctl = {calls}
libc = ctypes.CDLL(None, use_errno=True)
assert libc.syscall(keyctl, 1, None) > 0
assert libc.syscall(add_key, b"user", b"of-the-session", b"a secret", 8, -3) > 0
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Become the program that the arguments name, in a session of its own that has a key."""

EPERM = 1


def with_key(person: Person, *argv: str) -> list[str]:
    """`argv` in a session that has a key."""
    return [person.python, "-c", WITH_KEY.format(calls=KEY_CALLS[os.uname().machine]), *argv]


@pytest.fixture
def folder(person: Person, lab_name: str) -> Iterator[int]:
    """A descriptor of a folder of the machine, as a shell has it after `exec 9<FOLDER`."""
    place = person.home / f"{lab_name}-open"
    place.mkdir()
    descriptor = os.open(place, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)
    place.rmdir()


def test_open_files_and_keys(
    person: Person, lab_name: str, folder: int, nothing_left: Callable[[], None], tmp_path: Path
) -> None:
    name = f"{lab_name}-open"
    script = READ_KEY.format(calls=KEY_CALLS[os.uname().machine])
    file = person.home / f"{lab_name}.yml"
    file.write_text(LAB.format(name=lab_name, script=json.dumps(script)))
    file.chmod(0o644)
    up = person.run(with_key(person, *person.argv("up", str(file))), pass_fds=(folder,))
    assert up.returncode == 0, up.stderr
    seen = person.wirelab("exec", lab_name, "a", "--", "cat", "/run/seen", "/run/built").stdout
    assert seen.count(" -> ") >= 8
    for node in ("a", "a,b"):
        seen += person.wirelab("exec", lab_name, node, "--", "ls", "-l", "/proc/self/fd", pass_fds=(folder,)).stdout
    assert name not in seen
    held = [os.path.realpath(path) for pid in processes(f"init.py {person.runs / lab_name} ")
            for path in Path(f"/proc/{pid}/fd").iterdir()]  # fmt: skip
    assert held
    assert not [path for path in held if name in path], "the lab holds what the command was given"
    of_service = person.wirelab("exec", lab_name, "a", "--", "cat", "/run/key").stdout
    by_exec = person.run(with_key(person, *person.argv("exec", lab_name, "a", "--", "python3", "/run/read-key")))
    assert json.loads(of_service) == json.loads(by_exec.stdout) == [-1, EPERM, "", False, EPERM]
    person.wirelab("down", lab_name)
    # The twin: what this person starts outside of a lab has both, also in a user namespace of its own.
    assert name in person.run(["ls", "-l", "/proc/self/fd"], pass_fds=(folder,)).stdout
    for around in ([], ["unshare", "--user", "--map-root-user", "--mount"]):
        outside = person.run(with_key(person, *around, person.python, "-c", script))
        assert json.loads(outside.stdout) == [8, 0, "a secret", True, 0], outside.stderr


TYPE = r"""
import ctypes, json
libc = ctypes.CDLL(None, use_errno=True)
def ask(command):
    done = libc.ioctl(0, ctypes.c_ulong(command), ctypes.create_string_buffer(b"x", 16))
    return 0 if done >= 0 else ctypes.get_errno()
print(json.dumps([ask(0x5412), ask(0x5412 | 1 << 32), ask(0x541C), ask(0x5413)]))
"""
"""Type into the terminal (ioctl_tty(2)): TIOCSTI, the same with more bits than the kernel looks at, TIOCLINUX. And
TIOCGWINSZ, which is nothing bad."""

ENOTTY = 25


def on_a_terminal(person: Person, *argv: str) -> list[int]:
    """What `argv` prints whose controlling terminal is a new one."""
    leader, follower = pty.openpty()
    try:
        done = person.run(["setsid", "--ctty", "--wait", *argv], stdin=follower)
    finally:
        os.close(follower)
        os.close(leader)
    assert done.returncode == 0, done.stderr
    found: list[int] = json.loads(done.stdout)
    return found


@pytest.fixture
def lab(person: Person, lab_name: str, nothing_left: Callable[[], None]) -> Iterator[str]:
    """A running lab."""
    file = person.home / f"{lab_name}.yml"
    file.write_text(f"name: {lab_name}\nnodes: {{a: {{}}, b: {{}}}}\nlinks: [[a, b]]\n")
    file.chmod(0o644)
    person.wirelab("up", str(file))
    yield lab_name
    person.wirelab("down", lab_name)


def test_nobody_types_into_the_terminal(person: Person, lab: str) -> None:
    script = (person.python, "-c", TYPE)
    assert on_a_terminal(person, *person.argv("exec", lab, "a", "--"), *script) == [EPERM, EPERM, EPERM, 0]
    outside = on_a_terminal(person, *script)
    assert outside[3] == 0
    allowed = Path("/proc/sys/dev/tty/legacy_tiocsti")
    if person.uid == 0 or not allowed.exists() or allowed.read_text() == "1\n":
        assert outside == [0, 0, ENOTTY, 0], "the twin: outside of a lab it works"
    filters = person.wirelab("exec", lab, "b", "--", "grep", "Seccomp:", "/proc/self/status").stdout.split()
    assert filters == ["Seccomp:", "2"]
