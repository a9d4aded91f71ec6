"""`wirelab labs`, `plan`, `validate` and `schema`: what can be said without building anything."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.errors import LabFileError, Problem, UsageError, WirelabError, counted, one_line, printable
from emulator.run import runs

_MADE_MAX = 100_000
"""A twin may make a small lab large, so all of them together are limited too."""

if TYPE_CHECKING:
    from emulator.lab.nodes import Backend
    from emulator.lab.resolved import ResolvedLab


def labs(options: argparse.Namespace) -> int:
    """List the shipped labs, in the order in which they are read."""
    rows = [
        {"name": folder.name, "title": _title(folder), "file": str(folder / "lab.yml")} for folder in runs.sources()
    ]
    if options.json:
        print(json.dumps(rows))
        return 0
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        print(one_line(f"{row['name']:<{width}}  {row['title']}").rstrip())
    return 0


def _title(folder: Path) -> str:
    """The lab's title; of a file that cannot be read, why not, since the others are listed all the same."""
    from emulator.lab.load import read_document

    try:
        value = read_document(folder).value
    except WirelabError as error:
        return error.message.partition("\n")[0]
    return str(value.get("title", "")) if isinstance(value, dict) else ""


def plan(options: argparse.Namespace) -> int:
    """Show what `up` would do."""
    from emulator.commands.up import warn
    from emulator.plan.compile import compile_plan
    from emulator.plan.script import as_script

    lab = _lab(options.lab, options.topology, options.backend)
    made = compile_plan(lab)
    warn(lab)
    if options.form == "json":
        operations = [{**operation.to_json(), "text": operation.describe()} for operation in made.operations]
        print(json.dumps({"lab": made.lab, "tools": made.tools, "operations": operations}, indent=2))
    elif options.form == "sh":
        script = as_script(made)  # files of the lab may have any text in them, which is for a file or a shell only
        sys.stdout.write(printable(script) if sys.stdout.isatty() else script)
    else:
        for number, operation in enumerate(made.operations, 1):
            print(one_line(f"{number:>4}  {operation.describe()}"))
    return 0


def _lab(source: str | None, topology: str | None, backend: Backend) -> ResolvedLab:
    """The lab of a file, of a running lab's name, or of the words of a topology."""
    if (source is None) == (topology is None):
        raise UsageError("either a lab or a topology", hint="wirelab plan LAB, or wirelab plan --topology single,100")
    if source is not None and source in runs.names():
        facts = runs.facts(runs.directory(source))
        source, topology = facts["source"], facts["topology"]
    if topology is not None:
        from emulator.lab.generate import generate

        return generate(topology, backend)
    from emulator.sources import load_lab

    return load_lab(str(source), backend=backend)[0]


def validate(options: argparse.Namespace) -> int:
    """Check lab files; all problems of all files."""
    from emulator.lab.resolve import resolve_file

    problems: list[Problem] = []
    for text in options.files:
        path = Path(text)
        if not os.path.exists(path):
            path = runs.find_source(text)
        try:
            lab = resolve_file(path)
            made = 0
            for twin in lab.twins:
                broken = resolve_file(path, twin=twin)
                made += len(broken.nodes) + len(broken.links)
                if made > _MADE_MAX:
                    said = f"its twins have more than {_MADE_MAX:,} nodes and links together"
                    raise LabFileError([Problem(str(path), 1, 1, said, "fewer twins, or smaller labs")])
        except LabFileError as error:
            problems += error.problems
        else:
            if not options.json:
                counts = {"node": lab.nodes, "link": lab.links, "check": lab.checks}
                parts = ", ".join(counted(len(things), noun) for noun, things in counts.items())
                print(one_line(f"{text}: {parts}, no problem"))
    if options.json:
        fields = ("file", "line", "column", "message", "hint")
        print(json.dumps({"problems": [{field: getattr(p, field) for field in fields} for p in problems]}))
        return UsageError.exit_status if problems else 0
    if problems:
        raise LabFileError(problems)
    return 0


def schema(options: argparse.Namespace) -> int:
    """Print the JSON Schema, or the page for people."""
    if options.markdown:
        from emulator.lab.manual import render

        sys.stdout.write(render())
        return 0
    from emulator.lab.schema import json_schema

    print(json.dumps(json_schema(), indent=2))
    return 0
