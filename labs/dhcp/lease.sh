#!/bin/sh
# What a guest's DHCP client runs when something happens to its lease. udhcpc tells by $1 and $ip, dhclient by $reason
# and $new_ip_address. A real client would write the router's and the DNS server's address down as well.
case "${reason:-$1}" in
PREINIT | deconfig | RELEASE | STOP | EXPIRE)
    ip link set "$interface" up
    ip -4 address flush dev "$interface"
    ;;
BOUND | REBOOT | bound)
    ip -4 address flush dev "$interface"
    ip address add "${new_ip_address:-$ip}/${new_subnet_mask:-$mask}" dev "$interface"
    ;;
esac
