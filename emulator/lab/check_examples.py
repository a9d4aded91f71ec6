"""One example of each kind of check, for the manual. A new kind needs one here; a test lists those that lack it."""

from __future__ import annotations

CHECKS = """\
- {name: carry, layer: physical, check: links-carry}
- {name: bits, layer: physical, check: re-encode, about: a frame is nothing but bits}
- {name: mtu, layer: physical, check: within-mtu}
- {name: checksums, layer: physical, check: checksums}
- name: as-bits
  layer: physical
  check: bit-stream
  filter: icmp.type == 8
  at: pc1:eth0

- {name: arp, layer: data-link, check: arp-resolution, scene: ask-mac, asker: "pc1:eth0", target: "home:lan"}
- name: two-with-one-address
  layer: data-link
  check: address-conflict
  scene: probe
  at: sw
  address: 192.168.1.10
- name: gateway-mac
  layer: data-link
  check: next-hop-mac
  scene: far
  from: pc1:eth0
  to: web:eth0
  router: home:lan
- {name: switch-learned, layer: data-link, check: mac-table, switch: sw}
- {name: switch-forwards, layer: data-link, check: no-flooding, switch: sw}
- {name: no-loop, layer: data-link, check: spanning-tree, switches: [sw1, sw2, sw3]}
- name: encapsulation
  layer: data-link
  check: encapsulation
  filter: http.request
  at: pc1:eth0
  layers: [eth, ip, tcp, http]

- name: subnet
  layer: network
  check: subnet-arithmetic
  at: [pc1:eth0, pc2:eth0]
  network: 192.168.3.0/25
  broadcast: 192.168.3.127
  hosts: 126
  first: 192.168.3.1
  last: 192.168.3.126
- {name: lease, layer: network, check: lease, scene: renew, client: "pc1:eth0", server: "home:lan"}
- name: ttl
  layer: network
  check: hop-count
  scene: far
  from: pc1:eth0
  to: web:eth0
  routers: [home, isp]
  filter: icmp.type == 8
- name: way
  layer: network
  check: path
  scene: far
  filter: icmp.type == 8
  through: [pc1:eth0, home:lan, home:wan, web:eth0]
- name: no-nat
  layer: network
  check: end-to-end
  from: pc:eth0
  to: web:eth0
  filter: ipv6 && tcp.dstport == 80
- name: snat
  layer: network
  check: source-nat
  scene: page
  router: home
  inside: lan
  outside: wan
  filter: tcp.dstport == 80 && ip.dst == {web.ip}
- name: shared-port
  layer: network
  check: port-translation
  scene: same-port
  router: home
  inside: lan
  outside: wan
  clients: [pc1:eth0, pc2:eth0]
  filter: tcp.srcport == {run.port} && ip.dst == {web.ip}
- name: dnat
  layer: network
  check: destination-nat
  scene: publish
  router: home
  inside: lan
  outside: wan
  port: 8080
  server: server:eth0
  server-port: 80
- {name: conntrack, layer: network, check: conntrack-agrees, router: home, inside: lan, outside: wan}
- name: unpublished
  layer: network
  check: unanswered
  scene: publish
  filter: tcp.dstport == 8081 && tcp.flags.syn == 1
  at: outside:eth0
- name: no-private
  layer: network
  check: never-seen
  filter: ip.src in {10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16}
  at: [home:wan, isp, web]
- {name: isp-drops, layer: network, check: private-dropped, router: isp}
- {name: nd, layer: network, check: neighbour-discovery, scene: ask-mac, asker: "pc:eth0", target: "home:lan"}
- {name: unique, layer: network, check: duplicate-address-detection, scene: plug, at: "pc:eth0"}
- {name: slaac, layer: network, check: slaac, scene: plug, client: "pc:eth0", router: "home:lan"}

- {name: handshake, layer: transport, check: tcp-handshake, at: "pc1:eth0", filter: "tcp.srcport == {run.port}"}
- {name: acknowledged, layer: transport, check: tcp-acknowledged, at: "pc1:eth0", filter: "tcp.dstport == 80"}
- {name: close, layer: transport, check: tcp-close, at: "pc1:eth0", filter: "tcp.dstport == 80"}
- name: megabyte
  layer: transport
  check: tcp-stream
  at: server:eth0
  filter: tcp.dstport == 5001
  octets: 1000000
  from: client
- name: sent-again
  layer: transport
  check: retransmission
  from: client:eth0
  to: server:eth0
  filter: tcp.dstport == 5001
- name: stays-lost
  layer: transport
  check: lost
  from: client:eth0
  to: server:eth0
  filter: udp.dstport == 5001
- name: dns-by-udp
  layer: transport
  check: seen
  scene: walk
  filter: udp.dstport == 53 && dns.flags.response == 0
  at: [pc1:eth0, home:wan]
  at-least: 1
- name: first-ask-then-connect
  layer: transport
  check: in-order
  scene: page
  filters: [dns.flags.response == 1, tcp.flags.syn == 1, http.request]
  at: pc1:eth0

- {name: dora, layer: application, check: dhcp-exchange, scene: renew, client: "pc1:eth0", server: "home:lan"}
- name: renewed
  layer: application
  check: dhcp-renewal
  scene: wait
  client: pc1:eth0
  server: home:lan
  after: 10s
- name: walk
  layer: application
  check: referral-chain
  scene: walk
  question: www.example.com
  client: pc1
  forwarder: home
  resolver: resolver
  servers: [root, tld, auth]
- name: cached
  layer: application
  check: answered-from-cache
  scene: again
  question: www.example.com
  client: pc1
  server: home
  quiet: [resolver, root, tld, auth]
- name: no-such-name
  layer: application
  check: dns-answer
  question: nothing.example.com
  client: pc1
  server: home
  rcode: NXDOMAIN
- name: counted-down
  layer: application
  check: dns-ttl-falls
  question: www.example.com
  client: pc1
  server: home
  scenes: [walk, again]
- name: takes-turns
  layer: application
  check: dns-rotates
  question: www.example.com
  client: pc1
  server: home
  addresses: [192.0.2.80, 192.0.2.81]
- name: page
  layer: application
  check: http-page
  scene: page
  client: pc1:eth0
  server: web:eth0
  path: /
  host: www.example.com
  step: page
- name: greeting
  layer: application
  check: tls-handshake
  client: pc1:eth0
  server: web:eth0
  server-name: www.example.com
- name: connected
  layer: application
  check: output
  step: states
  on: server
  status: 0
  matches: "^ESTAB"
  lacks: SYN-RECV
"""
"""As they stand under `checks:`, in the order in which the manual has the kinds; `layer` is where it lists them."""
