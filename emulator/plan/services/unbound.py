"""unbound as a recursive resolver that starts at the lab's own root and minimises what it asks (RFC 9156)."""

from __future__ import annotations

from emulator.lab.resolved import Node, Record, ResolvedLab
from emulator.plan.ops import Condition
from emulator.plan.services.base import HOME, Service
from emulator.plan.services.nsd import record_lines

NO_ROOT = (
    Record(".", 3_600_000, "NS", "nobody.invalid."),
    Record("nobody.invalid.", 3_600_000, "A", "127.0.0.1"),
)
"""Hints that lead nowhere: unbound asks nobody at a loopback address. Without any hints it would ask the real root
servers, which it knows by heart."""


TRUST_ANCHOR = f"{HOME}/root.key"
"""The root's public key: what a validating resolver trusts (RFC 4033, section 2)."""


def validates(lab: ResolvedLab, node: Node) -> bool:
    """Whether `node` is a resolver that proves answers by their signatures."""
    spec = node.services.unbound
    if spec is None:
        return False
    signed = "." in lab.zones and lab.zones["."].dnssec
    return signed and spec.root_hints == "lab" if spec.validate_ is None else spec.validate_


def _validation(lab: ResolvedLab, node: Node) -> str:
    if not validates(lab, node):
        return '  module-config: "iterator"\n'
    return (
        '  module-config: "validator iterator"\n'
        f'  trust-anchor-file: "{TRUST_ANCHOR}"\n'
        "  trust-anchor-signaling: no\n"  # a question to the root that nobody asked (RFC 8145)
        "  val-log-level: 2\n"
    )


def unbound(lab: ResolvedLab, node: Node) -> Service | None:
    """The resolver of `node`, if it has one."""
    spec = node.services.unbound
    if spec is None:
        return None
    addresses = [str(address.ip) for address in node.addresses]
    listen = "".join(
        f"  interface: {address}\n" for address in ([*addresses, "127.0.0.1"] if addresses else ["0.0.0.0"])
    )
    ipv6 = any(":" in address for address in addresses)
    config = (
        "server:\n"
        f"{listen}"
        "  access-control: 0.0.0.0/0 allow\n"
        "  access-control: ::0/0 allow\n"
        '  username: ""\n'
        '  chroot: ""\n'
        f'  directory: "{HOME}"\n'
        '  pidfile: ""\n'
        "  use-syslog: no\n"
        '  logfile: ""\n'
        "  num-threads: 1\n"
        f"  do-ip6: {'yes' if ipv6 else 'no'}\n"
        "  rrset-roundrobin: yes\n"
        "  serve-expired: no\n"
        f"{_validation(lab, node)}"
        f'  root-hints: "{HOME}/root.hints"\n'
        "remote-control:\n"
        "  control-enable: yes\n"
        f"  control-interface: {HOME}/unbound.ctl\n"
        "  control-use-cert: no\n"
    )
    hints = "".join(f"{line}\n" for line in record_lines(lab.root_hints if spec.root_hints == "lab" else NO_ROOT))
    return Service(
        name="unbound",
        argv=("unbound", "-d", "-p", "-c", f"{HOME}/unbound.conf"),
        ready=Condition("dns", addresses[0] if addresses else "127.0.0.1", 53),
        files={f"{HOME}/unbound.conf": config, f"{HOME}/root.hints": hints},
        tools=("unbound", "unbound-control"),
        rootless=True,
        restart=spec.restart or "",
    )
