#!/bin/sh
# The lab nat, by hand: `ip`, `iptables` and the daemons' own configuration.
#
#     sh nat.sh                                    build it and open a shell
#     sh nat.sh in_node NODE COMMAND...            build it, run one command in a node, take it all back
#
# It needs no root and leaves nothing behind: everything lives in new namespaces and ends with this script.
set -eu
if [ -z "${WIRELAB_INSIDE-}" ]; then
    WIRELAB_INSIDE=1 exec unshare --user --map-root-user --net --mount --pid --fork --kill-child --mount-proc \
        --uts --ipc sh "$0" "$@"
fi
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
resolv_conf=$(readlink -f /etc/resolv.conf)
mount -t tmpfs tmpfs /mnt
lab=/mnt
mount -t tmpfs tmpfs /run
mkdir -p /run/netns "$lab/log"

# The places that only one node sees.
make_places() {
    mkdir -p "$lab/$1/etc" "$lab/$1/run" "$lab/$1/tmp"
    printf '127.0.0.1 localhost\n' >"$lab/$1/etc/hosts"
    : >"$lab/$1/etc/resolv.conf"
}

# Standard input becomes a file that only one node sees.
put() {
    mkdir -p "$(dirname "$lab/$1$2")"
    cat >"$lab/$1$2"
    chmod "${3-644}" "$lab/$1$2"
}

in_ns() {
    ip netns exec "$@"
}

# A command as a process of a node: its network, its name, its files.
in_node() {
    node=$1
    shift
    ip netns exec "$node" unshare --uts sh -c '
        own=$1 resolv_conf=$2
        shift 2
        hostname "${own##*/}"
        mount --bind "$own/etc/hosts" /etc/hosts
        if [ -e "$own/binds" ]; then . "$own/binds"; fi
        mount --bind "$own/tmp" /tmp
        mount --bind "$own/run" /run
        if [ ! -e "$resolv_conf" ]; then mkdir -p "${resolv_conf%/*}"; : >"$resolv_conf"; fi
        mount --bind "$own/etc/resolv.conf" "$resolv_conf"
        ca=/run/wirelab/ca.pem
        if [ -e "$ca" ]; then export SSL_CERT_FILE="$ca" CURL_CA_BUNDLE="$ca"; fi
        exec "$@"
    ' sh "$lab/$node" "$resolv_conf" "$@"
}

no_offload() {
    command -v ethtool >/dev/null || return 0
    ip netns exec "$1" ethtool -K "$2" tx off sg off tso off gso off gro off >/dev/null
}

