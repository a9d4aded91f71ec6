"""What a kernel and a machine refuse for real: the exit status, an error that names the operation, the node and the
reason, what to do about it, and nothing left.

Limits and missing programs are those of namespaces that each test makes for itself; nothing of the machine is changed.
"""

from __future__ import annotations

import re
import resource
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import Person
from tests.live.test_kill_anywhere import LAB
from tests.live.traces import Watch, often, watching

IN_A_NAMESPACE = ("unshare", "-Urm")
"""Of users and mounts: there everyone is root, and may mount and set limits, for this namespace alone."""


@dataclass(frozen=True)
class Failing:
    """A lab of a person that will not come up."""

    person: Person
    watch: Watch
    name: str
    file: Path

    def up(
        self, prepare: str, *values: str, text: str = LAB, status: int, file: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """`wirelab up` in a namespace of its own, after the shell commands `prepare`, which see `values` as $1, $2, …;
        then what is in the run directories is printed."""
        self.file.write_text(text)
        words = self.person.argv("up", *(file.split() or [str(self.file)]), "--name", self.name)
        after = 'shift $n; "$@"; s=$?; cd "$XDG_RUNTIME_DIR"; find . -mindepth 1; exit $s'
        script = f"n={len(values)}\nset -e\n{prepare}\nset +e\n{after}"
        done = self.person.run([*IN_A_NAMESPACE, "sh", "-c", script, "sh", *values, *words])
        assert "Traceback" not in done.stderr
        assert done.returncode == status, done.stderr
        assert done.stdout == "", "nothing is printed, and the run directory is gone"
        return done

    def nothing_left(self) -> None:
        """Of the last failure; the lab file is ours."""
        self.file.unlink(missing_ok=True)
        self.watch.check()

    def with_program(self, name: str, script: str, status: int, text: str = LAB) -> str:
        """`wirelab up` where the program `name` is another one; what is said then."""
        fake = self.person.home / "temporary" / name
        fake.write_text(script)
        fake.chmod(0o755)
        try:
            hide = 'mount --bind "$1" "$(readlink -f "$(command -v "$2")")"'
            return self.up(hide, str(fake), name, text=text, status=status).stderr
        finally:
            fake.unlink()


@pytest.fixture
def failing(person: Person, lab_name: str) -> Iterator[Failing]:
    """A lab before `up`; afterwards nothing of it may be there, and the next `up` works."""
    with watching(person) as watch:
        file = watch.person.home / "temporary" / f"{lab_name}.yml"
        yield Failing(watch.person, watch, lab_name, file)
        file.unlink(missing_ok=True)
        watch.check()
        watch.person.wirelab("up", "--topology", "single,2", "--name", lab_name)
        watch.person.wirelab("down", lab_name)
        watch.check()


def test_quota_of_namespaces(failing: Failing) -> None:
    """The lab's first process takes one, each node another one."""
    for most in (2, 4):
        said = failing.up(f"echo {most} >/proc/sys/user/max_net_namespaces", status=3).stderr
        names = ["pc", "gw", "res", "root", "web", "sw"]
        assert re.match(
            rf"wirelab: cannot create the node ({'|'.join(names)}): unshare: No space left on device\n", said
        ), said
        assert "  hint: a limit is reached: " in said
        assert "user.max_net_namespaces" in said
        failing.nothing_left()


def test_no_namespaces_at_all(failing: Failing) -> None:
    for kind in ("net", "mnt", "pid", "uts", "ipc"):
        said = failing.up(f"echo 0 >/proc/sys/user/max_{kind}_namespaces", status=3).stderr
        assert said.startswith("wirelab: cannot make namespaces: "), said
        assert "No space left on device" in said
        assert f"  hint: sudo sysctl user.max_{kind}_namespaces=10000\n" in said
        failing.nothing_left()
    said = failing.up("echo 0 >/proc/sys/user/max_user_namespaces", status=3).stderr
    assert re.match(r"wirelab: cannot make namespaces: .*No space left on device\n  hint: .*max_user_namespaces", said)


def test_few_open_files(failing: Failing) -> None:
    """Wherever they run out: in the command, the keeper, the init or the builder. (With four Python does not start.)"""
    words = ("up", "--topology", "single,12", "--name", failing.name)
    for most in range(often(8, 5), often(40, 80), often(8, 1)):
        limit = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (most, most))
        done = failing.person.wirelab(*words, status=None, preexec_fn=limit)
        if done.returncode == 0:  # so many were enough
            assert most > 12
            failing.person.wirelab("down", failing.name)
        else:
            assert done.returncode in (1, 3), done.stderr
            if "a process must open at least 21 files" in done.stderr:
                assert most < 21
            else:
                assert re.match(r"wirelab: [^\n]*Too many open files[^\n]*\n", done.stderr), done.stderr
                if "cannot" in done.stderr and "directory" not in done.stderr:
                    assert "  hint: " in done.stderr
        failing.nothing_left()


