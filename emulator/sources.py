"""What labs are made of: lab files, or a few words of which one is generated; and the facts by which a running lab is
made out again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emulator.frozen import dataclass
from emulator.run import runs

if TYPE_CHECKING:
    from emulator.lab.nodes import Backend
    from emulator.lab.resolved import ResolvedLab


@dataclass(frozen=True)
class Origin:
    """What a lab was made of, so that later commands can make the same one again."""

    source: str
    """The lab file, or the words of a generated lab."""
    text: str = ""
    """What was in the file."""
    twin: str | None = None
    topology: str | None = None
    """The words, when the lab was generated: `single,1000`."""
    backend: Backend = "netns"


def load_lab(source: str | Path, *, twin: str | None = None, backend: Backend = "netns") -> tuple[ResolvedLab, Any]:
    """The resolved lab for a shipped lab's name, a file or a folder, and the document's plain values."""
    from emulator.lab.load import build, read_document
    from emulator.lab.resolve import resolve

    document = read_document(runs.find_source(str(source)))
    return resolve(build(document, twin=twin), backend=backend), document


def loaded(source: str, twin: str | None, backend: Backend) -> tuple[ResolvedLab, Origin]:
    """The lab of a shipped lab's name, a file or a folder."""
    path = runs.find_source(source)
    lab, document = load_lab(path, twin=twin, backend=backend)
    return lab, Origin(document.file, path.read_text(encoding="utf-8-sig"), twin, backend=backend)


def generated(words: str, backend: Backend) -> tuple[ResolvedLab, Origin]:
    """The lab that `words` such as `single,1000` stand for."""
    from emulator.lab.generate import generate

    return generate(words, backend), Origin(words, topology=words, backend=backend)


def from_facts(facts: Mapping[str, Any]) -> ResolvedLab:
    """The lab that runs, of the facts that were written down when it was built."""
    if facts["topology"] is not None:
        return generated(facts["topology"], facts["backend"])[0]
    from emulator.lab.document import parse
    from emulator.lab.load import build
    from emulator.lab.resolve import resolve

    document = parse(facts["text"].encode(), facts["source"])
    lab = build(document, twin=facts["twin"], included=facts["included"])
    return resolve(lab, backend=facts["backend"])


def facts_of(lab: ResolvedLab, origin: Origin, started: float) -> dict[str, Any]:
    """What is written down of a lab that was built."""
    return {
        "backend": origin.backend,
        "lab": lab.name,
        "title": lab.title,
        "source": origin.source,
        "text": origin.text,
        "topology": origin.topology,
        "twin": origin.twin,
        "included": dict(lab.included),
        "started": started,
        "seconds": 0.0,
        "nodes": {
            node.name: {
                "kind": node.kind,
                "about": node.about,
                "env": dict(node.env),
                "bridges": [bridge.name for bridge in node.bridges],
                "interfaces": {
                    interface.name: {
                        "mac": interface.mac,
                        "addresses": [str(address) for address in interface.addresses],
                        "dhcp": interface.dhcp,
                        "peer": ":".join(interface.peer) if interface.peer else None,
                    }
                    for interface in node.interfaces
                },
            }
            for node in lab.nodes.values()
        },
    }
