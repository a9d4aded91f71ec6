"""udhcpc, busybox's DHCP client, on every interface that asks by DHCP."""

from __future__ import annotations

from emulator.lab.resolved import Interface, Node, client_name
from emulator.plan.ops import Condition
from emulator.plan.services.base import HOME, Service

SCRIPT = f"""\
#!/bin/sh
# udhcpc calls this with the event as argument and the lease in the environment.
# With KEEP_ADDRESS set, a client that only asks leaves the address alone when nobody answers.
case "$1" in
deconfig)
    ip link set "$interface" up
    [ -n "$KEEP_ADDRESS" ] || ip -4 address flush dev "$interface"
    ;;
bound | renew)
    ip -4 -o address show dev "$interface" | grep -qwF "$ip/$mask" || {{
        ip -4 address flush dev "$interface"
        ip address add "$ip/$mask" broadcast + dev "$interface"
    }}
    for gateway in $router; do
        ip route replace default via "$gateway" dev "$interface"
        break
    done
    {{
        [ -z "$domain" ] || echo "search $domain"
        for server in $dns; do echo "nameserver $server"; done
    }} >/etc/resolv.conf
    echo "$ip/$mask router $router dns $dns lease $lease server $serverid" >"{HOME}/lease-$interface.new"
    mv "{HOME}/lease-$interface.new" "{HOME}/lease-$interface"
    ;;
esac
"""


def udhcpc(node: Node, interface: Interface, *, alone: bool) -> Service:
    """The DHCP client of one interface; it is named after the interface when the node has several."""
    return Service(
        name=client_name(interface.name, alone=alone),
        argv=(
            "udhcpc", "-f", "-i", interface.name, "-s", f"{HOME}/udhcpc.sh",
            "-t", "5", "-T", "1", "-A", "1", "-x", f"hostname:{node.name}",
        ),
        ready=Condition("file", path=f"{HOME}/lease-{interface.name}"),
        files={f"{HOME}/udhcpc.sh": SCRIPT},
        scripts=frozenset({f"{HOME}/udhcpc.sh"}),
        tools=("udhcpc", "ip"),
    )  # fmt: skip
