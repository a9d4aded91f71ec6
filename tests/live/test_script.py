"""The printed script builds the same lab without Wirelab."""

from __future__ import annotations

from tests.conftest import Person


def test_the_script_brings_the_page_through_the_same_nat(person: Person) -> None:
    script = person.home / "nat.sh"
    text = person.wirelab("plan", "nat", "--as", "sh").stdout
    script.write_text(text)
    script.chmod(0o644)
    without = {**person.environment(), "PYTHONPATH": ""}
    commands = (
        "in_node pc1 sh -c 'curl -s http://www.example.com/; hostname'; in_ns home conntrack -L -p tcp --dport 80"
    )
    done = person.run(["sh", str(script), "eval", commands], env=without, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "You reached www.example.com" in done.stdout
    assert "pc1" in done.stdout.splitlines()
    flow = next(line for line in done.stdout.splitlines() if line.startswith("tcp"))
    assert "src=192.168.1." in flow
    assert "dst=203.0.113.2" in flow
    refused = person.run(["sh", str(script), "in_node", "home", "sh", "-c", "exit 5"], env=without, timeout=60)
    assert refused.returncode == 5
