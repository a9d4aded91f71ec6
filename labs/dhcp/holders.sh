#!/bin/sh
# Compare the server's table of leases with the computers: who uses each address that is leased?
ip neighbour flush all
while read -r _ mac address _; do
    ping -n -c 1 -W 1 "$address" >/dev/null
    set -- "$(ip neighbour show to "$address" | grep -o 'lladdr [^ ]*')"
    echo "$address is leased to $mac and used by ${1#lladdr }"
done </run/wirelab/dnsmasq.leases
