"""An HTTP server with fixed pages: busybox httpd (HTTP/1.1, RFC 9112), small and quick to start; and socat before it
for HTTPS."""

from __future__ import annotations

from emulator.lab.resolved import Node
from emulator.plan.ops import Condition
from emulator.plan.services.base import HOME, Service

CERTIFICATE = f"{HOME}/https.pem"
KEY = f"{HOME}/https.key"


def https(node: Node) -> Service | None:
    """What takes TLS connections for the HTTP server of `node`, if it has that; one process for all its names."""
    spec = node.services.http
    if spec is None or spec.tls is None:
        return None
    family = ",pf=ip6,ipv6only=0" if node.ipv6 else ""
    listen = f"OPENSSL-LISTEN:{spec.tls.port}{family},fork,reuseaddr,cert={CERTIFICATE},key={KEY},verify=0"
    return Service(
        name="https",
        argv=("socat", listen, f"TCP:127.0.0.1:{spec.port}"),
        ready=Condition("tcp-port", port=spec.tls.port),
        tools=("socat",),
        rootless=True,
        restart=spec.restart or "",
    )


def http(node: Node) -> Service | None:
    """The HTTP server of `node`, if it has one."""
    spec = node.services.http
    if spec is None:
        return None
    from emulator.lab.services import page_file  # here, since plans without a server have no use for the model

    root = f"{HOME}/www"
    files = {f"{root}/{page_file(path)}": text for path, text in spec.pages.items()}
    return Service(
        name="http",
        argv=("busybox", "httpd", "-f", "-p", str(spec.port), "-h", root),
        ready=Condition("tcp", "127.0.0.1", spec.port),
        files=files,
        tools=("busybox",),
        rootless=True,
        restart=spec.restart or "",
    )
