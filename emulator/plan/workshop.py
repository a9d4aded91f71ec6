"""Keys, and what is signed with them: made when a lab comes up, by scripts that any shell can run. Nothing secret is in
a plan, so the same lab still gives the same plan."""

from __future__ import annotations

from collections.abc import Iterator

from emulator.lab.resolved import CA_FILE, Node, ResolvedLab, Zone, parent_zone
from emulator.plan.ops import Operation, Prepare, PutFile, quote
from emulator.plan.services.base import HOME
from emulator.plan.services.http import CERTIFICATE, KEY
from emulator.plan.services.nsd import file_name, zone_file
from emulator.plan.services.unbound import TRUST_ANCHOR, validates

_DAY_S = 86400
_NEW_KEY = "openssl ecparam -name prime256v1 -genkey -noout -out"


def secrets(lab: ResolvedLab) -> Iterator[Operation]:
    """What makes the CA with the certificates of its servers, and the signed zones, and puts them where they belong."""
    yield from _certificates(lab)
    yield from _signed_zones(lab)


def tools(lab: ResolvedLab) -> set[str]:
    """The programs that `secrets` needs."""
    signing = {"ldns-keygen", "ldns-signzone"} if any(zone.dnssec for zone in lab.zones.values()) else set()
    return signing | ({"openssl"} if _tls_servers(lab) else set())


def _tls_servers(lab: ResolvedLab) -> list[Node]:
    return [node for node in lab.nodes.values() if node.services.http and node.services.http.tls]


def _certificates(lab: ResolvedLab) -> Iterator[Operation]:
    """A CA of the lab's own (RFC 5280): ECDSA with P-256, valid from now on for thirty days."""
    servers = _tls_servers(lab)
    if not servers:
        return
    request = "openssl req -x509 -new -days 30"
    yield Prepare(
        servers[0].name,
        "make the lab's own certificate authority",
        f"{_NEW_KEY} ca.key\n{request} -config ca.conf -key ca.key -out ca.pem\n",
        {"ca.conf": _request(lab.name, "Wirelab lab CA", _CA_EXTENSIONS)},
    )
    for node in servers:
        tls = node.services.http.tls if node.services.http else None
        names = [name.rstrip(".").lower() for name in tls.names] if tls else []
        extensions = f"{_SERVER_EXTENSIONS}subjectAltName = {', '.join(f'DNS:{name}' for name in names)}\n"
        own = node.name
        yield Prepare(
            own,
            f"certify {' and '.join(names)}",
            f"{_NEW_KEY} {own}.key\n"
            f"{request} -config {own}.conf -key {own}.key -CA ca.pem -CAkey ca.key -out {own}.pem\n",
            {f"{own}.conf": _request(lab.name, names[0] if len(names[0]) <= 64 else own, extensions)},
        )
    for node in lab.nodes.values():
        if node.kind != "switch":
            yield PutFile(node.name, CA_FILE, "ca.pem")
    for node in servers:
        yield PutFile(node.name, CERTIFICATE, f"{node.name}.pem")
        yield PutFile(node.name, KEY, f"{node.name}.key", 0o600)


_CA_EXTENSIONS = """\
basicConstraints = critical, CA:true, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
"""
_SERVER_EXTENSIONS = """\
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def _request(organization: str, name: str, extensions: str) -> str:
    """The configuration of openssl-req(1) for one certificate."""
    return (
        "[req]\nprompt = no\ndistinguished_name = subject\nx509_extensions = extensions\nstring_mask = utf8only\n\n"
        f"[subject]\nO = {organization}\nCN = {name}\n\n[extensions]\n{extensions}"
    )


def _signed_zones(lab: ResolvedLab) -> Iterator[Operation]:
    """DNSSEC (RFC 4034) with one ECDSA P-256 key a zone (RFC 6605), children before the parents that vouch for them."""
    signed = sorted((zone for zone in lab.zones.values() if zone.dnssec), key=lambda zone: -_depth(zone.name))
    for zone in signed:
        children = [other.name for other in signed if parent_zone(other.name, lab.zones) == zone.name]
        file = file_name(zone.name)
        yield Prepare(
            zone.servers[0],
            f"make the key of the zone {zone.name} and sign it",
            _signing(zone, children),
            {file: f"$TTL {zone.ttl}\n{zone_file(zone)}"},
        )
    for zone in signed:
        for server in zone.servers:
            yield PutFile(server, f"{HOME}/{file_name(zone.name)}", f"{file_name(zone.name)}.signed")
    for node in lab.nodes.values():
        if validates(lab, node):
            yield PutFile(node.name, TRUST_ANCHOR, f"{file_name('.')}.key")


def _depth(zone: str) -> int:
    return 0 if zone == "." else zone.count(".")


def _signing(zone: Zone, children: list[str]) -> str:
    """The script that signs a zone. A validator forgives a tenth of the signatures' lifetime, at most a day, so those
    that ended a day ago must be short-lived to be too old for it."""
    file = quote([file_name(zone.name)])
    since, until = (7 * _DAY_S, -_DAY_S) if zone.expired else (3600, 30 * _DAY_S)
    lines = [
        "now=$(date +%s)",
        f"key=$(ldns-keygen -a ECDSAP256SHA256 -k {quote([zone.name])})",
        *([f"cat {quote(f'{file_name(child)}.ds' for child in children)} >>{file}"] if children else []),
        f'ldns-signzone -i $((now - {since})) -e $((now + {until})) -f {file}.signed {file} "$key"',
        f'mv "$key.key" {file}.key',
        f'mv "$key.ds" {file}.ds',
    ]
    for record in zone.forged:
        name = record.name.replace(".", r"\.").replace("*", r"\*")
        blank = "[[:blank:]]"
        line = f"^{name}{blank}[0-9]*{blank}IN{blank}{record.type}{blank}"
        said = f"{record.name} {record.ttl} IN {record.type} {record.data}"
        lines += [
            f"{{ sed {quote([f'/{line}/d'])} {file}.signed; echo {quote([said])}; }} >{file}.forged",
            f"mv {file}.forged {file}.signed",
        ]
    return "".join(f"{line}\n" for line in lines)
