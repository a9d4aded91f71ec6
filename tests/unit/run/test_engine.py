"""Asking an engine, or something that is none: each says what it is, in words, and nobody waits for ever."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emulator.errors import MachineError
from emulator.run import engine
from emulator.run.engine import RefusedError

JSON = "application/json"


def answer(status: int, kind: str, text: str) -> bytes:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    return (head + text).encode()


class Served:
    """A socket at which everybody gets the same answer; none when it is None."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.asked: list[str] = []
        self.answer: bytes | None = b""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._kept: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            asked = connection.recv(4096)
            if not asked:
                connection.close()
                return
            self.asked.append(asked.decode().partition("\r\n")[0])
            if self.answer is None:
                self._kept.append(connection)
                continue
            connection.sendall(self.answer)
            connection.close()

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(self.path)
            last.shutdown(socket.SHUT_WR)
            self._thread.join()
        for connection in (*self._kept, self._listener):
            connection.close()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Something that listens where DOCKER_HOST leads."""
    one = Served(tmp_path / "sock")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{one.path}")
    yield one
    one.close()


def test_no_version_is_asked_for(served: Served) -> None:
    """An engine may be older or newer than any that is named."""
    served.answer = answer(200, JSON, "[]")
    assert engine.containers(served.path) == []
    assert served.asked[0].startswith("GET /containers/json?")
    served.answer = answer(200, "text/plain", "OK")
    assert engine.usable() == served.path


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (answer(200, "text/html", "<h1>It works</h1>"), "no Docker Engine, or one that refuses (status 200): <h1>It"),
        (answer(404, JSON, '{"message": "page not found"}'), "status 404"),
        (answer(403, "text/plain", "forbidden by policy"), "status 403): forbidden by policy"),
        (b"220 mail.example\r\n", "is no Docker Engine"),
        (b"", "no Docker Engine"),
    ],
)
def test_what_is_no_engine(served: Served, what: bytes, words: str) -> None:
    served.answer = what
    with pytest.raises(MachineError) as caught:
        engine.usable()
    assert words in caught.value.message and caught.value.exit_status == 3 and caught.value.hint


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (answer(404, JSON, '{"message": "page not found"}'), "page not found"),
        (answer(400, JSON, '{"message": "client version 9 is too new"}'), "too new"),
        (answer(409, JSON, "[]"), "status 409"),
        (answer(200, JSON, '{"message": "hello"}'), "no Docker Engine"),
        (answer(200, JSON, '["x"]'), "no Docker Engine"),
        (answer(200, JSON, '[{"Id": "x", "Labels": null}]'), "no Docker Engine"),
        (answer(200, JSON, "[{"), "no Docker Engine"),
        (answer(200, "text/html", "<h1>It works</h1>"), "no Docker Engine"),
        (b"220 mail.example\r\n", "no Docker Engine"),
    ],
)
def test_a_list_that_is_refused_or_none(served: Served, what: bytes, words: str) -> None:
    served.answer = what
    with pytest.raises(RefusedError, match=words):
        engine.containers(served.path)
    told: list[str] = []
    assert engine.remains(tell=told.append) == []
    assert len(told) == 1 and words in told[0]


def test_what_is_deleted_may_be_gone(served: Served) -> None:
    for status in (404, 409):
        served.answer = answer(status, JSON, '{"message": "no such container"}')
        engine.request(served.path, "DELETE", "/containers/x")
        with pytest.raises(RefusedError, match="no such container"):
            engine.request(served.path, "GET", "/containers/x")
    served.answer = answer(500, JSON, '{"message": "cannot"}')
    with pytest.raises(RefusedError, match="cannot"):
        engine.request(served.path, "DELETE", "/containers/x")


def test_containers_without_our_label_are_never_ours(served: Served) -> None:
    """Whatever the engine makes of what it was asked."""
    served.answer = answer(
        200, JSON, '[{"Id": "a", "Labels": {}}, {"Id": "b", "Labels": {"wirelab.run": "/r"}}, '
        '{"Id": "c", "Labels": {"wirelab.run": "/other"}}]'
    )  # fmt: skip
    assert [one["Id"] for one in engine.containers(served.path)] == ["b", "c"]
    assert [one["Id"] for one in engine.containers(served.path, "/r")] == ["b"]


def test_an_engine_that_hangs(served: Served) -> None:
    """It holds nobody up for long who only wants to know what is left, and that is said."""
    served.answer = None
    told: list[str] = []
    assert engine.remains(0.05, told.append) == []
    assert told == [f"the Docker Engine at {served.path} does not answer: what labs left there is not known"]


def test_an_engine_that_answers_is_not_spoken_of(served: Served) -> None:
    served.answer = answer(200, JSON, "[]")
    told: list[str] = []
    assert engine.remains(tell=told.append) == [] and told == []


@pytest.mark.parametrize("make", [lambda _: None, lambda path: path.touch()])
def test_no_engine_is_not_spoken_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "sock")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/sock")
    told: list[str] = []
    assert engine.remains(tell=told.append) == [] and told == []
