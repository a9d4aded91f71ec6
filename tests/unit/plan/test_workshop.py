"""What is made in the workshop: certificates and signed zones, children before parents, and no key in a plan."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from emulator.errors import CommandFailed, Problem
from emulator.lab.resolved import ResolvedLab
from emulator.plan import ops
from emulator.plan.compile import compile_plan
from emulator.run import execute
from emulator.run.backends.netns import NetnsHands
from emulator.run.execute import Finished
from emulator.run.spawn import Spaces

Resolved = Callable[..., ResolvedLab]

LAB = """
name: l
nodes:
  pc: {interfaces: {eth0: 192.0.2.9/24}, env: {SSL_CERT_FILE: /mine}}
  u: {interfaces: {eth0: 192.0.2.53/24}, services: {unbound: {UNBOUND}}}
  a: {interfaces: {eth0: 192.0.2.1/24}, services: {nsd: {}}}
  b: {interfaces: {eth0: 192.0.2.2/24}, services: {nsd: {}}}
  web: {interfaces: {eth0: 192.0.2.80/24}, services: {http: {port: 8080, tls: {names: [new.x.com, WWW.x.com.]}}}}
  sw: {kind: switch}
links: [[pc, sw], [u, sw], [a, sw], [b, sw], [web, sw]]
zones:
  .: {nameservers: {a.root.: a, b.root.: b}, dnssec: ROOT}
  com.: {nameservers: a, dnssec: ROOT}
  x.com.: {nameservers: {ns1: a, ns2: b}, dnssec: ROOT, negative-ttl: 7, records: {www: web, "*.w": web}}
  plain.com.: {nameservers: b, ttl: 60, records: {www: {address: web, mx: {mail: 5}, txt: ['a "b" \\ é', ""]}}}
