"""A report as JUnit XML, which continuous integration and editors read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from emulator.report.many import Outcome
from emulator.verify.verdict import Report, Verdict

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that an XML document cannot hold, not even as references (XML 1.0, section 2.2)."""
_ELEMENTS = {Verdict.FAIL: "failure", Verdict.UNKNOWN: "error"}


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def render(report: Report) -> str:
    """The report as an XML document: a suite for the lab, a case for each check; UNKNOWN is an error."""
    return _document([_suite(report)], report.seconds, _clean(report.lab))


def render_many(outcomes: Sequence[Outcome], seconds: float) -> str:
    """The reports of several labs as one XML document: a suite for each lab.

    A lab that could not be verified has one case, `verify`, that is an error.

    Args:
        seconds: how long all of it took.
    """
    suites = [_suite(outcome.report) if outcome.report else _not_verified(outcome) for outcome in outcomes]
    return _document(suites, seconds, "wirelab")


def _document(suites: Sequence[ElementTree.Element], seconds: float, name: str) -> str:
    root = ElementTree.Element("testsuites", {"name": name})
    for key in ("tests", "failures", "errors"):
        root.set(key, str(sum(int(suite.get(key, "0")) for suite in suites)))
    root.set("time", f"{seconds:.3f}")
    root.extend(suites)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _suite(report: Report) -> ElementTree.Element:
    counts = {
        "name": _clean(report.lab),
        "tests": str(len(report.results)),
        "failures": str(report.count(Verdict.FAIL)),
        "errors": str(report.count(Verdict.UNKNOWN)),
        "skipped": "0",
        "time": f"{report.seconds:.3f}",
    }
    suite = ElementTree.Element("testsuite", counts)
    if report.capture is not None:
        properties = ElementTree.SubElement(suite, "properties")
        ElementTree.SubElement(properties, "property", {"name": "capture", "value": _clean(report.capture)})
    for result in report.results:
        name = {"classname": _clean(f"{report.lab}.{result.layer}"), "name": _clean(result.name), "time": "0"}
        case = ElementTree.SubElement(suite, "testcase", name)
        if result.verdict in _ELEMENTS:
            element = ElementTree.SubElement(case, _ELEMENTS[result.verdict])
            element.set("message", _clean(result.reason))
            element.set("type", result.verdict.value)
            element.text = _clean(result.reason)
        else:
            ElementTree.SubElement(case, "system-out").text = _clean(result.reason)
        if result.frames and result.verdict in _ELEMENTS:
            ElementTree.SubElement(case, "system-out").text = f"frames: {', '.join(map(str, result.frames))}"
    return suite


def _not_verified(outcome: Outcome) -> ElementTree.Element:
    counts = {"tests": "1", "failures": "0", "errors": "1", "skipped": "0", "time": f"{outcome.seconds:.3f}"}
    suite = ElementTree.Element("testsuite", {"name": _clean(outcome.lab), **counts})
    case = ElementTree.SubElement(suite, "testcase", {"classname": _clean(outcome.lab), "name": "verify", "time": "0"})
    error = ElementTree.SubElement(case, "error", {"message": _clean(outcome.error), "type": "not verified"})
    error.text = _clean(outcome.error)
    return suite
