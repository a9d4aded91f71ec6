"""A daemon of a running lab, as the lab's first process keeps account of it. Standard library only."""

from __future__ import annotations

import time
from typing import Any

RESTART_DELAY_S = 0.1
"""Before a service is started again that failed; twice as long each further time."""
RESTARTS_MAX = 5
"""Failures in a row after which a service stays dead."""
STEADY_S = 10.0
"""A service that ran so long has recovered: its failures are counted anew."""


class Service:
    """A daemon that this process started, with `request`."""

    def __init__(self, request: dict[str, Any], pid: int) -> None:
        self.request = request
        self.node: str = request["node"]
        self.name: str = request["service"]
        self.restart: bool = request.get("restart") == "on-failure"
        self.restarts = 0
        self.in_a_row = 0
        self.due: float | None = None
        self.begin(pid)

    def begin(self, pid: int) -> None:
        """It runs, as process `pid`."""
        self.pid = pid
        self.started = time.time()
        self._began_s = time.monotonic()
        self.status: int | None = None
        self.ended: float | None = None
        self.due = None

    def end(self, status: int) -> None:
        """It has ended; when it failed and is to be restarted, that is due at `due` (monotonic clock)."""
        self.status = status
        self.ended = time.time()
        if not self.restart or status == 0:
            return
        if time.monotonic() - self._began_s >= STEADY_S:
            self.in_a_row = 0
        self.put_off()

    def put_off(self) -> None:
        """It is to be started again later, unless that failed too often already."""
        self.due = None
        if self.in_a_row < RESTARTS_MAX:
            self.due = time.monotonic() + RESTART_DELAY_S * 2**self.in_a_row
            self.in_a_row += 1

    def as_json(self) -> dict[str, Any]:
        """What `ps` shows; `status` is negative when a signal ended it."""
        return {
            "node": self.node,
            "service": self.name,
            "pid": self.pid,
            "running": self.status is None,
            "status": self.status,
            "started": self.started,
            "ended": self.ended,
            "restart": "on-failure" if self.restart else None,
            "restarts": self.restarts,
            "restarting": self.due is not None,
        }
