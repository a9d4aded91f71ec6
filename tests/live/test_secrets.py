"""Secrets that are made when a lab comes up: a CA with certificates, and signed zones. Real tools judge them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Person

pytestmark = pytest.mark.warm

LAB = """
name: secrets
nodes:
  pc: {interfaces: {eth0: 192.0.2.10/24}, dns: resolver}
  careless: {interfaces: {eth0: 192.0.2.11/24}, services: {unbound: {validate: false}}}
  resolver: {interfaces: {eth0: 192.0.2.53/24}, services: {unbound: {}}}
  top: {interfaces: {eth0: 192.0.2.1/24}, services: {nsd: {}}}
  auth: {interfaces: {eth0: 192.0.2.2/24}, services: {nsd: {}}}
  web:
    interfaces: {eth0: 192.0.2.80/24}
    services: {http: {pages: {/: "a secret page\\n"}, tls: {names: [www.good.com, new.good.com]}}}
  sw: {kind: switch}
links: [[pc, sw], [careless, sw], [resolver, sw], [top, sw], [auth, sw], [web, sw]]
zones:
  .: {nameservers: {a.root-servers.net.: top}, dnssec: true}
  com.: {nameservers: {a.gtld-servers.net.: top}, dnssec: true}
  good.com.:
    nameservers: {ns1: auth, ns2: top}
    dnssec: true
    negative-ttl: 17
    records:
      www: web
      new: web
      other: web
      many: {address: [192.0.2.1, 192.0.2.2, 192.0.2.3, 192.0.2.4], ttl: 60}
      "@": {mx: {mail: 10, backup: 20}, txt: ["v=spf1 -all", 'a "b" \\ é']}
      "*.wild": web
  forged.com.: {nameservers: auth, dnssec: true, records: {www: web, ok: web}, forged: {www: 192.0.2.66}}
  expired.com.: {nameservers: auth, dnssec: true, records: {www: web}, expired: true}
  plain.com.: {nameservers: auth, records: {www: web}}
