"""What the program of a lab's first process does (`init.py`, which is only its beginning). Standard library only.

It becomes two processes. The *keeper* stays outside: it makes the run directory, and removes it when the lab has ended,
however it ended. The *init* is the first process of the lab's own user, network, mount, PID, UTS and IPC namespaces: it
holds the nodes' namespaces, starts services, reaps orphans and records how services ended. When it ends, the kernel
takes back everything. Until the builder says `commit`, both end as soon as the lifeline pipe closes.

A lab with containers (ENGINE_SOCKET is given) needs root and has no user namespace of its own, since the containers'
network namespaces belong to the machine's. Its init stays in the machine's PID namespace, which is above those of the
containers, so that it can start processes there; the processes of its other nodes have a PID namespace whose first
process, the *anchor*, ends with the init. When the init has ended, the keeper removes the lab's containers.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
from collections.abc import Sequence

from emulator.run import id_maps, kernel, run_directory, view
from emulator.run.first_process import Init, tell

NAMESPACES = kernel.CLONE_NEWNS | kernel.CLONE_NEWNET | kernel.CLONE_NEWPID | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC


def main(arguments: list[str]) -> int:
    """Make the run directory and the namespaces, then keep them. Returns the exit status of the keeper."""
    directory, lab, lifeline, ready = arguments[0], arguments[1], int(arguments[2]), int(arguments[3])
    socket_path = arguments[4] if len(arguments) > 4 else ""
    shared = _shared()
    _close_all_but(lifeline, ready)
    with contextlib.suppress(OSError):
        os.setsid()
    os.chdir("/")
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        run_directory.make(directory)
    except OSError as error:
        tell(ready, {"error": "directory", "errno": error.errno, "text": str(error)})
        _leave(directory)
        return 1
    try:
        if socket_path:
            return _keep_containers(directory, lab, lifeline, ready, shared, socket_path)
        return _keep(directory, lab, lifeline, ready, shared)
    except OSError as error:
        tell(ready, {"error": "namespaces", "errno": error.errno, "text": str(error)})
        for descriptor in (lifeline, ready):  # who may open hardly any files needs these to remove the directory
            with contextlib.suppress(OSError):
                os.close(descriptor)
        return 1
    finally:
        run_directory.remove_tree(directory)
        _leave(directory)


def _close_all_but(*kept: int) -> None:
    """Close what the user's shell has open and handed on: the lab outlives the command, and is not to hold it. What is
    kept goes to no program."""
    first = 3
    for descriptor in sorted(kept):
        os.closerange(first, descriptor)
        os.set_inheritable(descriptor, False)
        first = descriptor + 1
    os.closerange(first, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _leave(directory: str) -> None:
    """Remove the folder of the labs, if it is the user's and no other lab is in it."""
    folder = os.path.dirname(directory)
    with contextlib.suppress(OSError):
        if os.lstat(folder).st_uid == os.geteuid():
            os.rmdir(folder)


def _keep(directory: str, lab: str, lifeline: int, ready: int, shared: Sequence[view.Shared]) -> int:
    as_root = os.geteuid() == 0
    kernel.adopt_orphans()
    mapped_read, mapped_write = os.pipe2(os.O_CLOEXEC)
    unshared_read, unshared_write = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(mapped_write)
            kernel.unshare(kernel.CLONE_NEWUSER)
            os.write(unshared_write, b"1")
            if os.read(mapped_read, 1) == b"1":
                status = _enter(directory, lab, lifeline, ready, shared, as_root=as_root)
        except OSError as error:
            tell(ready, {"error": "namespaces", "errno": error.errno, "text": str(error)})
        finally:
            os._exit(status)
    os.close(unshared_write)
    os.close(mapped_read)
    trouble: OSError | None = None
    try:
        if os.read(unshared_read, 1) == b"1":
            id_maps.map_ids(child)
            os.write(mapped_write, b"1")
    except OSError as error:
        trouble = error
    os.close(mapped_write)
    if trouble and not os.WIFSIGNALED(os.waitpid(child, 0)[1]):  # of one that was killed nothing is said
        tell(ready, {"error": "namespaces", "errno": trouble.errno, "text": str(trouble)})
    os.close(ready)
    os.close(lifeline)
    kernel.set_process_name("wirelab-keeper")
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return 0


def _keep_containers(
    directory: str, lab: str, lifeline: int, ready: int, shared: Sequence[view.Shared], socket_path: str
) -> int:
    kernel.adopt_orphans()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            kernel.unshare(NAMESPACES & ~kernel.CLONE_NEWPID)
            init = Init(directory, lab, lifeline, ready, shared, containers=True, as_root=os.geteuid() == 0)
            init.run()
            status = 0 if init.committed else 1
        except OSError as error:
            tell(ready, {"error": "namespaces", "errno": error.errno, "text": str(error)})
        finally:
            os._exit(status)
    os.close(ready)
    os.close(lifeline)
    kernel.set_process_name("wirelab-keeper")
    ended = status = -1
    while ended != child:
        ended, status = os.waitpid(-1, 0)
    if os.fork() == 0:  # a child, since a container ends only when we have reaped what Wirelab had started in it
        from emulator.run import engine  # here: other labs' first processes shall not wait for its imports

        with contextlib.suppress(OSError, ValueError):  # without the engine there is nobody to ask; `down` will say so
            engine.remove_all(socket_path, directory, calm_s=0.0 if status == 0 else 0.5)
        os._exit(0)
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return 0


def _enter(directory: str, lab: str, lifeline: int, ready: int, shared: Sequence[view.Shared], *, as_root: bool) -> int:
    """In the new user namespace: make the others, and let a child be their first process."""
    if os.geteuid() != 0:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    kernel.unshare(NAMESPACES)
    if os.fork() == 0:
        status = 1
        try:
            Init(directory, lab, lifeline, ready, shared, as_root=as_root).run()
            status = 0
        except OSError as error:
            tell(ready, {"error": "namespaces", "errno": error.errno, "text": str(error)})
        finally:
            os._exit(status)
    return 0


def _shared() -> list[view.Shared]:
    """What the user agreed to share, as the process that started this one says it."""
    return [view.Shared(*entry) for entry in json.loads(os.environ.get("WIRELAB_SHARED", "[]"))]
