"""The words of the lab file's manual that the model does not hold: introductions, values, and examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Section(NamedTuple):
    """A part of the page: its title, the model that it is about, text before the keys, and an example."""

    title: str
    model: str
    text: str
    example: str = ""


HEAD = """\
# The lab file

<!-- `wirelab schema --markdown` prints this page. Do not change it here, but in emulator/lab: model.py, nodes.py,
services.py, checks/, check_examples.py and manual_text.py. Then: UPDATE_GOLDEN=1 .venv/bin/python -m pytest
tests/golden -->

A lab file says which nodes there are, how they are cabled, what happens while the lab is watched, and what must be
true of the packets. It is YAML (1.2, core schema: `on`, `yes` and `22:22` are text), at most 1 MiB. Keys of several
words have hyphens. An unknown key is an error. What is left out has a default, and `wirelab plan LAB` shows what comes
of it. `wirelab validate FILE` tells all errors at once; `wirelab schema` prints the JSON Schema for editors.
"""

SECTIONS = (
    Section(
        "The whole file",
        "LabSpec",
        "A lab needs a name and nodes; all other keys may be left out.",
        """\
name: two-rooms
title: Two hosts on one switch
nodes:
  ann: {interfaces: {eth0: 10.1.0.10/24}}
  bob: {interfaces: {eth0: 10.1.0.20/24}}
  sw: {kind: switch}
links:
  - [ann, sw]
  - [bob, sw]
scenes:
  - name: call
    steps:
      - {on: ann, run: "ping -n -c 1 -W 1 {bob.ip}", id: answer}
checks:
  - {name: carry, layer: physical, check: links-carry}
  - {name: called, layer: network, check: seen, scene: call, filter: icmp.type == 8, at: "bob:eth0"}
break:
  pulled:
    about: bob's cable is pulled
    steps: [{unplug: "bob:eth0"}]
    fails: [carry, called]
""",
    ),
    Section(
        "Nodes",
        "NodeSpec",
        """\
A node is a host, a router or a switch, with network interfaces, a host name and files of its own. `{}` after a node's
name takes all defaults. Interfaces come from `links`; name one under `interfaces` to give it an address. Addresses
that are left out are chosen, and so are MACs and static routes, the same ones every time.

`count` makes many nodes of one entry: `pc: {count: 30}` is pc1 to pc30. The short form of a name with a count is a
range, `pc1..pc30`, which can also begin elsewhere (`pc31..pc60`) and keep zeros (`pc01..pc30`). One of them that is
named by itself, too, has its own settings over those of the range. Links and the `on` of steps take ranges and names
with a count. Counts and ranges make at most 10,000 nodes; `wirelab up --topology` makes whole labs of a few words.""",
        """\
nodes:
  desk1..desk20: {about: a desk}
  desk7: {about: the desk by the window}
  guest: {count: 3}
  pc: {interfaces: {eth0: dhcp}}
  home:
    kind: router
    interfaces: {wan: 203.0.113.2/24}
    bridges:
      lan: {ports: [lan1, lan2], address: 192.168.1.1/24}
    nat: {masquerade: wan, publish: {port: 8080, to: server, to-port: 80}}
    firewall: {untrusted: wan}
    services:
      dnsmasq: {dhcp: [{interface: lan, range: 192.168.1.100-192.168.1.199}]}
  server:
    interfaces: {eth0: 192.168.1.10/24}
    files: {/run/greeting: "hello\\n"}
    programs:
      greeter: {run: "socat TCP-LISTEN:7,fork OPEN:/run/greeting,rdonly", ready: {tcp: 7}}
""",
    ),
    Section(
        "Services",
        "Services",
        """\
Services are real daemons, one process each, in the network of their node. A step can `kill`, `restart` and `reload`
them as `node:service`, for instance `home:dnsmasq`; with `restart: on-failure` they come back by themselves. The DHCP
client needs no entry here: `interfaces: {eth0: dhcp}` starts it, and it is called `udhcpc`.""",
        """\
nodes:
  resolver: {services: {unbound: {}}}
  auth: {services: {nsd: {}}}
  web: {services: {http: {pages: {/: "hello\\n"}}}}
""",
    ),
    Section(
        "Links",
        "LinkSpec",
        """\
A link is a cable between two interfaces. `[pc1, sw]` takes the next free interface of each; `pc1:eth0` takes this
one. The ports of a switch are named after the node at the other end. `[h1..h100, sw]` is a hundred cables into one
switch, `[a1..a9, a2..a10]` nine cables that make a row.""",
        """\