"""

VALID = {"qr", "rd", "ra", "ad"}
UNPROVED = {"qr", "rd", "ra"}


@pytest.fixture
def lab_file(person: Person, lab_name: str) -> Path:
    """A small signed lab with an HTTPS server, named after the test."""
    path = person.home / f"{lab_name}.yml"
    path.write_text(LAB.replace("name: secrets", f"name: {lab_name}"), encoding="utf-8")
    path.chmod(0o644)
    return path


@pytest.fixture
def lab(person: Person, lab_file: Path, lab_name: str, nothing_left: Callable[[], None]) -> Iterator[str]:
    """The lab, running."""
    person.wirelab("up", str(lab_file))
    yield lab_name
    person.wirelab("down", lab_name)


def ask(person: Person, lab: str, *questions: str) -> list[tuple[str, set[str], set[str]]]:
    """What dig gets on `pc` for each question: (status, flags of the header, answers as `TYPE DATA`)."""
    script = "; ".join(f"dig +tries=1 +time=5 {question}" for question in questions)
    out = person.wirelab("exec", lab, "pc", "--", "sh", "-c", script).stdout
    found = []
    for part in out.split(";; ->>HEADER<<-")[1:]:
        status = re.search(r"status: ([A-Z]+)", part)
        flags = re.search(r";; flags: ([a-z ]+);", part)
        answer = part.partition("ANSWER SECTION:\n")[2].partition("\n\n")[0] if "ANSWER SECTION" in part else ""
        assert status and flags, part
        records = {" ".join(line.split(None, 4)[3:]) for line in answer.splitlines()}
        found.append((status[1], set(flags[1].split()), records))
    assert len(found) == len(questions), out
    return found


def test_signatures_are_believed_only_when_they_are_right(person: Person, lab: str) -> None:
    web = {"A 192.0.2.80"}
    assert ask(
        person, lab,
        "www.good.com", "x.wild.good.com", "ok.forged.com", "www.plain.com", "nobody.good.com",
        "www.forged.com", "+cd www.forged.com", "www.expired.com", "+cd www.expired.com",
        "@192.0.2.11 www.good.com", "@192.0.2.11 www.forged.com",
    ) == [
        ("NOERROR", VALID, web), ("NOERROR", VALID, web), ("NOERROR", VALID, web), ("NOERROR", UNPROVED, web),
        ("NXDOMAIN", VALID, set()),
        ("SERVFAIL", UNPROVED, set()), ("NOERROR", UNPROVED | {"cd"}, {"A 192.0.2.66"}),
        ("SERVFAIL", UNPROVED, set()), ("NOERROR", UNPROVED | {"cd"}, web),
        ("NOERROR", UNPROVED, web), ("NOERROR", UNPROVED, {"A 192.0.2.66"}),
    ]  # fmt: skip
    log = (person.runs / lab / "log" / "resolver-unbound.log").read_text(encoding="utf-8")
    assert "validation failure <www.forged.com. A IN>: signature crypto failed" in log
    assert "validation failure <www.expired.com. A IN>: signature expired" in log


def test_zones_say_more_than_addresses(person: Person, lab: str) -> None:
    many = {f"A 192.0.2.{number}" for number in (1, 2, 3, 4)}
    found = ask(person, lab, "good.com mx", "good.com txt", "many.good.com", "@192.0.2.1 good.com dnskey")
    assert [records for _, _, records in found[:3]] == [
        {"MX 10 mail.good.com.", "MX 20 backup.good.com."},
        {'TXT "v=spf1 -all"', r'TXT "a \"b\" \\ \195\169"'},
        many,
    ]
    (key,) = found[3][2]
    assert key.startswith("DNSKEY 257 3 13 ") and "aa" in found[3][1]
    script = (
        "for i in 1 2 3 4 5 6 7 8; do dig +short @192.0.2.2 many.good.com | head -n 1; done;"
        "dig @192.0.2.2 nobody.good.com"
    )
    out = person.wirelab("exec", lab, "pc", "--", "sh", "-c", script).stdout
    assert {f"A {line}" for line in out.splitlines()[:8]} == many
    assert re.search(r"^good\.com\.\s+17\s+IN\s+SOA", out, re.MULTILINE)


def test_the_certificate_holds_for_its_names_in_the_lab_alone(person: Person, lab: str) -> None:
    def fetch(url: str, *before: str) -> tuple[int, str]:
        done = person.wirelab("exec", lab, "pc", "--", *before, "curl", "-sS", "--max-time", "5", url, status=None)
        return done.returncode, done.stdout + done.stderr

    assert fetch("https://www.good.com/") == (0, "a secret page\n")
    assert fetch("https://new.good.com/") == (0, "a secret page\n")
    assert fetch("http://www.good.com/") == (0, "a secret page\n")
    status, said = fetch("https://other.good.com/")
    assert status == 60 and "other.good.com" in said
    outside = ("env", "-u", "SSL_CERT_FILE", "-u", "CURL_CA_BUNDLE")
    assert fetch("https://www.good.com/", *outside)[0] == 60
    listed = person.wirelab(
        "exec", lab, "web", "--", "sh", "-c", "ls -l /run/wirelab/https.*; grep -rl KEY /run"
    ).stdout
    assert re.search(r"^-rw-------.*https\.key$", listed, re.MULTILINE)
    assert listed.splitlines()[2:] == ["/run/wirelab/https.key"]


def test_no_key_is_on_a_disk(person: Person, lab: str) -> None:
    folder = person.runs / lab
    assert not list((folder / "private").iterdir())
    for path in folder.rglob("*"):
        if path.is_file():
            assert b"PRIVATE KEY" not in path.read_bytes() and b"PrivateKey" not in path.read_bytes()


def test_the_script_makes_the_same_by_hand(person: Person, lab_file: Path) -> None:
    script = person.home / f"{lab_file.stem}.sh"
    script.write_text(person.wirelab("plan", str(lab_file), "--as", "sh").stdout, encoding="utf-8")
    commands = (
        "dig www.good.com; dig www.forged.com; dig www.expired.com; curl -sS https://new.good.com/;"
        "curl -sS https://other.good.com/; echo $?"
    )
    without = {**person.environment(), "PYTHONPATH": ""}
    done = person.run(["sh", str(script), "in_node", "pc", "sh", "-c", commands], env=without, timeout=60)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"status: ([A-Z]+)", done.stdout) == ["NOERROR", "SERVFAIL", "SERVFAIL"]
    assert re.search(r";; flags: qr rd ra ad;", done.stdout)
    assert done.stdout.endswith("a secret page\n60\n")


def test_thirteen_signed_root_servers(user: Person, lab_name: str) -> None:
    letters = "abcdefghijklm"
    roots = "".join(
        f"  root{letter}: {{interfaces: {{eth0: 192.0.2.{number}/24}}, services: {{nsd: {{}}}}}}\n"
        for number, letter in enumerate(letters, 1)
    )
    nodes = [*(f"root{letter}" for letter in letters), "gtld", "resolver"]
    path = user.home / f"{lab_name}.yml"
    path.write_text(
        f"name: {lab_name}\nnodes:\n{roots}"
        "  gtld: {interfaces: {eth0: 192.0.2.20/24}, services: {nsd: {}}}\n"
        "  resolver: {interfaces: {eth0: 192.0.2.53/24}, services: {unbound: {}}}\n"
        "  sw: {kind: switch}\n"
        f"links: [{', '.join(f'[{node}, sw]' for node in nodes)}]\n"
        "zones:\n"
        f"  .: {{dnssec: true, nameservers: {{{', '.join(f'{x}.root-servers.net.: root{x}' for x in letters)}}}}}\n"
        "  net.: {dnssec: true, nameservers: {a.gtld-servers.net.: gtld}}\n"
        "  com.: {dnssec: true, nameservers: {a.gtld-servers.net.: gtld}, records: {www: 192.0.2.20}}\n",
        encoding="utf-8",
    )
    path.chmod(0o644)
    user.wirelab("up", str(path))
    try:
        script = "dig @192.0.2.53 www.com; dig +norecurse +dnssec @192.0.2.13 . ns"
        out = user.wirelab("exec", lab_name, "resolver", "--", "sh", "-c", script).stdout
    finally:
        user.wirelab("down", lab_name)
    answer, priming = out.split(";; ->>HEADER<<-")[1:]
    assert "flags: qr rd ra ad;" in answer and "192.0.2.20" in answer
    assert len(re.findall(r"^[a-m]\.root-servers\.net\.\s.*\sA\s", priming, re.MULTILINE)) == 13
    size = re.search(r"MSG SIZE  rcvd: ([0-9]+)", priming)
    assert size and 512 < int(size[1]) <= 1232
