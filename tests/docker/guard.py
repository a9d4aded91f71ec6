"""A Docker Engine that ends with its owner: guard.py FOLDER OWNER_PID [own-network].

It runs dockerd in a mount namespace of its own, with all its data in FOLDER, until the process OWNER_PID ends, however
it ends, or SIGTERM comes. Then it removes everything: processes, mounts, control groups, the folder. Nothing of the
machine is changed meanwhile: what dockerd would write elsewhere is covered, and either it has no bridge and sets no
rules, or (`own-network`) it has its default bridge and rules in a network namespace of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from emulator.run import kernel

COVERED = ("/etc/docker", "/opt/containerd", "/run/containerd", "/run/docker")
"""Where dockerd and containerd write whatever their options say."""
MARK = ".made-by-the-tests-of-wirelab"
NO_NETWORK = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false")


def main(folder: Path, owner: int, own_network: bool) -> None:
    """Guard an engine until its owner ends."""
    owner_fd = os.pidfd_open(owner)
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake_write)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    kernel.unshare(kernel.CLONE_NEWNS | (kernel.CLONE_NEWNET if own_network else 0))
    kernel.mount("", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
    held = cover()
    group = folder.name
    try:
        if own_network:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        with subprocess.Popen(command(folder, group, own_network), stdin=subprocess.DEVNULL) as daemon:
            daemon_fd = os.pidfd_open(daemon.pid)
            select.select([owner_fd, daemon_fd, wake_read], [], [])
            daemon.terminate()
            if not select.select([daemon_fd], [], [], 20)[0]:
                daemon.kill()
    finally:
        clean(folder, group)
        uncover(held)


def command(folder: Path, group: str, own_network: bool) -> list[str]:
    """The command line of dockerd."""
    argv = ["dockerd", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"]
    argv += ["--host", f"unix://{folder}/sock", "--cgroup-parent", f"/{group}"]
    argv += ["--exec-opt", "native.cgroupdriver=cgroupfs", "--log-level", "warn"]
    return argv if own_network else [*argv, *NO_NETWORK]


def cover() -> list[tuple[str, int]]:
    """Cover the folders that belong to the machine's own engine; those that are missing are made for that, and marked.

    Returns:
        The folders, each with a descriptor that holds a lock on it: guards share them.
    """
    held = []
    for place in COVERED:
        descriptor = hold(place)
        held.append((place, descriptor))
        kernel.mount("covered", place, "tmpfs", 0, "mode=0711")
    # dockerd raises the kernel's limits for keys (kernel.keys.root_maxkeys) when it can.
    kernel.mount("/proc/sys/kernel", "/proc/sys/kernel", "", kernel.MS_BIND)
    kernel.mount("", "/proc/sys/kernel", "", kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY)
    return held


def hold(place: str) -> int:
    """A descriptor of a folder with a shared lock on it; the folder is made when it is missing."""
    while True:
        with contextlib.suppress(FileExistsError):
            os.mkdir(place, 0o711)
            Path(place, MARK).touch()
        try:
            descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:  # another guard removed it in between
            continue
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(place)):
                return descriptor
        os.close(descriptor)


def uncover(held: list[tuple[str, int]]) -> None:
    """Give the folders back; the last guard removes those that guards have made."""
    for place, descriptor in reversed(held):
        unmount(place)
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(MARK, dir_fd=descriptor)
            os.rmdir(place)
        os.close(descriptor)


def clean(folder: Path, group: str) -> None:
    """Remove what the engine and its containers have left: processes, control groups, mounts, the folder."""
    deadline = time.monotonic() + 15
    while (found := left_over(group)) and time.monotonic() < deadline:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        time.sleep(0.05)
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        target = line.split()[4]
        if target.startswith(f"{folder}/"):
            unmount(target)
    for path in groups(group):
        for inner in sorted([path, *(p for p in path.rglob("*") if p.is_dir())], reverse=True):
            with contextlib.suppress(OSError):
                inner.rmdir()
    shutil.rmtree(folder, ignore_errors=True)


def groups(group: str) -> list[Path]:
    """The control groups of this name, one for each hierarchy."""
    base = Path("/sys/fs/cgroup")
    return [path for path in (base / group, *(p / group for p in base.iterdir() if p.is_dir())) if path.is_dir()]


def left_over(group: str) -> list[int]:
    """Processes in our mount namespace beside this one (daemons, shims), and in our control groups (containers)."""
    own = os.readlink("/proc/self/ns/mnt")
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):
                inside = os.readlink(f"/proc/{entry}/ns/mnt") == own
                if inside or f":/{group}/" in Path(f"/proc/{entry}/cgroup").read_text():
                    found.append(int(entry))
    return found


def unmount(target: str) -> None:
    """Take a mount away, at once for who looks and for good when the last user has gone (umount2(2), MNT_DETACH)."""
    subprocess.run(["umount", "--lazy", target], check=False, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), "own-network" in sys.argv[3:])