wait_for() {
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -ge 100 ]; then
            echo "no success: $*" >&2
            tail -n 5 "$lab"/log/* >&2
            exit 1
        fi
        sleep 0.1
    done
}


# create the node pc1
ip netns add pc1
make_places pc1
in_ns pc1 sysctl -qw net.ipv6.conf.all.disable_ipv6=1 || :
in_ns pc1 sysctl -qw net.ipv6.conf.default.disable_ipv6=1 || :
ip -n pc1 link set dev lo up
# create the node pc2
ip netns add pc2
make_places pc2
in_ns pc2 sysctl -qw net.ipv6.conf.all.disable_ipv6=1 || :
in_ns pc2 sysctl -qw net.ipv6.conf.default.disable_ipv6=1 || :
ip -n pc2 link set dev lo up
# create the node server
ip netns add server
make_places server
in_ns server sysctl -qw net.ipv6.conf.all.disable_ipv6=1 || :
in_ns server sysctl -qw net.ipv6.conf.default.disable_ipv6=1 || :
ip -n server link set dev lo up
# create the node sw
ip netns add sw
make_places sw
in_ns sw sysctl -qw net.ipv6.conf.all.disable_ipv6=1 || :
in_ns sw sysctl -qw net.ipv6.conf.default.disable_ipv6=1 || :
ip -n sw link set dev lo up
# create the node home
ip netns add home
make_places home
in_ns home sysctl -qw net.ipv6.conf.all.disable_ipv6=1 || :
in_ns home sysctl -qw net.ipv6.conf.default.disable_ipv6=1 || :
in_ns home sysctl -qw net.ipv4.ip_forward=1
ip -n home link set dev lo up
# create the node isp
ip netns add isp
make_places isp
in_ns isp sysctl -qw net.ipv6.conf.all.disable_ipv6=1 || :
in_ns isp sysctl -qw net.ipv6.conf.default.disable_ipv6=1 || :
in_ns isp sysctl -qw net.ipv4.ip_forward=1
ip -n isp link set dev lo up
# create the node core
ip netns add core
make_places core
in_ns core sysctl -qw net.ipv6.conf.all.disable_ipv6=1 || :
in_ns core sysctl -qw net.ipv6.conf.default.disable_ipv6=1 || :
ip -n core link set dev lo up
# create the node resolver
ip netns add resolver
make_places resolver
in_ns resolver sysctl -qw net.ipv6.conf.all.disable_ipv6=1 || :
in_ns resolver sysctl -qw net.ipv6.conf.default.disable_ipv6=1 || :
ip -n resolver link set dev lo up
# create the node root
ip netns add root
make_places root
in_ns root sysctl -qw net.ipv6.conf.all.disable_ipv6=1 || :
in_ns root sysctl -qw net.ipv6.conf.default.disable_ipv6=1 || :
ip -n root link set dev lo up
# create the node tld
ip netns add tld
make_places tld
in_ns tld sysctl -qw net.ipv6.conf.all.disable_ipv6=1 || :
in_ns tld sysctl -qw net.ipv6.conf.default.disable_ipv6=1 || :
ip -n tld link set dev lo up
# create the node auth
ip netns add auth
make_places auth
in_ns auth sysctl -qw net.ipv6.conf.all.disable_ipv6=1 || :
in_ns auth sysctl -qw net.ipv6.conf.default.disable_ipv6=1 || :
ip -n auth link set dev lo up
# create the node web
ip netns add web
make_places web
in_ns web sysctl -qw net.ipv6.conf.all.disable_ipv6=1 || :
in_ns web sysctl -qw net.ipv6.conf.default.disable_ipv6=1 || :
ip -n web link set dev lo up
# create the node outside
ip netns add outside
make_places outside
in_ns outside sysctl -qw net.ipv6.conf.all.disable_ipv6=1 || :
in_ns outside sysctl -qw net.ipv6.conf.default.disable_ipv6=1 || :
ip -n outside link set dev lo up

# make the bridge br0 in sw
ip -n sw link add name br0 type bridge ageing_time 30000 mcast_snooping 0 stp_state 0 forward_delay 0
ip -n sw link set dev br0 up
# make the bridge br0 in core
ip -n core link add name br0 type bridge ageing_time 30000 mcast_snooping 0 stp_state 0 forward_delay 0
ip -n core link set dev br0 up

# connect pc1:eth0 to sw:pc1
ip link add name eth0 netns pc1 address 02:57:4c:00:01:00 mtu 1500 type veth peer name pc1 netns sw address 02:57:4c:00:04:00 mtu 1500
no_offload pc1 eth0
no_offload sw pc1
ip -n sw link set dev pc1 master br0
# connect pc2:eth0 to sw:pc2
ip link add name eth0 netns pc2 address 02:57:4c:00:02:00 mtu 1500 type veth peer name pc2 netns sw address 02:57:4c:00:04:01 mtu 1500
no_offload pc2 eth0
no_offload sw pc2
ip -n sw link set dev pc2 master br0
# connect server:eth0 to sw:server
ip link add name eth0 netns server address 02:57:4c:00:03:00 mtu 1500 type veth peer name server netns sw address 02:57:4c:00:04:02 mtu 1500
no_offload server eth0
no_offload sw server
ip -n sw link set dev server master br0
# connect home:lan to sw:home
ip link add name lan netns home address 02:57:4c:00:05:00 mtu 1500 type veth peer name home netns sw address 02:57:4c:00:04:03 mtu 1500
no_offload home lan
no_offload sw home
ip -n sw link set dev home master br0
# connect home:wan to isp:home
ip link add name wan netns home address 02:57:4c:00:05:01 mtu 1500 type veth peer name home netns isp address 02:57:4c:00:06:00 mtu 1500
no_offload home wan
no_offload isp home
# connect isp:core to core:isp
ip link add name core netns isp address 02:57:4c:00:06:01 mtu 1500 type veth peer name isp netns core address 02:57:4c:00:07:00 mtu 1500
no_offload isp core
no_offload core isp
ip -n core link set dev isp master br0
# connect resolver:eth0 to core:resolver
ip link add name eth0 netns resolver address 02:57:4c:00:08:00 mtu 1500 type veth peer name resolver netns core address 02:57:4c:00:07:01 mtu 1500
no_offload resolver eth0
no_offload core resolver
ip -n core link set dev resolver master br0
# connect root:eth0 to core:root
ip link add name eth0 netns root address 02:57:4c:00:09:00 mtu 1500 type veth peer name root netns core address 02:57:4c:00:07:02 mtu 1500
no_offload root eth0
no_offload core root
ip -n core link set dev root master br0
# connect tld:eth0 to core:tld
ip link add name eth0 netns tld address 02:57:4c:00:0a:00 mtu 1500 type veth peer name tld netns core address 02:57:4c:00:07:03 mtu 1500
no_offload tld eth0
no_offload core tld
ip -n core link set dev tld master br0
# connect auth:eth0 to core:auth
ip link add name eth0 netns auth address 02:57:4c:00:0b:00 mtu 1500 type veth peer name auth netns core address 02:57:4c:00:07:04 mtu 1500
no_offload auth eth0
no_offload core auth
ip -n core link set dev auth master br0
# connect isp:web to web:eth0
ip link add name web netns isp address 02:57:4c:00:06:02 mtu 1500 type veth peer name eth0 netns web address 02:57:4c:00:0c:00 mtu 1500
no_offload isp web
no_offload web eth0
# connect isp:out to outside:eth0
ip link add name out netns isp address 02:57:4c:00:06:03 mtu 1500 type veth peer name eth0 netns outside address 02:57:4c:00:0d:00 mtu 1500
no_offload isp out
no_offload outside eth0

# give home:lan the address 192.168.1.1/24
ip -n home address add 192.168.1.1/24 broadcast + dev lan
# give home:wan the address 203.0.113.2/24
ip -n home address add 203.0.113.2/24 broadcast + dev wan
# give isp:home the address 203.0.113.1/24
ip -n isp address add 203.0.113.1/24 broadcast + dev home
# give isp:core the address 198.51.100.1/24
ip -n isp address add 198.51.100.1/24 broadcast + dev core
# give isp:web the address 192.0.2.1/24
ip -n isp address add 192.0.2.1/24 broadcast + dev web
# give isp:out the address 198.18.0.1/24
ip -n isp address add 198.18.0.1/24 broadcast + dev out
# give resolver:eth0 the address 198.51.100.53/24
ip -n resolver address add 198.51.100.53/24 broadcast + dev eth0
# give root:eth0 the address 198.51.100.2/24
ip -n root address add 198.51.100.2/24 broadcast + dev eth0
# give tld:eth0 the address 198.51.100.3/24
ip -n tld address add 198.51.100.3/24 broadcast + dev eth0
# give auth:eth0 the address 198.51.100.4/24
ip -n auth address add 198.51.100.4/24 broadcast + dev eth0
# give web:eth0 the address 192.0.2.80/24
ip -n web address add 192.0.2.80/24 broadcast + dev eth0
# give outside:eth0 the address 198.18.0.99/24
ip -n outside address add 198.18.0.99/24 broadcast + dev eth0

# switch pc1:eth0 on
ip -n pc1 link set dev eth0 up
# switch pc2:eth0 on
ip -n pc2 link set dev eth0 up
# switch server:eth0 on
ip -n server link set dev eth0 up
# switch sw:pc1 on
ip -n sw link set dev pc1 up
# switch sw:pc2 on
ip -n sw link set dev pc2 up
# switch sw:server on
ip -n sw link set dev server up
# switch sw:home on
ip -n sw link set dev home up
# switch home:lan on
ip -n home link set dev lan up
# switch home:wan on
ip -n home link set dev wan up
# switch isp:home on
ip -n isp link set dev home up
# switch isp:core on
ip -n isp link set dev core up
# switch isp:web on
ip -n isp link set dev web up
# switch isp:out on
ip -n isp link set dev out up
# switch core:isp on
ip -n core link set dev isp up
# switch core:resolver on
ip -n core link set dev resolver up
# switch core:root on
ip -n core link set dev root up
# switch core:tld on
ip -n core link set dev tld up
# switch core:auth on
ip -n core link set dev auth up
# switch resolver:eth0 on
ip -n resolver link set dev eth0 up
# switch root:eth0 on
ip -n root link set dev eth0 up
# switch tld:eth0 on
ip -n tld link set dev eth0 up
# switch auth:eth0 on
ip -n auth link set dev eth0 up
# switch web:eth0 on
ip -n web link set dev eth0 up
# switch outside:eth0 on
ip -n outside link set dev eth0 up

# route default by way of 203.0.113.1 on home
ip -n home route add default via 203.0.113.1 dev wan
# route default by way of 198.51.100.1 on resolver
ip -n resolver route add default via 198.51.100.1 dev eth0
# route default by way of 198.51.100.1 on root
ip -n root route add default via 198.51.100.1 dev eth0
# route default by way of 198.51.100.1 on tld
ip -n tld route add default via 198.51.100.1 dev eth0
# route default by way of 198.51.100.1 on auth
ip -n auth route add default via 198.51.100.1 dev eth0
# route default by way of 192.0.2.1 on web
ip -n web route add default via 192.0.2.1 dev eth0
# route default by way of 198.18.0.1 on outside
ip -n outside route add default via 198.18.0.1 dev eth0

# load 8 packet filter rules into home
in_ns home iptables-restore <<'RULES'
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -i wan -d 203.0.113.2 -p tcp --dport 8080 -j DNAT --to-destination 192.168.1.10:80
-A POSTROUTING -o wan -j MASQUERADE
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -i wan -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -i wan -j DROP
-A FORWARD -i wan -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i wan -m conntrack --ctstate DNAT -j ACCEPT
-A FORWARD -i wan -j DROP
-A FORWARD -o wan -m conntrack --ctstate INVALID -j DROP
COMMIT
RULES
# load 6 packet filter rules into isp
in_ns isp iptables-restore <<'RULES'
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -s 10.0.0.0/8 -m comment --comment private -j DROP
-A PREROUTING -d 10.0.0.0/8 -m comment --comment private -j DROP
-A PREROUTING -s 172.16.0.0/12 -m comment --comment private -j DROP
-A PREROUTING -d 172.16.0.0/12 -m comment --comment private -j DROP
-A PREROUTING -s 192.168.0.0/16 -m comment --comment private -j DROP
-A PREROUTING -d 192.168.0.0/16 -m comment --comment private -j DROP
COMMIT
RULES

# write /etc/hosts in pc1 (48 octets)
put pc1 /etc/hosts <<'END'
127.0.0.1 localhost
::1 localhost
127.0.1.1 pc1
END
# write /etc/resolv.conf in pc1 (0 octets)
put pc1 /etc/resolv.conf <<'END'
END
# write /run/wirelab/udhcpc.sh in pc1 (978 octets)
put pc1 /run/wirelab/udhcpc.sh 755 <<'END'
#!/bin/sh
# udhcpc calls this with the event as argument and the lease in the environment.
# With KEEP_ADDRESS set, a client that only asks leaves the address alone when nobody answers.
case "$1" in
deconfig)
    ip link set "$interface" up
    [ -n "$KEEP_ADDRESS" ] || ip -4 address flush dev "$interface"
    ;;
bound | renew)
    ip -4 -o address show dev "$interface" | grep -qwF "$ip/$mask" || {
        ip -4 address flush dev "$interface"
        ip address add "$ip/$mask" broadcast + dev "$interface"
    }
    for gateway in $router; do
        ip route replace default via "$gateway" dev "$interface"
        break
    done
    {
        [ -z "$domain" ] || echo "search $domain"
        for server in $dns; do echo "nameserver $server"; done
    } >/etc/resolv.conf
    echo "$ip/$mask router $router dns $dns lease $lease server $serverid" >"/run/wirelab/lease-$interface.new"
    mv "/run/wirelab/lease-$interface.new" "/run/wirelab/lease-$interface"
    ;;
esac
END
# write /etc/hosts in pc2 (48 octets)
put pc2 /etc/hosts <<'END'
127.0.0.1 localhost
::1 localhost
127.0.1.1 pc2
END
# write /etc/resolv.conf in pc2 (0 octets)
put pc2 /etc/resolv.conf <<'END'
END
# write /run/wirelab/udhcpc.sh in pc2 (978 octets)
put pc2 /run/wirelab/udhcpc.sh 755 <<'END'
#!/bin/sh
# udhcpc calls this with the event as argument and the lease in the environment.
# With KEEP_ADDRESS set, a client that only asks leaves the address alone when nobody answers.
case "$1" in
deconfig)
    ip link set "$interface" up
    [ -n "$KEEP_ADDRESS" ] || ip -4 address flush dev "$interface"
    ;;
bound | renew)
    ip -4 -o address show dev "$interface" | grep -qwF "$ip/$mask" || {
        ip -4 address flush dev "$interface"
        ip address add "$ip/$mask" broadcast + dev "$interface"
    }
    for gateway in $router; do
        ip route replace default via "$gateway" dev "$interface"
        break
    done
    {
        [ -z "$domain" ] || echo "search $domain"
        for server in $dns; do echo "nameserver $server"; done
    } >/etc/resolv.conf
    echo "$ip/$mask router $router dns $dns lease $lease server $serverid" >"/run/wirelab/lease-$interface.new"
    mv "/run/wirelab/lease-$interface.new" "/run/wirelab/lease-$interface"
    ;;
esac
END
# write /etc/hosts in server (51 octets)
put server /etc/hosts <<'END'
127.0.0.1 localhost
::1 localhost
127.0.1.1 server
END
# write /etc/resolv.conf in server (0 octets)
put server /etc/resolv.conf <<'END'
END
# write /run/wirelab/www/index.html in server (28 octets)
put server /run/wirelab/www/index.html <<'END'
This is the server at home.
END
# write /run/wirelab/udhcpc.sh in server (978 octets)
put server /run/wirelab/udhcpc.sh 755 <<'END'
#!/bin/sh
# udhcpc calls this with the event as argument and the lease in the environment.
# With KEEP_ADDRESS set, a client that only asks leaves the address alone when nobody answers.
case "$1" in
deconfig)
    ip link set "$interface" up
    [ -n "$KEEP_ADDRESS" ] || ip -4 address flush dev "$interface"
    ;;
bound | renew)
    ip -4 -o address show dev "$interface" | grep -qwF "$ip/$mask" || {
        ip -4 address flush dev "$interface"
        ip address add "$ip/$mask" broadcast + dev "$interface"
    }
    for gateway in $router; do
        ip route replace default via "$gateway" dev "$interface"
        break
    done
    {
        [ -z "$domain" ] || echo "search $domain"
        for server in $dns; do echo "nameserver $server"; done
    } >/etc/resolv.conf
    echo "$ip/$mask router $router dns $dns lease $lease server $serverid" >"/run/wirelab/lease-$interface.new"
    mv "/run/wirelab/lease-$interface.new" "/run/wirelab/lease-$interface"
    ;;
esac
END
# write /etc/hosts in home (51 octets)
put home /etc/hosts <<'END'
127.0.0.1 localhost
::1 localhost
192.168.1.1 home
END
# write /etc/resolv.conf in home (0 octets)
put home /etc/resolv.conf <<'END'
END
# write /run/wirelab/dnsmasq.conf in home (427 octets)
put home /run/wirelab/dnsmasq.conf <<'END'
no-resolv
no-hosts
no-poll
bind-interfaces
log-facility=-
dhcp-leasefile=/run/wirelab/dnsmasq.leases
dhcp-authoritative
no-ping
server=198.51.100.53
cache-size=1000
interface=lan
dhcp-range=set:pool0,192.168.1.100,192.168.1.199,255.255.255.0,3600
dhcp-option=tag:pool0,option:router,192.168.1.1
dhcp-option=tag:pool0,option:dns-server,192.168.1.1
domain=home.arpa,192.168.1.0/24
dhcp-host=02:57:4c:00:03:00,192.168.1.10,server
END
# write /etc/hosts in isp (50 octets)
put isp /etc/hosts <<'END'
127.0.0.1 localhost
::1 localhost
203.0.113.1 isp
END
# write /etc/resolv.conf in isp (0 octets)
put isp /etc/resolv.conf <<'END'
END
# write /etc/hosts in resolver (57 octets)
put resolver /etc/hosts <<'END'
127.0.0.1 localhost
::1 localhost
198.51.100.53 resolver
END
# write /etc/resolv.conf in resolver (0 octets)
put resolver /etc/resolv.conf <<'END'
END
# write /run/wirelab/unbound.conf in resolver (472 octets)
put resolver /run/wirelab/unbound.conf <<'END'
server:
  interface: 198.51.100.53
  interface: 127.0.0.1
  access-control: 0.0.0.0/0 allow
  access-control: ::0/0 allow
  username: ""
  chroot: ""
  directory: "/run/wirelab"
  pidfile: ""
  use-syslog: no
  logfile: ""
  num-threads: 1
  do-ip6: no
  rrset-roundrobin: yes
  serve-expired: no
  module-config: "iterator"
  root-hints: "/run/wirelab/root.hints"
remote-control:
  control-enable: yes
  control-interface: /run/wirelab/unbound.ctl
  control-use-cert: no
END
# write /run/wirelab/root.hints in resolver (82 octets)
put resolver /run/wirelab/root.hints <<'END'
. 3600000 IN NS a.root-servers.net.
a.root-servers.net. 3600000 IN A 198.51.100.2
END
# write /etc/hosts in root (52 octets)
put root /etc/hosts <<'END'
127.0.0.1 localhost
::1 localhost
198.51.100.2 root
END
# write /etc/resolv.conf in root (0 octets)
put root /etc/resolv.conf <<'END'
END
# write /run/wirelab/nsd.conf in root (365 octets)
put root /run/wirelab/nsd.conf <<'END'
server:
  ip-address: 198.51.100.2
  username: ""
  server-count: 1
  zonesdir: "/run/wirelab"
  pidfile: ""
  database: ""
  xfrdfile: "/run/wirelab/xfrd.state"
  zonelistfile: "/run/wirelab/zone.list"
  xfrdir: "/run/wirelab"
  logfile: "/dev/stderr"
  rrl-ratelimit: 0
  round-robin: yes
remote-control:
  control-enable: no
zone:
  name: "."
  zonefile: "root"
END
# write /run/wirelab/root in root (366 octets)
put root /run/wirelab/root <<'END'
. 300 IN SOA a.root-servers.net. hostmaster.invalid. 1 3600 600 86400 300
. 300 IN NS a.root-servers.net.
a.root-servers.net. 300 IN A 198.51.100.2
a.gtld-servers.net. 300 IN A 198.51.100.3
com. 300 IN NS a.gtld-servers.net.
cn. 300 IN NS a.dns.cn.
a.dns.cn. 300 IN A 198.51.100.3
org. 300 IN NS a0.org.afilias-nst.org.
a0.org.afilias-nst.org. 300 IN A 198.51.100.3
END
# write /etc/hosts in tld (51 octets)
put tld /etc/hosts <<'END'
127.0.0.1 localhost
::1 localhost
198.51.100.3 tld
END
# write /etc/resolv.conf in tld (0 octets)
put tld /etc/resolv.conf <<'END'
END
# write /run/wirelab/nsd.conf in tld (458 octets)
put tld /run/wirelab/nsd.conf <<'END'
server:
  ip-address: 198.51.100.3
  username: ""
  server-count: 1
  zonesdir: "/run/wirelab"
  pidfile: ""
  database: ""
  xfrdfile: "/run/wirelab/xfrd.state"
  zonelistfile: "/run/wirelab/zone.list"
  xfrdir: "/run/wirelab"
  logfile: "/dev/stderr"
  rrl-ratelimit: 0
  round-robin: yes
remote-control:
  control-enable: no
zone:
  name: "com."
  zonefile: "com.zone"
zone:
  name: "cn."
  zonefile: "cn.zone"
zone:
  name: "org."
  zonefile: "org.zone"
END
# write /run/wirelab/com.zone in tld (247 octets)
put tld /run/wirelab/com.zone <<'END'
com. 300 IN SOA a.gtld-servers.net. hostmaster.com. 1 3600 600 86400 300
com. 300 IN NS a.gtld-servers.net.
example.com. 300 IN NS ns.example.com.
ns.example.com. 300 IN A 198.51.100.4
qq.com. 300 IN NS ns.qq.com.
ns.qq.com. 300 IN A 198.51.100.4
END
# write /run/wirelab/cn.zone in tld (117 octets)
put tld /run/wirelab/cn.zone <<'END'
cn. 300 IN SOA a.dns.cn. hostmaster.cn. 1 3600 600 86400 300
cn. 300 IN NS a.dns.cn.
a.dns.cn. 300 IN A 198.51.100.3
END
# write /run/wirelab/org.zone in tld (162 octets)
put tld /run/wirelab/org.zone <<'END'
org. 300 IN SOA a0.org.afilias-nst.org. hostmaster.org. 1 3600 600 86400 300
org. 300 IN NS a0.org.afilias-nst.org.
a0.org.afilias-nst.org. 300 IN A 198.51.100.3
END
# write /etc/hosts in auth (52 octets)
put auth /etc/hosts <<'END'
127.0.0.1 localhost
::1 localhost
198.51.100.4 auth
END
# write /etc/resolv.conf in auth (0 octets)
put auth /etc/resolv.conf <<'END'
END
# write /run/wirelab/nsd.conf in auth (438 octets)
put auth /run/wirelab/nsd.conf <<'END'
server:
  ip-address: 198.51.100.4
  username: ""
  server-count: 1
  zonesdir: "/run/wirelab"
  pidfile: ""
  database: ""
  xfrdfile: "/run/wirelab/xfrd.state"
  zonelistfile: "/run/wirelab/zone.list"
  xfrdir: "/run/wirelab"
  logfile: "/dev/stderr"
  rrl-ratelimit: 0
  round-robin: yes
remote-control:
  control-enable: no
zone:
  name: "example.com."
  zonefile: "example.com.zone"
zone:
  name: "qq.com."
  zonefile: "qq.com.zone"
END
# write /run/wirelab/example.com.zone in auth (199 octets)
put auth /run/wirelab/example.com.zone <<'END'
example.com. 300 IN SOA ns.example.com. hostmaster.example.com. 1 3600 600 86400 300
www.example.com. 300 IN A 192.0.2.80
example.com. 300 IN NS ns.example.com.
ns.example.com. 300 IN A 198.51.100.4
END
# write /run/wirelab/qq.com.zone in auth (230 octets)
put auth /run/wirelab/qq.com.zone <<'END'
qq.com. 300 IN SOA ns.qq.com. hostmaster.qq.com. 1 3600 600 86400 300
www.qq.com. 300 IN A 192.0.2.80
mail.qq.com. 300 IN A 192.0.2.80
game.qq.com. 300 IN A 192.0.2.80
qq.com. 300 IN NS ns.qq.com.
ns.qq.com. 300 IN A 198.51.100.4
END
# write /etc/hosts in web (49 octets)
put web /etc/hosts <<'END'
127.0.0.1 localhost
::1 localhost
192.0.2.80 web
END
# write /etc/resolv.conf in web (0 octets)
put web /etc/resolv.conf <<'END'
END
# write /run/wirelab/www/index.html in web (97 octets)
put web /run/wirelab/www/index.html <<'END'
<!doctype html>
<title>Example</title>
<p>You reached www.example.com from behind a home router.
END
# write /run/wirelab/www/for-pc1 in web (14 octets)
put web /run/wirelab/www/for-pc1 <<'END'
for pc1 alone
END
# write /run/wirelab/www/for-pc2 in web (14 octets)
put web /run/wirelab/www/for-pc2 <<'END'
for pc2 alone
END
# write /etc/hosts in outside (54 octets)
put outside /etc/hosts <<'END'
127.0.0.1 localhost
::1 localhost
198.18.0.99 outside
END
# write /etc/resolv.conf in outside (25 octets)
put outside /etc/resolv.conf <<'END'
nameserver 198.51.100.53
END

# start http on server
in_node server busybox httpd -f -p 80 -h /run/wirelab/www >"$lab"/log/server-http.log 2>&1 </dev/null &
# start dnsmasq on home
in_node home dnsmasq --no-daemon --conf-file=/run/wirelab/dnsmasq.conf >"$lab"/log/home-dnsmasq.log 2>&1 </dev/null &
# start unbound on resolver
in_node resolver unbound -d -p -c /run/wirelab/unbound.conf >"$lab"/log/resolver-unbound.log 2>&1 </dev/null &
# start nsd on root
in_node root nsd -d -c /run/wirelab/nsd.conf >"$lab"/log/root-nsd.log 2>&1 </dev/null &
# start nsd on tld
in_node tld nsd -d -c /run/wirelab/nsd.conf >"$lab"/log/tld-nsd.log 2>&1 </dev/null &
# start nsd on auth
in_node auth nsd -d -c /run/wirelab/nsd.conf >"$lab"/log/auth-nsd.log 2>&1 </dev/null &
# start http on web
in_node web busybox httpd -f -p 80 -h /run/wirelab/www >"$lab"/log/web-http.log 2>&1 </dev/null &

# wait until http on server takes connections at 127.0.0.1 port 80
wait_for in_node server sh -c 'ss -Hltn sport = :80 | grep -q .'
# wait until dnsmasq on home answers DNS at 192.168.1.1 port 53
wait_for in_node home dig +time=1 +tries=1 -p 53 @192.168.1.1 version.bind CH TXT
# wait until unbound on resolver answers DNS at 198.51.100.53 port 53
wait_for in_node resolver dig +time=1 +tries=1 -p 53 @198.51.100.53 version.bind CH TXT
# wait until nsd on root answers DNS at 198.51.100.2 port 53
wait_for in_node root dig +time=1 +tries=1 -p 53 @198.51.100.2 version.bind CH TXT
# wait until nsd on tld answers DNS at 198.51.100.3 port 53
wait_for in_node tld dig +time=1 +tries=1 -p 53 @198.51.100.3 version.bind CH TXT
# wait until nsd on auth answers DNS at 198.51.100.4 port 53
wait_for in_node auth dig +time=1 +tries=1 -p 53 @198.51.100.4 version.bind CH TXT
# wait until http on web takes connections at 127.0.0.1 port 80
wait_for in_node web sh -c 'ss -Hltn sport = :80 | grep -q .'

# start udhcpc on pc1
in_node pc1 udhcpc -f -i eth0 -s /run/wirelab/udhcpc.sh -t 5 -T 1 -A 1 -x hostname:pc1 >"$lab"/log/pc1-udhcpc.log 2>&1 </dev/null &
# start udhcpc on pc2
in_node pc2 udhcpc -f -i eth0 -s /run/wirelab/udhcpc.sh -t 5 -T 1 -A 1 -x hostname:pc2 >"$lab"/log/pc2-udhcpc.log 2>&1 </dev/null &
# start udhcpc on server
in_node server udhcpc -f -i eth0 -s /run/wirelab/udhcpc.sh -t 5 -T 1 -A 1 -x hostname:server >"$lab"/log/server-udhcpc.log 2>&1 </dev/null &

# wait until udhcpc on pc1 has written /run/wirelab/lease-eth0
wait_for in_node pc1 test -e /run/wirelab/lease-eth0
# wait until udhcpc on pc2 has written /run/wirelab/lease-eth0
wait_for in_node pc2 test -e /run/wirelab/lease-eth0
# wait until udhcpc on server has written /run/wirelab/lease-eth0
wait_for in_node server test -e /run/wirelab/lease-eth0

# The lab is up.
if [ $# -gt 0 ]; then
    "$@"
else
    echo "The lab nat is up until you leave this shell. Enter a node with: ip netns exec NODE COMMAND" >&2
    sh -i
fi