links:
  - [pc1, sw]
  - [h1..h100, sw]
  - ["desk1..desk20:eth0", sw]
  - [pc2:eth1, sw]
  - {endpoints: [sw, home:lan], mtu: 1400, rate: 10mbit}
""",
    ),
    Section(
        "Defaults, kinds and groups",
        "DefaultsSpec",
        """\
`defaults` holds settings of all links. `kinds` and `groups` hold settings of nodes, in the form of a node: those of
its kind come first, those of its `group` over them, the node's own over both. Mappings are merged key by key,
anything else replaces, and `null` takes an inherited setting away.""",
        """\
defaults: {mtu: 1400}
kinds:
  router: {sysctls: {net.ipv4.ip_default_ttl: 255}}
groups:
  office: {dns: 192.168.1.1, env: {TZ: UTC}}
nodes:
  pc1: {group: office}
  pc2: {group: office, env: {TZ: null}}
""",
    ),
    Section(
        "Zones",
        "ZoneSpec",
        """\
DNS zones that exist in the lab only, whatever their names. A zone's parent delegates to it by itself; a resolver
starts at the lab's zone `.`. Names in a zone are relative to it unless they end with a dot.""",
        """\
zones:
  .: {nameservers: {a.root-servers.net.: root}}
  com.: {nameservers: {a.gtld-servers.net.: tld}}
  example.com.:
    nameservers: auth
    records:
      www: web
      mail: {address: 192.0.2.25, ttl: 60}
      ftp: {cname: www}
""",
    ),
    Section(
        "Scenes",
        "SceneSpec",
        """\
Scenes are what `wirelab verify` does while every interface is recorded, one after the other. They bring about what the
checks are about: they renew the lease, forget the neighbour, empty the cache. A step does one thing: `run` a command,
pull (`unplug`) or put back (`plug`) a cable, `freeze` a node and let it `continue`, `kill` and `restart` a service or
a whole node, cut the lab apart (`partition`), `heal` all of it, `reload` a service, or `stop` a command that runs in
the background. On a node that is frozen or off no command runs. A command is split into words as a POSIX shell does
it, but no shell runs it: write `sh -c '…'` for one. Instead of a `sleep`, wait with `until` for what you wait for.""",
        """\
scenes:
  - name: serve
    about: the server starts, a client connects, and both end
    steps:
      - {on: server, run: "socat -u TCP-LISTEN:{run.port},reuseaddr -", id: server, background: true, timeout: 30s}
      - {on: server, run: "ss -Hltn sport = :{run.port}", until: LISTEN}
      - {on: client, run: "socat -u - TCP:{server.ip}:{run.port}", stdin: "hello\\n"}
      - {stop: server}
""",
    ),
    Section(
        "Checks",
        "AnyCheck",
        """\
A check is a statement about the recorded packets and the nodes' tables. Its verdict is PASS, FAIL, or UNKNOWN when
evidence is missing; each comes with a reason and the numbers of the frames that show it. `check` chooses the kind;
all kinds have the keys of the first table, and each has keys of its own.""",
    ),
    Section(
        "Twins",
        "BreakSpec",
        """\
A twin breaks the lab on purpose, and names every check that must then fail: it shows that those checks can. `wirelab
verify LAB --break TWIN` applies it to a fresh instance. `patch` changes the file before it is read (mappings merge,
`null` removes, anything else replaces); `steps` are done to the running lab.""",
        """\
break:
  no-snat:
    about: the router forwards without translating the source
    patch: {nodes: {home: {nat: {masquerade: null}}}}
    fails: [snat, page]
  killed:
    about: the router's DHCP and DNS service is dead
    steps: [{kill: "home:dnsmasq"}]
    fails: [lease, page]
""",
    ),
)

MORE = "Further parts"
"""The section of what stands in the file and in no section above."""

