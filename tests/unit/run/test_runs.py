"""Run directories of labs that have ended are removed, and of no others; a first process that does not answer."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.run import control, run_directory, runs
from emulator.run.control import Control, LabGone, LabSilent, is_alive
from tests.conftest import ROOT


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of this user's run directories."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "wirelab"


def ended(base: Path, name: str) -> Path:
    """The run directory of a lab of which no process lives."""
    folder = base / name
    (folder / "log").mkdir(parents=True)
    base.chmod(0o700)
    for file in ("lock", "lab.json", "log/a-http.log"):
        (folder / file).write_text("{}")
    (folder / "away").symlink_to("/etc")
    return folder


@pytest.fixture
def living(base: Path) -> Iterator[Path]:
    """The run directory of a lab whose lock is held."""
    folder = ended(base, "living")
    with open(folder / "lock", "r+", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def test_what_has_ended_goes_and_what_lives_stays(base: Path, living: Path) -> None:
    gone = [ended(base, "gone"), ended(base, ".half.1"), ended(base, "no-lock")]
    os.utime(gone[1], (0, 0))
    (gone[2] / "lock").unlink()
    (base / "file").touch()
    runs.tidy()
    assert sorted(os.listdir(base)) == ["file", "living"]
    assert sorted(os.listdir(living)) == ["away", "lab.json", "lock", "log"]
    assert os.path.exists("/etc/passwd")


def test_two_who_ask_at_once_do_not_take_each_other_for_the_lab(base: Path, living: Path) -> None:
    folder = ended(base, "gone")
    with open(folder / "lock", "r+", encoding="utf-8") as probe:
        fcntl.flock(probe, fcntl.LOCK_SH)  # as `is_alive` of another command holds it for a moment
        assert not is_alive(folder)
        assert is_alive(living)
    assert not is_alive(base / "none")


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EACCES])
def test_what_cannot_be_told_is_taken_for_alive(
    base: Path, living: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: str, *arguments: int) -> int:
        if str(path).endswith("/lock"):
            raise OSError(number, os.strerror(number))
        return real(path, *arguments)

    monkeypatch.setattr(control.os, "open", refuse)
    assert is_alive(living)
    runs.tidy()
    assert sorted(os.listdir(living)) == ["away", "lab.json", "lock", "log"]


def test_a_lab_that_took_the_name_meanwhile_is_left(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at a lab that has ended and its removal another one begins under that name."""
    folder = ended(base, "again")

    def meanwhile(_: object) -> bool:
        os.rename(folder, base / "elsewhere")
        run_directory.make(str(folder))
        return False

    monkeypatch.setattr(control, "is_alive", meanwhile)
    runs.tidy_one(folder)
    assert os.listdir(folder) == ["lock"]
    monkeypatch.setattr(control, "is_alive", lambda _: False)  # the twin: the same without another lab
    runs.tidy_one(base / "elsewhere")
    assert os.listdir(base) == ["again"]


def test_removal_touches_no_lab_that_takes_the_name_meanwhile(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = ended(base, "again")
    real = run_directory._remove
    first = True

    def meanwhile(name: str, parent: int) -> None:
        nonlocal first
        if first:
            first = False
            os.rename(folder, base / "elsewhere")
            ended(base, "again")
        real(name, parent)

    monkeypatch.setattr(run_directory, "_remove", meanwhile)
    run_directory.remove_tree(str(folder))
    assert sorted(os.listdir(folder)) == ["away", "lab.json", "lock", "log"]
    assert os.listdir(folder / "log") == ["a-http.log"]
    assert os.listdir(base / "elsewhere") == []
    run_directory.remove_tree(str(folder))
    assert os.listdir(base) == ["elsewhere"]


def listening(folder: Path) -> socket.socket:
    """A first process that accepts connections, as the kernel does for one that is stopped, and says nothing."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    here = os.open(folder, os.O_RDONLY)
    listener.bind(f"/proc/self/fd/{here}/ctl")
    os.close(here)
    listener.listen()
    return listener


def test_who_does_not_answer_is_told_of(living: Path) -> None:
    with listening(living) as listener:
        with Control(living, 0.05) as link, pytest.raises(LabSilent, match="the lab living does not answer"):
            link.services()
        listener.accept()[0].close()
        with Control(living, 20) as link:
            peer = listener.accept()[0]
            threading.Thread(target=lambda: (peer.recv(100), peer.send(b'{"services": []}'), peer.close())).start()
            assert link.services() == []
            with pytest.raises(LabGone):
                link.services()


def test_the_handle_of_the_first_process(living: Path) -> None:
    with listening(living) as listener, Control(living) as link:
        handle = link.peer_handle()
        signal.pidfd_send_signal(handle, 0)
        os.close(handle)
        listener.accept()[0].close()
        with pytest.raises(ProcessLookupError):  # it ended: the number may be another's
            link.peer_handle()


KILLED = """
import errno, os, signal, sys
from emulator.run import id_maps, keeper as program
def killed(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
def refused(pid):
    raise PermissionError(errno.EPERM, "not permitted")
id_maps.map_ids = {"killed": killed, "refused": refused}[sys.argv[1]]
reading, writing = os.pipe()
lifeline, other = os.pipe()
keeper = os.fork()
if not keeper:
    os._exit(program.main([sys.argv[2], "lab", str(lifeline), str(writing)]))
os.close(writing)
os.waitpid(keeper, 0)
print(os.read(reading, 4096).decode())
"""


@pytest.mark.parametrize(("how", "said"), [("killed", ""), ("refused", "not permitted")])
def test_a_first_process_that_is_killed_before_its_ids_are_mapped(tmp_path: Path, how: str, said: str) -> None:
    """Of one that was killed nothing is said, so that `up` tells that it was killed; what is refused is said."""
    argv = [sys.executable, "-c", KILLED, how, str(tmp_path / "base" / "lab")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)
    assert done.stderr == ""
    assert said in done.stdout
    assert bool(done.stdout.strip()) == bool(said)
    assert not (tmp_path / "base").exists()
