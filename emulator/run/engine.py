"""The little of the Docker Engine's interface that must be instant, or work where no packages are in reach: which
containers are ours, and away with them. Standard library only; all else is done through the package `docker`.

Source: the Engine API, containers (GET /containers/json, DELETE /containers/{id}). What is used of it has been the same
in all versions, so none is named: an engine answers with the newest that it has, and none is too old or too new.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from emulator.errors import CommandFailed, MachineError, one_line, printable
from emulator.run.control import is_alive

LAB, NODE, RUN, OWNER = "wirelab.lab", "wirelab.node", "wirelab.run", "wirelab.owner"
"""Labels of our containers: the instance, the node, the run directory, and the user id of who started it."""
DEFAULT_SOCKET = "/var/run/docker.sock"

ASK_S = 5.0
"""How long who only wants to know what is left waits for an engine that does not answer."""
_TIMEOUT_S = 60.0
_AT_ONCE = 8


class RefusedError(OSError):
    """Something answers, and refuses; or it is no Docker Engine."""

    def __init__(self, text: str) -> None:
        super().__init__(errno.EIO, text)


def socket_path() -> str | None:
    """The socket of this machine's engine, as `DOCKER_HOST` says or the usual one; None when that is elsewhere."""
    host = os.environ.get("DOCKER_HOST") or f"unix://{DEFAULT_SOCKET}"
    return host.removeprefix("unix://") if host.startswith("unix://") else None


def usable() -> str:
    """The socket of this machine's engine, which answers.

    Raises:
        MachineError: what is missing, and what to do.
    """
    path = socket_path()
    if path is None:
        raise MachineError(
            f"DOCKER_HOST is {os.environ['DOCKER_HOST']}: the engine must be on this machine",
            hint=f"export DOCKER_HOST=unix://{DEFAULT_SOCKET}",
        )
    try:
        status, _, octets = _ask(path, "GET", "/_ping", _TIMEOUT_S)
        if status != 200 or octets.strip() != b"OK":
            raise RefusedError(
                f"what answers at {path} is no Docker Engine, or one that refuses (status {status}): {_text(octets)}"
            )
    except PermissionError:
        raise MachineError(
            f"no access to the Docker Engine at {path}", hint="use sudo, or: sudo usermod -aG docker $USER, and log in"
        ) from None
    except RefusedError as error:
        raise MachineError(error.strerror or "", hint=f"export DOCKER_HOST=unix://{DEFAULT_SOCKET}") from None
    except OSError as error:
        raise MachineError(
            f"no Docker Engine answers at {path}: {error.strerror or error}",
            hint="sudo apt-get install docker.io, then: sudo systemctl start docker",
        ) from None
    return path


def request(path: str, method: str, what: str, timeout_s: float = _TIMEOUT_S) -> Any:
    """One request to the engine at the socket `path`; the answer's JSON, or None without one.

    What is to be deleted may be gone, or going, already.

    Raises:
        RefusedError: the engine refuses, with what it says; or what answers is none.
        OSError: the engine cannot be reached, or does not answer for `timeout_s`.
    """
    status, kind, octets = _ask(path, method, what, timeout_s)
    loaded = None
    if kind.startswith("application/json") and octets:
        try:
            loaded = json.loads(octets)
        except ValueError:
            raise RefusedError(f"what answers at {path} is no Docker Engine: {_text(octets)}") from None
    if status >= 400 and not (method == "DELETE" and status in (404, 409)):
        said = loaded.get("message") if isinstance(loaded, dict) else None
        raise RefusedError(printable(str(said)) if said else f"status {status}: {_text(octets)}")
    return loaded


def _ask(path: str, method: str, what: str, timeout_s: float) -> tuple[int, str, bytes]:
    """The status, the kind and the octets of the answer to a request."""
    import http.client  # here, since `ps` and `down` shall be instant where there is no engine

    connection = http.client.HTTPConnection("localhost", timeout=timeout_s)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.sock.settimeout(timeout_s)
        connection.sock.connect(path)
        connection.request(method, what)
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read()
    except http.client.HTTPException as error:
        raise RefusedError(f"what answers at {path} is no Docker Engine: {type(error).__name__}") from None
    finally:
        connection.close()


def _text(octets: bytes) -> str:
    return one_line(octets[:200].decode(errors="replace").strip()) or "nothing"


