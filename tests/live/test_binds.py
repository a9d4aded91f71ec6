"""What of the user's files a lab file may have, after the user has been shown and has agreed, and nothing else."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Person
from tests.live.conftest import processes, wait_until
from tests.live.two_nodes import folder_of, give, lab_file

pytestmark = pytest.mark.warm


@pytest.fixture
def app(person: Person, lab_name: str) -> Path:
    """A folder of this person with one file."""
    folder = folder_of(person, f"{lab_name}-app")
    (folder / "file").write_text("mine")
    give(person, folder / "file")
    return folder


def test_binds_need_agreement(person: Person, lab_name: str, app: Path, nothing_left: Callable[[], None]) -> None:
    link = app.parent / f"{lab_name}-link"
    link.symlink_to(app)
    file = lab_file(person, lab_name, binds=f'"{app}:/opt/app:ro", "../{link.name}/../{link.name}:/srv/app"')
    for words in (["up", str(file)], ["verify", str(file)], ["verify", str(file), str(file)]):
        refused = person.wirelab(*words, status=None)
        assert refused.returncode in (1, 2)
        said = " ".join((refused.stderr + refused.stdout).split())
        assert f"a gets the folder {app} at /opt/app, to read" in said
        assert f"a gets the folder {app} (written" in said
        assert "at /srv/app, to read AND CHANGE" in said
        assert "--allow-binds" in said
    assert not (person.runs / lab_name).exists()
    person.wirelab("up", str(file), "--allow-binds")
    try:
        inside = ("exec", lab_name, "a", "--", "sh", "-c")
        assert person.wirelab(*inside, "cat /opt/app/file /srv/app/file").stdout == "minemine"
        assert "Read-only" in person.wirelab(*inside, "echo x >/opt/app/file", status=2).stderr
        assert "Read-only" in person.wirelab(*inside, "echo x >/opt/app/new", status=2).stderr
        person.wirelab(*inside, "echo changed >/srv/app/new; ls / /.shared /.lab >/dev/null")
        assert (app / "new").read_text() == "changed\n"
        assert person.wirelab(
            "exec", lab_name, "b", "--", "sh", "-c", "ls /opt/app /srv/app; ls -A /.shared"
        ).stdout == ("/opt/app:\n\n/srv/app:\n")
        for way in ("/opt/app/../../..", "/srv/app/.."):
            assert app.name not in person.wirelab(*inside, f"ls {way}").stdout
    finally:
        person.wirelab("down", lab_name)
        shutil.rmtree(app)
        link.unlink()


def test_a_link_in_what_is_shared_does_not_lead_to_the_rest_of_it(
    person: Person, lab_name: str, app: Path, nothing_left: Callable[[], None]
) -> None:
    """A folder to read stays as it is, also where another bind goes through a link in it."""
    other = folder_of(person, f"{lab_name}-other")
    places = {"sly": "/.shared/1/made", "plain": "/tmp/made", "nothing": "/.lab/b/made"}
    for name, target in places.items():
        (app / name).symlink_to(target)
    try:
        for name, works in (("sly/x", False), ("nothing/x", False), ("plain/x", True)):
            binds = f'"{app}:/opt/app:ro", "{other}:/srv/other:ro", "{app}/file:/opt/app/{name}:ro"'
            file = lab_file(person, lab_name, binds=binds, programs="wait: sleep 1000")
            up = person.wirelab("up", str(file), "--allow-binds", status=None)
            assert (up.returncode == 0) == works, (name, up.stderr)
            assert not list(other.iterdir())
            if works:
                read = person.wirelab("exec", lab_name, "a", "--", "cat", "/tmp/made/x").stdout
                assert read == "mine"
                person.wirelab("down", lab_name)
        assert sorted(path.name for path in app.iterdir()) == sorted(["file", *places])
    finally:
        person.wirelab("down", lab_name, status=None)
        shutil.rmtree(app)
        shutil.rmtree(other)


@pytest.mark.parametrize(("answer", "status"), [("y\n", 0), ("n\n", 2), ("\n", 2), ("yes\n", 0), ("\x04", 2)])
def test_a_question_on_a_terminal(user: Person, lab_name: str, answer: str, status: int) -> None:
    folder = folder_of(user, f"{lab_name}-app")
    file = lab_file(user, lab_name, binds=f'"{folder}:/opt/app"')
    leader, follower = pty.openpty()
    os.fchmod(follower, 0o666)
    os.write(leader, b"y\n")  # typed before the question is there: no answer to it
    process = user.popen(
        user.argv("up", str(file)), stdin=follower, stdout=subprocess.PIPE, stderr=follower, start_new_session=True
    )
    os.close(follower)
    said = ""
    deadline = time.monotonic() + 20
    while "[y/N]" not in said and time.monotonic() < deadline:
        if select.select([leader], [], [], 0.5)[0]:
            said += os.read(leader, 4096).decode()
    assert f"a gets the folder {folder} at /opt/app, to read AND CHANGE" in said
    os.write(leader, answer.encode())
    process.communicate(timeout=60)
    assert process.returncode == status
    assert (user.runs / lab_name).exists() == (status == 0)
    os.close(leader)
    user.wirelab("down", lab_name, status=None)
    folder.rmdir()


def test_what_changes_after_the_agreement_is_not_shared(user: Person, lab_name: str) -> None:
    """The path that was agreed to is looked up again without following links, and must be the same file."""
    from emulator.run.view import Shared

    folder = folder_of(user, f"{lab_name}-app")
    info = folder.stat()
    good = Shared("x", str(folder), info.st_dev, info.st_ino)
    other = user.home / f"{lab_name}-other"
    other.symlink_to(folder)
    cases = {
        "same": (good, True),
        "another file": (good._replace(inode=info.st_ino + 1), False),
        "a link": (good._replace(path=str(other)), False),
        "below a link": (good._replace(path=f"{other}/."), False),
        "gone": (good._replace(path=f"{folder}-gone"), False),
    }
    for name, (shared, works) in cases.items():
        code = (
            "import sys; from emulator.run import starting, view\n"
            f"start = starting.Start({lab_name!r}, shared=[view.Shared(*{tuple(shared)!r})])\n"
            "start.wait_ready(); print('ready'); start.close()"
        )
        done = user.run([user.python, "-c", code])
        assert (done.stdout == "ready\n") == works, (name, done.stdout, done.stderr)
        wait_until(lambda: not (user.runs / lab_name).exists(), "the lab is gone")
    other.unlink()
    folder.rmdir()


def test_a_link_of_a_node_does_not_lead_the_builder_out(person: Person, lab_name: str) -> None:
    """What a node left in a place that outlives its power is not followed when its files are written again."""
    victim = folder_of(person, f"{lab_name}-victim")
    file = person.home / f"{lab_name}.yml"
    file.write_text(
        f"name: {lab_name}\nnodes: {{a: {{files: {{/var/tmp/d/authorized_keys: owned}}}}, b: {{}}}}\nlinks: [[a, b]]\n"
    )
    file.chmod(0o644)
    person.wirelab("up", str(file))
    try:
        script = f"rm -r /var/tmp/d && ln -s {victim} /var/tmp/d"
        person.wirelab("exec", lab_name, "a", "--", "sh", "-c", script)
        person.wirelab("fault", lab_name, "kill", "a")
        again = person.wirelab("fault", lab_name, "restart", "a", status=None)
        assert again.returncode == 1
        assert "cannot write /var/tmp/d/authorized_keys in a" in again.stderr
        assert list(victim.iterdir()) == []
    finally:
        person.wirelab("down", lab_name)
        victim.rmdir()
    assert not processes(str(person.runs / lab_name))
