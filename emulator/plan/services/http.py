"""An HTTP server with fixed pages: busybox httpd (HTTP/1.1, RFC 9112), small and quick to start."""

from __future__ import annotations

from emulator.lab.resolved import Node
from emulator.lab.services import page_file
from emulator.plan.ops import Condition
from emulator.plan.services.base import HOME, Service


def http(node: Node) -> Service | None:
    """The HTTP server of `node`, if it has one."""
    spec = node.services.http
    if spec is None:
        return None
    root = f"{HOME}/www"
    files = {f"{root}/{page_file(path)}": text for path, text in spec.pages.items()}
    return Service(
        name="http",
        argv=("busybox", "httpd", "-f", "-p", str(spec.port), "-h", root),
        ready=Condition("tcp", "127.0.0.1", spec.port),
        files=files,
        tools=("busybox",),
    )
