"""Lab files as nobody would write them, from a file's octets to the plan and its script."""

from __future__ import annotations

import contextlib
import functools
import json
import random
import re
from typing import Any

import yaml

from emulator.errors import LabFileError, UsageError, printable
from emulator.lab.check_examples import CHECKS
from emulator.lab.load import load
from emulator.lab.resolve import resolve
from emulator.plan.compile import compile_plan
from emulator.plan.script import as_script

from .promises import ROOT, Broken, folder, kept, refused_well, shown_safely

TWINS = 2
"""So many twins of a lab are loaded too."""

SCALARS: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 9, 255, 4096, 65535, 65536, 1 << 31, 1 << 63, 10**18, 10**4000, 0.5, -0.0, 1e308,
    1e-308, "", " ", "-", "-rf", "--help", "-", ".", "..", "/", "~", "*", "a b", "$(reboot)", "`id`", "; rm -rf /",
    "a\nb", "a\tb", "a\rb", "\x1b[31mred\x1b]0;title\x07", "\x9b31m", "\u202egpj.exe", "\u2028", "\ufeff", "\ud7ff",
    "\U0001f600", "é", "ß", "İ", "\x7f", "../../etc/passwd", "/etc/shadow", "sub/../../x", "page.html", "octets",
    "out", "loop", "sub", "missing", "octets/x", "{", "}", "{{", "{}", "{0}", "{pc1}", "{pc1:eth0.mac}", "{pc1.ip}",
    "%s%n", "h1..h3", "h1..h9999", "h1..h999999999", "h9..h1", "h01..h9", "..", "h1..", "pc1", "sw", "pc1:eth0",
    "pc1:", ":eth0", "pc1:eth0:eth1", "lo", "br0", "eth0", "all", "0.0.0.0", "255.255.255.255", "0.0.0.0/0",
    "10.0.0.1/24", "10.0.0.1/31", "10.0.0.1/32", "10.0.0.1/33", "10.0.0.255/24", "224.0.0.1/4", "127.0.0.1/8", "::",
    "::/0", "::1/128", "ff02::1/16", "fe80::1/64", "fe80::1%eth0/64", "2001:db8::1/64", "2001:db8::/126",
    "::ffff:10.0.0.1/120", "1.2.3.4.5", "0x7f.1", "010.0.0.1/8", "dhcp", "auto", "none", "up", "down", "drop",
    "02:00:00:00:00:01", "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "x" * 48, "x" * 63, "x" * 64, "x" * 5000,
    "a." * 127, "a." * 500, "-a.example", "*.example", ".", "example..com", "_x._tcp.example.", "1h",
    "99999999999999999999d", "0s", "1e3", "022", "0x10", "((a*)*)*b", "(?:(?:){65535}){65535}", "(" * 300, "[" * 300,
    "(?P<a>x)(?P=a)", "\\", "(?i)", "x{0,99999999}", "(?<=a*)b", "tcp.port == 80", "tcp.port == ",
    "(" * 500 + "tcp" + ")" * 500, "not " * 2000 + "tcp", "ip.addr in {1.2.3.4}", 'http matches "("',
    "frame.len > 99999999999999999999", "!!!!tcp", "2026-01-01", "on", "no", "NaN", ".inf", "1_000", "=", "<<",
    "1Mbit", "10ms", "0ms", "1e99ms", "100%", "-1%", "1000000Gbit", "debian:bookworm-slim", "../image", "SYS_ADMIN",
    "root:root",
)  # fmt: skip
"""Values that have been wrong somewhere before, or look as if they could be."""

SHAPES: tuple[Any, ...] = ([], {}, [[]], [{}], {"": None}, {"a": {"b": {}}}, [None], [[["pc1"]]], {"kind": "router"})

TEXTS = (
    "&a ", "*a ", "*b", "- ", "? ", ": ", "|\n", ">\n", "!!python/object:os.system ", "!x ", "%YAML 9.9\n", "---\n",
    "...\n", "\t", "\r", "\r\n", "\0", "\x1b", "\u0085", "\u2028", "\ufeff", "#", '"', "'", "{", "}", "[", "]", ",",
    "<<: ", "@", "`", "\\x1b", '"\\e[2J"', '"\\u202e"', '"\\0"', "0b1", "[" * 50, "{a: " * 50, "- " * 50, "name: x\n",
)  # fmt: skip

BOMBS = (
    "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"
    "d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\n",
    "name: &n n\nnodes: &n {a: *n, b: *n}\nlinks: *n\n",
    "[" * 2000,
    "{a: " * 2000,
    "- " * 2000,
    "? " * 500,
    '"' + "\\x41" * 3000,
    "name: big\nnodes: {sw: {kind: switch}, h: {count: 50}}\nlinks: [[h, sw]]\n",
    "name: big\nnodes: {h1..h30: , r: {kind: router}}\nlinks: [[h1..h30, r]]\n",
    "name: big\nnodes:\n" + "".join(f"  n{number}: {{group: g}}\n" for number in range(40)) + "links: []\n",
    "name: row\nnodes: {r1..r20: {kind: router}}\nlinks: [[r1..r19, r2..r20]]\n",
    "name: wrong\nnodes: {a: , b: }\nlinks:\n" + "- [a, c]\n" * 30,
)
"""Small beginnings of what could become large."""

