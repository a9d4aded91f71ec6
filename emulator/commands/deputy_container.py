"""The container in which a deputy runs: made, entered, and waited for."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.commands.deputy import talk
from emulator.errors import CommandFailed, MachineError
from emulator.run import deputy, runs

if TYPE_CHECKING:
    from docker import APIClient

_IMAGE = "base"
_START_S = 60.0

_ENTER = """
here=$(readlink /proc/"$2"/ns/mnt /proc/self/ns/user; cat /proc/sys/kernel/random/boot_id)
[ "$here" = "$1" ] || { echo elsewhere; exit 1; }
pid=$2 uid=$3 gid=$4 groups=$5 caps=$6
shift 6
exec setpriv --reuid "$uid" --regid "$gid" "$groups" --inh-caps="$caps" --ambient-caps="$caps" -- \\
     nsenter --target "$pid" --mount --cgroup -- "$@"
"""
"""In the container: become the user, with the capabilities, then see the files that the caller sees. First of all it
asks whether process numbers and user ids mean here what they mean to the caller; the first namespaces of every machine
have the same numbers, so it asks whether this is the same machine, too."""


def start(code: str, arguments: Sequence[str], *, name: str, stays: bool, extra: Sequence[str] = ()) -> int:
    """Start a deputy and have it run a command with this process's streams; returns the command's exit status.

    It goes when the command has ended, or with the lab that the command has left running.

    Args:
        code, arguments: as for `in_lab`.
        name: of the lab that it is for.
        stays: when it succeeds, the command leaves a lab running.
        extra: capabilities beyond the usual ones.

    Raises:
        MachineError: there is no engine, no right to use it, or no image.
        CommandFailed: it ended before its time.
    """
    from emulator.run import engine

    path = engine.usable()
    folder, lock = _make_folder()
    try:
        with deputy.listen(folder) as listener, contextlib.ExitStack() as stack:
            stack.callback(os.close, lock)
            connection = stack.enter_context(_bring(path, folder, listener, name, extra))
            status = talk(connection, code, arguments, beside=(listener.fileno(), lock))
    except BaseException:
        with contextlib.suppress(OSError):
            engine.remove_all(path, str(folder))
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()
        raise
    if status != 0 or not stays:
        engine.wait_gone(folder)
    return status


def _make_folder() -> tuple[Path, int]:
    """A private folder, and a lock in it that tells others that somebody still needs it."""
    base = runs.base()
    for _ in range(20):
        with contextlib.suppress(FileNotFoundError):  # a lab that ended has removed the empty base in between
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
            # By the number at its end `runs.tidy` knows that somebody is about to lock it.
            folder = Path(tempfile.mkdtemp(prefix=".deputy-", suffix=f".{os.getpid()}", dir=base))
            return folder, _lock(folder)
    raise CommandFailed(f"cannot make a folder in {base}")


def _lock(folder: Path) -> int:
    lock = os.open(folder / "lock.new", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(folder / "lock.new", folder / "lock")
    except BaseException:
        os.close(lock)
        raise
    return lock


def _bring(path: str, folder: Path, listener: socket.socket, name: str, extra: Sequence[str]) -> socket.socket:
    """Start the container, and wait until the deputy in it has connected."""
    import docker
    from docker.errors import DockerException, ImageNotFound

    from emulator.plan.containers import own_image

    image = own_image(_IMAGE)
    client = docker.DockerClient(base_url=f"unix://{path}", timeout=int(_START_S))
    try:
        container = _create(client.api, image, folder, name, extra)
        said = _Said(client.api, container)
        client.api.start(container)
        ready, _, _ = select.select([listener.fileno(), said.fileno()], [], [], _START_S)
    except ImageNotFound:
        raise MachineError(f"the engine has no image {image}", hint="make images") from None
    except DockerException as error:
        reason = getattr(error, "explanation", None) or error
        raise MachineError(f"the engine cannot start a container for what takes root: {reason}") from None
    if listener.fileno() not in ready:
        raise _why(said.text())
    return listener.accept()[0]


def _why(said: str) -> MachineError:
    if said == "elsewhere":
        return MachineError(
            "to put interfaces into containers takes root, and the engine's containers cannot get it here",
            hint="use sudo; the engine must run as root, outside the container in which this is",
        )
    return MachineError(f"a container for what takes root ended at once: {said or 'it said nothing'}", hint="use sudo")


def _create(api: APIClient, image: str, folder: Path, name: str, extra: Sequence[str]) -> str:
    from docker.types import LogConfig

    from emulator.plan.containers import CAPABILITIES
    from emulator.run import engine

    capabilities = sorted({*CAPABILITIES, *deputy.CAPABILITIES, *extra})
    groups = ",".join(str(group) for group in os.getgroups())
    identity = [
        _here(), str(os.getpid()), str(os.geteuid()), str(os.getegid()),
        f"--groups={groups}" if groups else "--clear-groups",
        ",".join(["-all", *(f"+{capability.lower()}" for capability in capabilities)]),
    ]  # fmt: skip
    config = api.create_host_config(
        pid_mode="host",
        network_mode="none",
        userns_mode="host",
        cap_drop=["ALL"],
        cap_add=capabilities,
        security_opt=["apparmor=unconfined", "label=disable"],
        auto_remove=True,
        read_only=True,
        log_config=LogConfig(type=LogConfig.types.NONE),
    )
    created = api.create_container(
        image,
        entrypoint=["sh", "-c", _ENTER, "deputy"],
        command=[*identity, sys.executable, "-I", "-S", str(Path(deputy.__file__).resolve()), str(folder)],
        name=f"wirelab-{os.geteuid()}-{folder.name.lstrip('.')}",
        user="0:0",
        working_dir="/",
        healthcheck={"test": ["NONE"]},
        labels={engine.LAB: name, engine.NODE: "", engine.RUN: str(folder), engine.OWNER: str(os.geteuid())},
        host_config=config,
    )
    return str(created["Id"])


def _here() -> str:
    """What `_ENTER` has to find of the calling process and its machine."""
    own = os.readlink("/proc/self/ns/mnt"), os.readlink("/proc/self/ns/user")
    return "\n".join((*own, Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()))


class _Said:
    """What a container says until it ends; readable (`fileno`) when it has ended."""

    def __init__(self, api: APIClient, container: str) -> None:
        self._ended, ending = os.pipe2(os.O_CLOEXEC)
        self._octets = b""
        stream = api.attach(container, stdout=True, stderr=True, stream=True)

        def read() -> None:
            try:
                for part in stream:
                    self._octets += part
            finally:
                os.close(ending)

        threading.Thread(target=read, daemon=True).start()

    def fileno(self) -> int:
        return self._ended

    def text(self) -> str:
        return self._octets.decode(errors="replace").strip()
