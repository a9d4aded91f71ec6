#!/bin/sh
# What the DHCP client of a guest runs when something happens to its lease: udhcpc says what in $1, dhclient in $reason.
# Guests stay in their own network, so the gateway and the DNS server that they are told are not set.
event=${reason:-$1}
address=${new_ip_address:-$ip}
case "$event" in
PREINIT | deconfig | RELEASE | EXPIRE)
    ip link set "$interface" up
    ip -4 address flush dev "$interface"
    ;;
BOUND | bound)
    ip address replace "$address/${new_subnet_mask:-$mask}" dev "$interface"
    # A client gives its address back and forgets it at once: a message that still waits for the router's MAC is lost.
    ping -n -c 1 -W 1 "${new_routers:-$router}" >/dev/null
    ;;
esac
echo "$event $address" >>/run/lab/events
