"""A report as JUnit XML, which continuous integration and editors read."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from emulator.verify.verdict import Report, Verdict

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that an XML document cannot hold, not even as references (XML 1.0, section 2.2)."""
_ELEMENTS = {Verdict.FAIL: "failure", Verdict.UNKNOWN: "error"}


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def render(report: Report) -> str:
    """The report as an XML document: a suite for the lab, a case for each check; UNKNOWN is an error."""
    counts = {
        "name": _clean(report.lab),
        "tests": str(len(report.results)),
        "failures": str(report.count(Verdict.FAIL)),
        "errors": str(report.count(Verdict.UNKNOWN)),
        "skipped": "0",
        "time": f"{report.seconds:.3f}",
    }
    suites = ElementTree.Element("testsuites", {k: v for k, v in counts.items() if k != "skipped"})
    suite = ElementTree.SubElement(suites, "testsuite", counts)
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
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"
