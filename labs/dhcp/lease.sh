#!/bin/sh
# What the DHCP client of a guest runs when something happens to its lease: udhcpc says what in $1, dhclient in $reason.
# It sets the address and writes the event down. (Router and DNS server are left out: guests stay in their own network.)
event=${reason:-$1}
echo "$event ${new_ip_address:-$ip}" >>/run/lab/events
case "$event" in
PREINIT | deconfig | RELEASE | EXPIRE)
    ip link set "$interface" up
    ip -4 address flush dev "$interface"
    ;;
BOUND | bound)
    ip address replace "${new_ip_address:-$ip}/${new_subnet_mask:-$mask}" dev "$interface"
    ;;
esac
