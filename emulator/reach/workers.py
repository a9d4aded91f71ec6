"""The processes inside a lab that ask its pairs (`emulator.reach.worker`), seen from outside."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from emulator.errors import CommandFailed

_END_S: Final = 10.0


class Workers:
    """Processes inside the lab; each does one thing at a time. A context manager."""

    def __init__(self, directory: Path, nodes: Sequence[str], count: int) -> None:
        root = str(Path(__file__).resolve().parents[2])
        code = (
            f"import sys; sys.path.insert(0, {root!r})\n"
            "from emulator.reach.worker import main; sys.exit(main(sys.argv[1:]))"
        )
        self._directory = directory
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", code, str(directory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd="/",
                start_new_session=True,
            )
            for _ in range(count)
        ]
        try:
            for number in range(count):
                self._send(number, {"nodes": list(nodes)})
            for number in range(count):
                self.answer(number)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._processes)

    def close(self) -> None:
        """End them; they remove the neighbour entries that they made."""
        for process in self._processes:
            with contextlib.suppress(OSError):
                if process.stdin:
                    process.stdin.close()
        for process in self._processes:
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()

    def ask(self, number: int, do: str, **values: Any) -> dict[str, Any]:
        """Let one worker do something, and wait for its answer."""
        self._send(number, {"do": do, **values})
        return self.answer(number)

    def all(self, do: str, **values: Any) -> list[dict[str, Any]]:
        """Let every worker do the same at the same time."""
        for number in range(len(self)):
            self._send(number, {"do": do, **values})
        return [self.answer(number) for number in range(len(self))]

    def share(
        self, do: str, tasks: Sequence[dict[str, Any]], numbers: Sequence[int] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Have `tasks` done, each by the worker that is free first, of all or of those with the given numbers; gives
        the answers as they come."""
        import selectors

        waiting = iter(tasks)
        busy = 0
        with selectors.DefaultSelector() as selector:
            for number in range(len(self)) if numbers is None else numbers:
                task, stream = next(waiting, None), self._processes[number].stdout
                if task is not None and stream:
                    self._send(number, {"do": do, **task})
                    selector.register(stream, selectors.EVENT_READ, number)
                    busy += 1
            while busy:
                for key, _ in selector.select():
                    yield self.answer(key.data)
                    task = next(waiting, None)
                    if task is None:
                        selector.unregister(key.fileobj)
                        busy -= 1
                    else:
                        self._send(key.data, {"do": do, **task})

    def _send(self, number: int, message: dict[str, Any]) -> None:
        stream = self._processes[number].stdin
        try:
            if stream:
                stream.write(json.dumps(message).encode() + b"\n")
                stream.flush()
        except BrokenPipeError:
            pass  # it has ended; what it said last tells why

    def answer(self, number: int) -> dict[str, Any]:
        """What a worker says next.

        Raises:
            CommandFailed: it could not do what it was told, or it has ended.
        """
        stream = self._processes[number].stdout
        line = stream.readline() if stream else b""
        ended = {"error": f"the lab {self._directory.name} has ended"}
        answer: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else ended  # it was killed in mid-line
        if "error" in answer:
            raise CommandFailed(f"the pairs cannot be tested: {answer['error']}")
        return answer