"""


@pytest.fixture(scope="module")
def signed(resolved: Resolved) -> ResolvedLab:
    """Three signed zones and one that is not, and a server with a certificate."""
    return resolved(lab())


def lab(root: str = "true", unbound: str = "", **zones: str) -> str:
    text = LAB.replace("ROOT", root).replace("UNBOUND", unbound)
    for name, more in zones.items():
        text = text.replace(f"  {name}.com.: {{", f"  {name}.com.: {{{more}, ")
    return text


def prepared(lab: ResolvedLab) -> list[ops.Prepare]:
    return [step for step in compile_plan(lab).operations if isinstance(step, ops.Prepare)]


def put(lab: ResolvedLab) -> set[tuple[str, str, str, int]]:
    steps = (step for step in compile_plan(lab).operations if isinstance(step, ops.PutFile))
    return {(step.node, step.path.removeprefix("/run/wirelab/"), step.source, step.mode) for step in steps}


def config(lab: ResolvedLab, node: str, name: str) -> list[str]:
    (step,) = (
        step
        for step in compile_plan(lab).operations
        if isinstance(step, ops.WriteFile) and (step.node, step.path) == (node, f"/run/wirelab/{name}")
    )
    return [line.strip() for line in step.content.splitlines()]


def test_children_are_signed_before_their_parents(signed: ResolvedLab) -> None:
    scripts = prepared(signed)
    assert [step.about.partition(" and ")[0] for step in scripts] == [
        "make the lab's own certificate authority",
        "certify new.x.com",
        "make the key of the zone x.com.",
        "make the key of the zone com.",
        "make the key of the zone .",
    ]
    assert "cat x.com.zone.ds >>com.zone\n" in scripts[3].script and "cat com.zone.ds >>root\n" in scripts[4].script
    assert ".ds >>" not in scripts[2].script and "plain" not in scripts[3].script
    assert scripts[2].files["x.com.zone"].splitlines()[:2] == [
        "$TTL 300", "x.com. 300 IN SOA ns1.x.com. hostmaster.x.com. 1 3600 600 86400 7",
    ]  # fmt: skip


def test_what_is_put_where(signed: ResolvedLab) -> None:
    assert put(signed) == {
        *((node, "ca.pem", "ca.pem", 0o644) for node in ("pc", "u", "a", "b", "web")),
        ("web", "https.pem", "web.pem", 0o644),
        ("web", "https.key", "web.key", 0o600),
        *((node, "root", "root.signed", 0o644) for node in ("a", "b")),
        ("a", "com.zone", "com.zone.signed", 0o644),
        *((node, "x.com.zone", "x.com.zone.signed", 0o644) for node in ("a", "b")),
        ("u", "root.key", "root.key", 0o644),
    }
    written = {(step.node, step.path) for step in compile_plan(signed).operations if isinstance(step, ops.WriteFile)}
    assert ("b", "/run/wirelab/plain.com.zone") in written and ("b", "/run/wirelab/x.com.zone") not in written
    assert {"openssl", "socat", "ldns-keygen", "ldns-signzone"} <= set(compile_plan(signed).tools)


def test_a_plan_holds_no_key(signed: ResolvedLab) -> None:
    plan = compile_plan(signed)
    assert plan == compile_plan(signed)
    text = json.dumps([step.to_json() for step in plan.operations])
    assert "PRIVATE" not in text and "Private-key" not in text and "RRSIG" not in text


def test_a_lab_without_secrets_needs_no_workshop(resolved: Resolved, labs_folder: Path) -> None:
    nat = resolved((labs_folder / "nat" / "lab.yml").read_text(encoding="utf-8"))
    assert not prepared(nat) and not put(nat) and not nat.nodes["pc1"].env
    assert not {"openssl", "socat", "ldns-keygen"} & set(compile_plan(nat).tools)
    assert 'module-config: "iterator"' in config(nat, "resolver", "unbound.conf")


def test_every_node_trusts_the_ca_unless_it_says_otherwise(signed: ResolvedLab) -> None:
    ca = "/run/wirelab/ca.pem"
    assert signed.nodes["web"].env == {"SSL_CERT_FILE": ca, "CURL_CA_BUNDLE": ca}
    assert signed.nodes["pc"].env == {"SSL_CERT_FILE": "/mine", "CURL_CA_BUNDLE": ca}
    assert not signed.nodes["sw"].env


def test_the_https_server(signed: ResolvedLab) -> None:
    certificate = prepared(signed)[1]
    assert "subjectAltName = DNS:new.x.com, DNS:www.x.com\n" in certificate.files["web.conf"]
    plan = compile_plan(signed)
    (start,) = (s for s in plan.operations if isinstance(s, ops.StartProcess) and s.service == "https")
    assert start.argv[0] == "socat" and start.argv[2] == "TCP:127.0.0.1:8080"
    assert start.argv[1].startswith("OPENSSL-LISTEN:443,fork,reuseaddr,cert=") and "ip6" not in start.argv[1]
    (wait,) = (s for s in plan.operations if isinstance(s, ops.WaitUntil) and s.service == "https")
    assert wait.condition == ops.Condition("tcp-port", port=443)


def test_a_scene_may_kill_the_https_server(problems: Callable[..., tuple[Problem, ...]]) -> None:
    scene = "scenes: [{name: s, steps: [{kill: 'NODE:https'}]}]\n"
    assert not problems(lab() + scene.replace("NODE", "web"))
    assert "no service 'pc:https'" in problems(lab() + scene.replace("NODE", "pc"))[0].message


@pytest.mark.parametrize(
    ("root", "unbound", "validating"),
    [
        ("true", "", True),
        ("true", "validate: false", False),
        ("true", "root-hints: none", False),
        ("true", "validate: true", True),
        ("false", "", False),
    ],
)
def test_a_resolver_validates_when_the_root_is_signed(
    resolved: Resolved, root: str, unbound: str, validating: bool
) -> None:
    made = resolved(lab(root, unbound))
    lines = config(made, "u", "unbound.conf")
    assert ('module-config: "validator iterator"' in lines) == validating
    assert ('trust-anchor-file: "/run/wirelab/root.key"' in lines) == validating
    assert (("u", "root.key", "root.key", 0o644) in put(made)) == validating


def test_expired_signatures(resolved: Resolved) -> None:
    def span(made: ResolvedLab) -> str:
        (line,) = (line for line in prepared(made)[2].script.splitlines() if line.startswith("ldns-signzone"))
        return line[: line.index(" -f")]

    assert span(resolved(lab())) == "ldns-signzone -i $((now - 3600)) -e $((now + 2592000))"
    assert span(resolved(lab(x="expired: true"))) == "ldns-signzone -i $((now - 604800)) -e $((now + -86400))"


def test_a_forged_address_replaces_the_true_one_after_signing(resolved: Resolved) -> None:
    script = prepared(resolved(lab(x="forged: {www: pc, '*.w': 192.0.2.66}")))[2].script
    assert script.index("ldns-signzone") < script.index("forged")
    assert r"sed '/^www\.x\.com\.[[:blank:]][0-9]*[[:blank:]]IN[[:blank:]]A[[:blank:]]/d' x.com.zone.signed" in script
    assert "echo 'www.x.com. 300 IN A 192.0.2.9'" in script
    assert r"sed '/^\*\.w\.x\.com\." in script and "echo '*.w.x.com. 300 IN A 192.0.2.66'" in script


def test_mail_servers_and_texts_in_a_zone_file(signed: ResolvedLab) -> None:
    lines = config(signed, "b", "plain.com.zone")
    assert "www.plain.com. 60 IN MX 5 mail.plain.com." in lines
    assert r'www.plain.com. 60 IN TXT "a \"b\" \\ \195\169"' in lines and 'www.plain.com. 60 IN TXT ""' in lines
    assert lines[0].endswith(" 86400 60")


@pytest.fixture
def hands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NetnsHands:
    """Hands that have a workshop and no lab: what they would run in the lab's root runs in the workshop here."""

    settled = []

    class NoLab:
        def settle(self) -> None:
            settled.append(True)

        def own_spaces(self) -> dict[str, int]:
            return {name: os.open(os.devnull, os.O_RDONLY) for name in ("net", "mnt", "uts")}

    def run(_: Spaces, argv: list[str], env: dict[str, str], *, timeout_s: float, cwd: str) -> Finished:
        assert settled, "before /etc is whole, nothing runs in the lab"
        assert cwd == f"/.lab/{ops.WORKSHOP}"
        folder = tmp_path / ops.WORKSHOP
        done = subprocess.run(argv, env=env, cwd=folder, timeout=timeout_s, capture_output=True, check=False)
        return Finished(done.returncode, done.stdout, done.stderr, 0, 0)

    monkeypatch.setattr(execute, "run", run)
    return NetnsHands(NoLab(), tmp_path, tmp_path)  # type: ignore[arg-type]