LARGE = (
    "name: big\nnodes: {sw: {kind: switch}, h: {count: 10000}}\nlinks: [[h, sw]]\n",
    "name: big\nnodes: {sw: {kind: switch}, h: {count: 1000}}\nlinks: [[h, sw]]\n",
    "name: big\nnodes: {h1..h500: , r: {kind: router}}\nlinks: [[h1..h500, r]]\n",
    "name: row\nnodes: {r1..r200: {kind: router}}\nlinks: [[r1..r199, r2..r200]]\n",
    "name: all\nnodes: {h1..h9999: , r: }\nlinks: [[h1, r]]\nscenes:\n- name: s\n  steps:\n"
    + "  - {on: h1..h9999, run: [id]}\n" * 3000,
    "name: twins\nnodes: {a: , b: }\nlinks: [[a, b]]\nbreak:\n"
    + "".join(f"  t{number}: {{patch: {{nodes: {{h: {{count: 10000}}}}}}, fails: []}}\n" for number in range(3000)),
    "name: wrong\nnodes: {a: , b: }\nlinks:\n" + "- [a, c]\n" * 10_000,
)
"""Large, or asking for it: each is tried as it is, since variations would take most of the time."""

SMALL = """\
name: small
title: a small lab
nodes:
  pc1: {interfaces: {eth0: {address: 10.0.0.1/24}}, files: {/run/page: {from: page.html}}}
  pc2: {env: {A: b}, exec: [[echo, hello]]}
  sw: {kind: switch}
links:
- [pc1, sw]
- {endpoints: [pc2, sw], mtu: 1400}
scenes:
- name: ask
  steps:
  - {id: pings, on: pc1, run: [ping, -c, "1", "{pc2}"]}
checks:
- {name: carry, layer: physical, check: links-carry}
- {name: output, layer: application, check: output, step: pings, status: 0, matches: "1 received"}
break:
  cut: {patch: {links: [[pc2, sw]]}, fails: [carry]}
"""


@functools.cache
def _examples() -> tuple[str, ...]:
    """The YAML of the manual."""
    pages = ("README.md", "docs/lab-file.md", "docs/docker.md", "docs/write-a-lab.md")
    text = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in pages)
    return tuple(re.findall(r"```yaml\n(.*?)```", text, re.DOTALL))


@functools.cache
def _shipped() -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted((ROOT / "labs").glob("*/lab.yml")))


@functools.cache
def seeds() -> tuple[bytes, ...]:
    """Shipped labs, whole examples of the manual, and what is known to be hard. Large labs lend their parts only."""
    shipped = [octets for octets in _shipped() if len(octets) < 9_000]
    whole = [text.encode() for text in _examples() if "nodes:" in text and "links:" in text]
    return (SMALL.encode(), *shipped, *whole, *(text.encode() for text in BOMBS))


@functools.cache
def _trees() -> tuple[Any, ...]:
    """Everything that a lab file can say, somewhere."""
    texts = [*seeds(), *_shipped(), *(text.encode() for text in _examples()), CHECKS.encode()]
    return tuple(tree for text in texts if len(text) < 40_000 and isinstance(tree := _tree(text), (dict, list)))


@functools.cache
def _words() -> tuple[dict[str, list[Any]], list[str]]:
    """Key → what stands behind it in any seed; and all keys."""
    found: dict[str, list[Any]] = {}
    pending: list[Any] = list(_trees())
    while pending:
        tree = pending.pop()
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            if isinstance(tree, dict):
                found.setdefault(str(key), []).append(value)
            if isinstance(value, (dict, list)):
                pending.append(value)
    return found, list(found)


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Plain values as the lab file has them: no dates."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":value", ":merge"))]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}


@functools.lru_cache(maxsize=500)
def _tree(octets: bytes) -> Any:
    """What the text says; None when it is no YAML, or would take long."""
    if octets.count(b"*") > 20 or octets.count(b"[") + octets.count(b"{") > 5000:
        return None
    try:
        return yaml.load(octets, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError):
        return None


def _copy(tree: Any) -> Any:
    """A copy in which nothing is shared, with text for all keys."""
    return json.loads(json.dumps(tree, default=str))


def mutate(octets: bytes, chance: random.Random) -> bytes:
    """A lab file like `octets`: its tree changed, or its text."""
    if chance.random() < 0.85 and isinstance(tree := _tree(octets), (dict, list)) and tree:
        with contextlib.suppress(RecursionError, ValueError):  # too deep, or a part of itself
            tree = _copy(tree)
            for _ in range(chance.choice((1, 1, 1, 1, 2, 4))):
                _change(tree, chance)
            return _written(tree, chance)
    text = octets.decode("utf-8", "surrogateescape")
    for _ in range(chance.choice((1, 1, 2, 4))):
        text = _edit(text, chance)
    return text.encode("utf-8", "surrogateescape")


_ESCAPES = {number: f"\\u{number:04x}" for number in (*range(0x7F, 0xA0), 0x2028, 0x2029, 0x202E, 0xFEFF)}
"""What may stand in a lab file only as an escape."""


