"""What the lab's first process answers about many services, without a lab."""

from __future__ import annotations

import json
import selectors
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from emulator.run import kernel
from emulator.run.first_process import Init
from emulator.run.service import Service

COUNT = 3000


@pytest.fixture
def served() -> Iterator[tuple[Init, socket.socket]]:
    """A first process with many services, and who asks it."""
    init = Init("/nowhere", "many", -1, -1, ())
    for number in range(COUNT):
        request = {"node": f"h{number}", "service": "http"}
        init.services[f"h{number}", "http"] = Service(request, 100 + number)
    client, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with client, server, init.selector:
        init.selector.register(server, selectors.EVENT_READ, "client")
        yield init, client


def ask(init: Init, client: socket.socket, **values: Any) -> dict[str, Any]:
    kernel.send_message(client, json.dumps(values).encode())
    for key, _ in init.selector.select(0):
        init._serve(key.fileobj)  # type: ignore[arg-type]
    payload, _ = kernel.receive_message(client, long=True)
    answer: dict[str, Any] = json.loads(payload) if payload else {}
    return answer


def test_all_of_thousands(served: tuple[Init, socket.socket]) -> None:
    """They do not fit a message of a socket."""
    services = ask(*served, do="services")["services"]
    assert [entry["node"] for entry in services] == [f"h{number}" for number in range(COUNT)]
    assert len(json.dumps(services)) > 212_992


@pytest.mark.parametrize(("node", "count"), [("h7", 1), ("h9999", 0)])
def test_one_of_thousands(served: tuple[Init, socket.socket], node: str, count: int) -> None:
    services = ask(*served, do="services", node=node, service="http")["services"]
    assert [entry["node"] for entry in services] == [node] * count


def test_nobody_waits_for_an_answer_that_cannot_be_sent(
    served: tuple[Init, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "MESSAGE_OCTETS", 1 << 30)  # sent as it is, which the socket refuses
    assert ask(*served, do="services") == {}