def test_the_builder_runs_the_script_and_puts_the_file(hands: NetnsHands, tmp_path: Path) -> None:
    hands.execute(ops.Prepare("pc", "make b", 'cat a >b; echo "$HOSTNAME" >>b\n', {"a": "one\n"}))
    hands.execute(ops.PutFile("pc", "/run/wirelab/b", "b", 0o600))
    made = tmp_path / "pc/run/wirelab/b"
    assert made.read_text(encoding="utf-8") == "one\npc\n" and made.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ops.WORKSHOP).stat().st_mode & 0o777 == 0o700
    hands.execute(ops.PutFile("pc", "/run/wirelab/b", "a", 0o644))
    assert made.read_text(encoding="utf-8") == "one\n" and made.stat().st_mode & 0o777 == 0o644


def test_a_script_that_fails_says_what_the_tool_said(hands: NetnsHands) -> None:
    with pytest.raises(CommandFailed, match="cannot make a key \\(for pc\\): the script ended with status 2") as caught:
        hands.execute(ops.Prepare("pc", "make a key", "echo 'no entropy' >&2; sh -c 'exit 2'; echo on"))
    assert caught.value.hint == "no entropy"
    with pytest.raises(CommandFailed, match=r"cannot put b into pc as /run/b"):
        hands.execute(ops.PutFile("pc", "/run/b", "b"))