VALUES = (
    ("text", "Any text; in quotes where YAML would read something else.", ("hello", '"10"')),
    ("name", "Small letters, digits and hyphens, at most 48.", ("web-page",)),
    ("number", "A whole number.", ("8080",)),
    ("duration", "Seconds, or a number with `s`, `m`, `h` or `d`.", ("90", "90s", "5m", "1h", "7d")),
    ("rate", "Bits a second, or a number with `bit`, `kbit`, `mbit` or `gbit`.", ("512kbit", "10mbit")),
    ("address/length", "An address with its prefix length.", ("192.168.1.1/24", "2001:db8::1/64")),
    ("prefix", "A network, or `default`.", ("192.0.2.0/24", "default")),
    ("address", "An IP address, or the node or `node:interface` that has it.", ("192.0.2.80", "web", "home:wan")),
    ("node", "The name of a node.", ("pc1",)),
    ("node:interface", "An interface of a node.", ("pc1:eth0",)),
    ("place", "`node:interface`, or a node for all its interfaces.", ("home", "home:wan")),
    ("node:service", "A service or program of a node.", ("home:dnsmasq",)),
    ("scene", "The name of a scene.", ("page",)),
    ("command", "One line, split into words as a shell does it, or the list of words.", ("ping -c 1 web",)),
    ("regular expression", "In the syntax of Python's `re`.", ("(?m)^LISTEN",)),
    ("path", "A file below `/run`, `/tmp`, `/var/tmp`, `/dev/shm` or `/var/log`.", ("/run/server.py",)),
    ("filter", "A display filter, see [Filters](#filters).", ("tcp.dstport == 80 && ip.dst == {web.ip}",)),
    ("template", "Text in which templates are filled in, see [Templates](#templates).", ("http://{web.ip}/",)),
)
"""Words of the column "Value": the word, what it means, and examples as they stand in a file."""

VALUES_TEXT = (
    "The words of the column *Value*. *X or list*: one value may stand without the brackets of the list. *X → Y*: a "
    "mapping from X to Y, such as `{web: 192.0.2.80}`. A word that is a link: a mapping with the keys of that part."
)

TEMPLATES = (
    ("{web.ip}", "the IPv4 address of the node `web`; its IPv6 address if it has no other"),
    ("{web.ip6}", "its IPv6 address"),
    ("{web.mac}", "its MAC"),
    ("{home.lan.ip}", "the address of one of its interfaces; `ip6` and `mac` too"),
    ("{home.lan.net}", "the network of that address, with prefix length"),
    ("{gateway}", "in a step: the next hop of the default route of the node where the command runs"),
    ("{run.port}", "a port from 20,000 to 29,999, another one with every verification of a running lab"),
    ("{run.number}", "how often the lab was verified before, from 0"),
)
"""What stands in braces, and its value."""

TEMPLATES_TEXT = (
    "In commands, filters and other texts marked *template*, names in braces are filled in. `run.…` is known only when "
    "the lab is verified, `gateway` only in a step; the others are known when the file is read."
)

FILTERS_TEXT = """\
Filters are the part of Wireshark's display filter language that labs use, so that a filter can be pasted into Wireshark
once its templates are filled in.

| Form | Matches |
|---|---|
| `dns` | frames with this protocol |
| `tcp.flags.syn` | frames that have this field, whatever its value |
| `tcp.dstport == 80` | the field has this value; also `!=` `<` `>` `<=` `>=`, in words `eq` `ne` `lt` `gt` `le` `ge` |
| `ip.addr == 192.168.0.0/16` | an address within the prefix |
| `tcp.port in {80, 443, 8000..8999}` | one of the values, or within a range |
| `udp.payload contains "example"` | text or octets within |
| `!arp`, `dns && ip`, `arp \\|\\| icmp`, `(…)` | not, and, or; in words `not` `and` `or` |

A field may have several values (`ip.addr` has both addresses): a comparison holds when it holds for any of them, except
`!=`, which holds when no value is equal. A comparison with a field that a frame lacks is false. Fields whose name
begins with `wirelab.icmp` are those of the packet that an ICMP error quotes."""

SHORT_FORMS: Mapping[str, tuple[str, ...]] = {
    "NodeSpec": ("",),
    "InterfaceSpec": ("dhcp", "slaac", "none", "192.168.1.1/24", "[192.168.1.1/24, 2001:db8::1/64]"),
    "LinkSpec": ("[pc1, sw]", "[pc1:eth0, home:lan]"),
    "FileSpec": ("some text",),
    "ProgramSpec": ("socat TCP-LISTEN:7 PIPE",),
    "RecordSpec": ("192.0.2.80", "web", "[web, 2001:db8::80]"),
    "ZoneSpec.nameservers": ("auth",),
    "RecordSpec.mx": ("mail",),
    "NatSpec.masquerade": ("wan", "[wan, {out: dsl, protocols: [udp]}]"),
    "NatSpec.publish": ("{port: 8080, to: server}",),
    "DhcpPool.range": ("192.168.1.100-192.168.1.199",),
}
"""Model, or model and key: its short forms, as they stand in a file. The long forms are found by reading them."""