def _written(tree: Any, chance: random.Random) -> bytes:
    if chance.random() < 0.9:
        return json.dumps(tree, ensure_ascii=False).translate(_ESCAPES).encode("utf-8", "backslashreplace")
    return yaml.safe_dump(tree, allow_unicode=True, sort_keys=False).encode("utf-8", "backslashreplace")


def _change(tree: Any, chance: random.Random) -> None:
    """Change one place of `tree`."""
    place = tree
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = chance.choice(keys)
        inner = place[key]
        if not isinstance(inner, (dict, list)) or chance.random() < 0.2:
            break
        place = inner
    values, words = _words()
    if not keys or chance.random() < 0.1:
        if isinstance(place, dict):
            new = chance.choice(words) if chance.random() < 0.7 else str(chance.choice(SCALARS))
            place[new] = _value(new, chance)
        else:
            place.append(_value("", chance))
        return
    kind = chance.randrange(8)
    if kind == 0:
        del place[key]
    elif kind == 1 and isinstance(place, dict):
        new = chance.choice(words) if chance.random() < 0.5 else str(chance.choice(SCALARS))
        place[new] = place.pop(key)
    elif kind == 1:
        place.extend([place[key]] * chance.choice((1, 1, 2, 50)))
    elif kind == 2:
        place[key] = [place[key]] if chance.random() < 0.5 else {chance.choice(words): place[key]}
    elif kind == 3 and isinstance(place[key], str) and place[key]:
        text = place[key]
        cut = chance.randrange(len(text) + 1)
        place[key] = text[:cut] + str(chance.choice(SCALARS)) + text[cut + chance.randrange(2) :]
    elif kind == 4 and isinstance(place[key], int):
        place[key] += chance.choice((-1, 1, 255, -(1 << 31), 1 << 62))
    elif kind <= 6 and isinstance(place, dict) and key in values:
        place[key] = _copy(chance.choice(values[key]))
    else:
        place[key] = _value(str(key), chance)


def _value(key: str, chance: random.Random) -> Any:
    values = _words()[0]
    draw = chance.random()
    if draw < 0.3 and key in values:
        return _copy(chance.choice(values[key]))
    if draw < 0.85:
        return chance.choice(SCALARS)
    if draw < 0.97:
        return _copy(chance.choice(SHAPES))
    value: Any = chance.choice(SCALARS)
    for _ in range(chance.choice((5, 39, 60))):
        value = [value] if chance.random() < 0.5 else {"a": value}
    return value


def _edit(text: str, chance: random.Random) -> str:
    """Change one place of the text."""
    at = chance.randrange(len(text) + 1)
    kind = chance.randrange(7)
    if kind == 0:
        return text[:at] + chance.choice(TEXTS) + text[at:]
    if kind == 1:
        return text[:at] + str(chance.choice(SCALARS)) + text[at:]
    if kind == 2:
        return text[:at] + text[at + chance.choice((1, 1, 2, 10, 100)) :]
    if kind == 3:
        rows = text.split("\n")
        row = chance.randrange(len(rows))
        rows[row:row] = [chance.choice(rows)] * chance.choice((1, 1, 2, 30))
        return "\n".join(rows)
    if kind == 4:
        rows = text.split("\n")
        row = chance.randrange(len(rows))
        rows[row] = rows[row].removeprefix("  ") if chance.random() < 0.5 else "  " + rows[row]
        return "\n".join(rows)
    if kind == 5:
        other = chance.choice(seeds()).decode("utf-8", "replace")
        start = chance.randrange(len(other) + 1)
        return text[:at] + other[start : start + chance.choice((5, 50, 500))] + text[at:]
    octets = bytearray(text.encode("utf-8", "surrogateescape"))
    if octets:
        octets[chance.randrange(len(octets))] = chance.randrange(256)
    return octets.decode("utf-8", "surrogateescape")


def check(octets: bytes) -> str:
    """Load, resolve and compile the lab file of these octets and some of its twins; what came of it.

    Raises:
        Broken: a promise does not hold.
        Exception: it ended in another error than those for a person.
    """
    place = folder()
    path = place / "lab.yml"
    path.write_bytes(octets)
    rows = len(re.findall(rb"\r\n|\r|\n", octets))
    with kept(place):
        outcome, twins = _through(str(path), rows, None)
        for twin in twins[:TWINS]:
            _through(str(path), rows, twin)
    return outcome


def _through(path: str, rows: int, twin: str | None) -> tuple[str, list[str]]:
    try:
        written = load(folder() / "lab.yml", twin=twin)
        lab = resolve(written, backend="netns" if rows % 4 else "docker")
        plan = compile_plan(lab)
    except (LabFileError, UsageError) as error:
        refused_well(error, path, rows)
        return "refused", []
    for operation in plan.operations:
        said = printable(operation.describe())
        if "\n" in said:
            raise Broken(f"an operation of several lines: {said!a}")
        shown_safely(said)
        json.dumps(operation.to_json())
    as_script(plan).encode()
    return "accepted", list(lab.twins)