def containers(path: str, run_directory: str | None = None, timeout_s: float = _TIMEOUT_S) -> list[dict[str, Any]]:
    """Our containers, running or not: `Id`, `Names`, `Labels`, `State`; with `run_directory` those of one lab.

    Raises:
        RefusedError: the engine refuses, or what answers is none.
        OSError: it cannot be reached, or does not answer.
    """
    label = RUN if run_directory is None else f"{RUN}={run_directory}"
    filters = quote(json.dumps({"label": [label]}))
    found = request(path, "GET", f"/containers/json?all=1&filters={filters}", timeout_s)
    if not isinstance(found, list) or not all(_is_container(one) for one in found):
        raise RefusedError(f"what answers at {path} is no Docker Engine")
    return [one for one in found if RUN in one["Labels"] and run_directory in (None, one["Labels"][RUN])]


def _is_container(one: Any) -> bool:
    return isinstance(one, dict) and isinstance(one.get("Id"), str) and isinstance(one.get("Labels"), dict)


@dataclass(frozen=True)
class Remains:
    """Containers of a lab that has ended without taking them along."""

    name: str
    run: str
    ids: tuple[str, ...]
    nodes: tuple[str, ...]


def remains(timeout_s: float = _TIMEOUT_S, tell: Callable[[str], None] = lambda _: None) -> list[Remains]:
    """What is left of this user's labs in the engine; nothing where there is no engine or no right to ask it.

    Args:
        timeout_s: how long an engine may take to answer.
        tell: is told in a sentence when there is an engine that does not say it.
    """
    path = socket_path()
    if path is None or not os.path.exists(path):
        return []
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    try:
        for entry in containers(path, timeout_s=timeout_s):
            labels = entry["Labels"]
            if labels.get(OWNER) == str(os.geteuid()) and not is_alive(Path(labels[RUN])):
                groups.setdefault((labels.get(LAB, ""), labels[RUN]), []).append(entry)
    except TimeoutError:
        tell(f"the Docker Engine at {path} does not answer: what labs left there is not known")
    except RefusedError as error:
        tell(f"the Docker Engine at {path} does not say what labs left there: {error.strerror}")
    except OSError:  # nobody listens there, or not for this user, who has nothing there then
        pass
    return [
        Remains(
            name, run, tuple(one["Id"] for one in found), tuple(sorted(one["Labels"].get(NODE, "") for one in found))
        )
        for (name, run), found in sorted(groups.items())
    ]


def clear(found: Remains) -> None:
    """Remove what is left of a lab.

    Raises:
        CommandFailed: the engine cannot, with its reason.
    """
    path = socket_path() or DEFAULT_SOCKET
    try:
        remove(path, list(found.ids))
        remove_all(path, found.run)
    except OSError as error:
        raise CommandFailed(f"cannot remove the containers of {found.name}: {error.strerror or error}") from None


def remove(path: str, ids: list[str]) -> None:
    """Remove containers, with the volumes that were made for them, several at a time."""
    waiting = list(ids)
    troubles: list[OSError] = []

    def work() -> None:
        with contextlib.suppress(IndexError):
            while True:
                try:
                    request(path, "DELETE", f"/containers/{waiting.pop()}?force=1&v=1")
                except OSError as error:
                    troubles.append(error)

    threads = [threading.Thread(target=work) for _ in range(min(_AT_ONCE, len(ids)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if troubles:
        raise troubles[0]


def remove_all(path: str, run_directory: str, *, calm_s: float = 0.0, patience_s: float = 20.0) -> None:
    """Remove all containers of a lab.

    Args:
        calm_s: how long none must have been there, where one may still be in the making.

    Raises:
        OSError: the engine cannot be reached, or some are still there after `patience_s`.
    """
    began = seen = time.monotonic()
    while (found := containers(path, run_directory)) or time.monotonic() - seen < calm_s:
        if found:
            seen = time.monotonic()
            with contextlib.suppress(OSError):  # one that is being made cannot be removed yet
                remove(path, [entry["Id"] for entry in found])
        else:
            time.sleep(0.05)
        if time.monotonic() - began > patience_s:
            raise OSError(5, f"{len(found)} containers cannot be removed")


def wait_gone(run_directory: Path, patience_s: float = 10.0) -> None:
    """Wait, at most so long, until the engine has removed the containers of `run_directory`, which are ending."""
    path = socket_path()
    deadline = time.monotonic() + patience_s
    with contextlib.suppress(OSError):
        while path and containers(path, str(run_directory)) and time.monotonic() < deadline:
            time.sleep(0.02)
