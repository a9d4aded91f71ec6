"""A story as text, JSON and a page: letter by letter, and with hostile names in it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from emulator.explain.story import Command, Recording, Story, tell
from emulator.explain.surroundings import of_capture, of_lab
from emulator.report import explain_html, explain_json, explain_text
from tests.browser import CHROMIUM, Browser
from tests.unit.explain.talk import PC1, TRACKED, Connection

HERE = Path(__file__).parent
HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e"
BEGAN_NS = 1_700_000_000_000_000_000


def _builders() -> ModuleType:
    name = "wirelab_verify_builders"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE.parent / "verify" / "builders.py")
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def page_fetched(name: str = "www.example.com", server: str = "lab") -> Story:
    """pc1 asks for a name and fetches a page through NAT; `name` and `server` come from packets."""
    build = _builders()
    wire: Any = build.Wire()
    wire.dns(name, "pc1:eth0", "home:lan", number=7, rd=True, answer=("www.example.com A 300 192.0.2.80",))
    talk = Connection(wire, build)
    talk.open()
    talk.get(host=name, **{"http.server": (server,), "http.content_type": (server,)})
    talk.close()
    evidence = wire.evidence()
    command = Command("pc1", ("curl", f"http://{name}/"), 0, "hello\n", "", BEGAN_NS, BEGAN_NS + 2_000_000)
    around = of_lab(wire.lab, wire.after, evidence.interfaces)
    return tell(Recording(evidence.frames, evidence.interfaces, around, command, {"home": [TRACKED]}))


def test_text_letter_by_letter() -> None:
    text = explain_text.render(page_fetched(), width=100)
    golden = HERE / "explain.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, explain_text.render(page_fetched(), width=width).splitlines())) <= width


def test_colours_are_the_only_escapes_on_a_terminal() -> None:
    text = explain_text.render(page_fetched(HOSTILE, HOSTILE), colour=True)
    assert "\x1b" not in re.sub(r"\x1b\[[0-9;]{1,4}m", "", text)
    plain = explain_text.render(page_fetched(HOSTILE, HOSTILE))
    assert "\x1b" not in plain and "\u202e" not in plain and "\\x1b[2J\\u202e" in plain


def test_json() -> None:
    answer = json.loads(json.dumps(explain_json.as_dict(page_fetched())))
    assert answer["command"]["argv"] == ["curl", "http://www.example.com/"]
    dns, tcp = answer["exchanges"]
    assert (dns["kind"], tcp["kind"], tcp["parts"][0]["kind"]) == ("dns", "tcp", "http")
    assert {row["proto"]: row["conn_state"] for row in answer["connections"]} == {"udp": "SF", "tcp": "SF"}
    journey = tcp["journeys"][0]
    assert journey["interfaces"][0] == "pc1:eth0" and journey["interfaces"][-1] == "web:eth0"
    (nat,) = [change for change in tcp["ways"][0]["changes"] if change["translated"]]
    assert {"field": "ip.src", "before": PC1, "after": "203.0.113.2"} in nat["fields"]
    numbers = sorted(n for exchange in answer["exchanges"] for j in exchange["journeys"] for n in j["frames"])
    assert numbers == list(range(1, answer["packets"] + 1))


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.outside += [
            f"{k}={v}" for k, v in attrs if k in ("src", "href") and not (v or "").startswith(("#", "data:"))
        ]
        self.outside += [k for k, _ in attrs if k.startswith("on")]


def test_a_page_escapes_what_comes_from_packets() -> None:
    page = explain_html.render(page_fetched(HOSTILE, HOSTILE))
    assert "<script>alert" not in page and "\x1b" not in page
    tags = _Tags()
    tags.feed(page)
    assert tags.tags.count("script") == 2 and not tags.outside
    assert 'http-equiv="Content-Security-Policy" content="default-src \'none\'' in page


def test_a_page_of_a_large_capture_says_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "This page has the first" not in explain_html.render(page_fetched())
    monkeypatch.setattr(explain_html, "FRAMES_MAX", 20)
    page = explain_html.render(page_fetched())
    assert "This page has the first 4 of" in page and page.count('class="diagram"') == 1


def test_a_page_without_nodes() -> None:
    """Addresses are the lifelines of a capture that is not ours."""
    story = page_fetched()
    frames = [replace(f, interface="eth0", direction=None) for f in story.recording.frames if f.node == "pc1"]
    interfaces = [replace(story.recording.interfaces[0], name="eth0")]
    page = explain_html.render(tell(Recording(frames, interfaces, of_capture(interfaces, frames))))
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert found is not None
    data = json.loads(found[1])
    assert set(data["lanes"]) == {PC1, "192.168.1.1", "192.0.2.80", "203.0.113.2"} - {"203.0.113.2"}
    assert all(len(arrow["n"]) == 1 for exchange in data["exchanges"].values() for arrow in exchange["arrows"])


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (package chromium)")
@pytest.mark.slow
def test_in_a_browser(tmp_path: Path) -> None:
    """It renders, a click and a key show the bytes; nothing is loaded, nothing runs, nobody complains."""
    page = tmp_path / "story.html"
    page.write_text(explain_html.render(page_fetched(HOSTILE, HOSTILE)), encoding="utf-8")
    with Browser(tmp_path) as browser:
        browser.open(page)
        assert browser.value("document.querySelectorAll('details.exchange[open]').length") == 2
        assert browser.value("[...document.querySelectorAll('#x2 svg .name')].map(e => e.firstChild.data).join()") == (
            "pc1,home,sw,isp,web"
        )
        browser.click("#x2 g.arrow .hit")
        assert browser.value("document.querySelector('#frame h2').textContent").startswith("Frame 5 at pc1:eth0, out")
        assert "c0 a8 01 64" in browser.value("document.querySelector('#frame pre.hex').textContent")
        assert browser.value("document.querySelectorAll('#frame .way button').length") == 8
        browser.click("#frame .way button:nth-child(5)")
        assert "203.0.113.2 (was 192.168.1.100)" in browser.value("document.querySelector('#frame').textContent")
        browser.value("document.querySelector('#x2 g.arrow').focus()")
        for key in ("ArrowDown", "ArrowDown", "Enter"):
            browser.press(key)
        assert browser.value("document.querySelector('#frame h2').textContent").startswith("Frame 9 at home:wan")
        browser.click("#close-all")
        assert browser.value("document.querySelectorAll('details.exchange[open]').length") == 0
        assert browser.complaints == []
        assert browser.requests == [page.as_uri()]