def test_full_disk(failing: Failing) -> None:
    """The run directory has room for one file more each time, until there is room for all of them."""
    for inodes in range(2, 12):
        room = f'mount -t tmpfs -o size=64k,nr_inodes={inodes} none "$XDG_RUNTIME_DIR"; chmod 700 "$XDG_RUNTIME_DIR"'
        said = failing.up(room, status=1).stderr
        assert re.match(r"wirelab: cannot (start|write|make|build) [^\n]*: No space left on device\n", said), said
        assert "  hint: " in said
        failing.nothing_left()


def test_no_room_for_the_facts(failing: Failing) -> None:
    room = 'mount -t tmpfs -o size=4k none "$XDG_RUNTIME_DIR"; chmod 700 "$XDG_RUNTIME_DIR"'
    text = "name: two\nnodes: {a: {}, b: {}}\nlinks: [[a, b]]\n" + "# a long comment\n" * 500
    said = failing.up(room, text=text, status=1).stderr
    assert re.match(r"wirelab: cannot write [^\n]*/lab\.json: No space left on device\n  hint: make room there", said)


def test_a_program_is_missing(failing: Failing) -> None:
    """It is found out before anything is made."""
    for program in ("dnsmasq", "unbound", "nsd", "busybox", "udhcpc"):
        said = failing.up(f'mount --bind /dev/null "$(readlink -f "$(command -v {program})")"', status=3).stderr
        assert re.match(rf"wirelab: this machine lacks [^\n]*\b{program} \(package", said), said
        assert "  hint: " in said and "apt-get install" in said
        failing.nothing_left()


def test_a_program_has_no_interpreter(failing: Failing) -> None:
    """What is there, and can't be run."""
    said = failing.with_program("dnsmasq", "#!/no/such/interpreter\n", 3)
    assert said.startswith("wirelab: cannot start dnsmasq on gw: there is no program dnsmasq\n  hint: "), said


def test_a_program_is_no_program(failing: Failing) -> None:
    said = failing.with_program("unbound", "\x01\x02 neither a script nor a program\n", 1)
    assert said.startswith("wirelab: cannot start unbound on res: Exec format error\n"), said


def test_a_daemon_exits_at_start(failing: Failing) -> None:
    said = failing.with_program("nsd", "#!/bin/sh\necho out of sorts >&2\nexit 3\n", 1)
    assert re.match(r"wirelab: nsd on root ended with status 3; expected that it answers DNS at 10\.0\.0\.2 ", said), (
        said
    )
    assert "  hint: it said:\n    out of sorts\n" in said


def test_a_daemon_is_killed_at_start(failing: Failing) -> None:
    said = failing.with_program("dnsmasq", "#!/bin/sh\nkill -9 $$\n", 1)
    assert said.startswith("wirelab: dnsmasq on gw was ended by signal 9; expected that it answers DNS at "), said
    assert "  hint: it said nothing\n" in said


def test_a_daemon_never_becomes_ready(failing: Failing) -> None:
    said = failing.with_program("unbound", "#!/bin/sh\necho one moment, please\nexec sleep 1000\n", 1)
    assert re.match(r"wirelab: unbound on res does not answer after 10 s; expected that it answers DNS at ", said), said
    assert "  hint: it said:\n    one moment, please\n" in said


def test_a_port_is_taken(failing: Failing) -> None:
    """A name server has the port already that a web server shall have."""
    text = LAB.replace("{http: {pages: {/:", "{unbound: {}, http: {port: 53, pages: {/:")
    said = failing.up("", text=text, status=1).stderr
    assert re.match(r"wirelab: (http|unbound) on web ended with status \d+; expected that it ", said), said
    assert re.search(r"address already in use|Address already in use|Address in use", said), said


AT_OPERATION = """
import errno, os, sys
from emulator.cli import main
from emulator.run.backends import netns
at = int(sys.argv[1])
really = netns.NetnsHands._execute
def failing(hands, operation):
    global at
    at -= 1
    if at < 0:
        at = 10_000
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    really(hands, operation)
netns.NetnsHands._execute = failing
sys.argv[1:] = sys.argv[2:]
sys.exit(main())
"""


def test_any_operation(failing: Failing) -> None:
    """The real hands with a real kernel, which has no memory at the n-th operation."""
    import json

    failing.file.write_text(LAB)
    file = str(failing.file)
    planned = json.loads(failing.person.wirelab("plan", file, "--as", "json").stdout)["operations"]
    count = len(planned)
    for number in range(0, count, often(max(1, count // 4), 1)):
        argv = [failing.person.python, "-c", AT_OPERATION, str(number), "up", file, "--name", failing.name]
        done = failing.person.run(argv)
        assert done.returncode == 1
        assert done.stderr == f"wirelab: cannot {planned[number]['text']}: Cannot allocate memory\n"
    failing.file.unlink()
    failing.watch.check()
