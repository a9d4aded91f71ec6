"""`wirelab explain LAB NODE -- COMMAND`: the story of a command in a running lab."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser import CHROMIUM, Browser
from tests.conftest import Person

pytestmark = pytest.mark.warm

CURL = ("curl", "-sS", "--max-time", "20", "http://www.example.com/")
GATEWAY = "192.168.1.1"


@pytest.fixture
def lab(person: Person, lab_name: str, nothing_left: Callable[[], None]) -> str:
    """A running home network."""
    person.wirelab("up", "nat", "--name", lab_name)
    return lab_name


def exchanges(story: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [exchange for exchange in story["exchanges"] if exchange["kind"] == kind]


def test_a_page_is_fetched(person: Person, lab: str) -> None:
    page, capture = person.home / f"{lab}.html", person.home / f"{lab}.pcapng"
    words = ("explain", lab, "pc1", "--json", "--html", str(page), "-w", str(capture), "--", *CURL)
    story = json.loads(person.wirelab(*words).stdout)
    assert story["command"]["status"] == 0
    assert "You reached www.example.com" in story["command"]["stdout"]

    asked = {(dns["facts"]["asker"], dns["facts"]["server"]) for dns in exchanges(story, "dns")}
    assert {
        ("pc1", "home"),
        ("home", "resolver"),
        ("resolver", "root"),
        ("resolver", "tld"),
        ("resolver", "auth"),
    } <= asked
    by_number = {exchange["number"]: exchange for exchange in story["exchanges"]}
    recursion = next(dns for dns in exchanges(story, "dns") if dns["facts"]["asker"] == "home")
    assert by_number[recursion["inside"]]["facts"]["asker"] == "pc1"

    (tcp,) = exchanges(story, "tcp")
    assert tcp["facts"]["conn_state"] == "SF"
    assert tcp["parts"][0]["title"].startswith("pc1 asks web: GET http://www.example.com/ → 200 OK")
    there = tcp["ways"][0]
    assert there["interfaces"] == [
        "pc1:eth0", "sw:pc1", "sw:home", "home:lan", "home:wan", "isp:home", "isp:web", "web:eth0",
    ]  # fmt: skip
    home, isp = there["changes"]
    assert (home["node"], home["translated"], isp["node"], isp["translated"]) == ("home", True, "isp", False)
    assert home["witness"].startswith("its connection tracking has tcp 192.168.1.")
    assert {"field": "ip.ttl", "before": "64", "after": "63"} in home["fields"]

    arps = exchanges(story, "arp")
    assert arps and all(arp["round_trip_ms"] > 0 for arp in arps)
    (row,) = [row for row in story["connections"] if row["proto"] == "tcp"]
    assert (row["id.orig_h"], row["id.resp_h"], row["conn_state"]) == (
        tcp["facts"]["client"].split(":")[0],
        "192.0.2.80",
        "SF",
    )
    assert not [found for found in story["unusual"] if found["kind"] != "retransmission"], story["unusual"]

    again = json.loads(person.wirelab("explain", "--pcap", str(capture), "--json").stdout)
    assert [e["kind"] for e in again["exchanges"]] == [e["kind"] for e in story["exchanges"]]
    assert exchanges(again, "tcp")[0]["ways"][0]["interfaces"] == there["interfaces"]
    assert exchanges(again, "tcp")[0]["facts"]["conn_state"] == "SF"
    if person.uid == 0 and CHROMIUM:
        _look_at(page, person.home)


def _look_at(page: Path, folder: Path) -> None:
    with Browser(folder / "browser") as browser:
        browser.open(page)
        assert browser.value("document.querySelectorAll('g.arrow').length") > 100
        browser.click("g.arrow .hit")
        assert browser.value("document.querySelectorAll('#frame pre.hex').length") == 1
        assert (browser.complaints, browser.requests) == ([], [page.as_uri()])


def test_what_is_unusual_is_said(person: Person, lab: str) -> None:
    """A name that is not there, a port that nobody listens at, an address that nobody has."""
    command = (
        "dig +tries=1 +time=5 nothing.example.com >/dev/null; curl -sS --max-time 5 http://192.0.2.80:81/; "
        "ping -n -c 1 -W 1 192.168.1.250 >/dev/null"
    )
    done = person.wirelab("explain", lab, "pc1", "--", "sh", "-c", command)
    text = " ".join(done.stdout.split())
    assert "ended with status 1" in text
    assert "NXDOMAIN, there is no such name" in text
    assert "web refuses the connection (RST)" in text
    assert "in Zeek's terms REJ" in text
    assert "who has 192.168.1.250; nobody answers" in text
    assert "unusual (" in text


def test_told_while_it_happens(person: Person, lab: str) -> None:
    """The first exchange is told before the command ends; Ctrl-C ends the command, and the story is told."""
    argv = person.argv("explain", "--follow", lab, "pc1", "--", "ping", "-n", "-i", "0.2", GATEWAY)
    with person.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert " ARP " in line, line
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "pc1 pings home (192.168.1.1)" in rest
    assert "pc1 $ ping" in rest and "was ended by signal 15" in rest


def test_what_goes_wrong(person: Person, lab: str) -> None:
    for words, status, said in (
        (("pc9", "--", "true"), 2, "has no node pc9"),
        (("pc1", "--", "no-such-program"), 3, "there is no program no-such-program"),
        (("pc1",), 2, "nothing to explain"),
        (("pc1", "--follow", "--json", "--", "true"), 2, "--follow"),
    ):
        done = person.wirelab("explain", lab, *words, status=status)
        assert said in done.stderr and "Traceback" not in done.stderr


def test_a_lab_that_does_not_run(person: Person, lab_name: str) -> None:
    done = person.wirelab("explain", lab_name, "pc1", "--", "true", status=2)
    assert "no lab called" in done.stderr
