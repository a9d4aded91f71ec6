"""The same networks built by hand: `ip netns`, `ip link`, `iptables`, as every manual shows it, and nothing of Wirelab.

They stand in user, network, mount and PID namespaces of their own, so that no right is needed and the machine is left
alone; as a lab does too.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.common import ROOT

START = """
mount -t tmpfs tmpfs /run
cable() { # NODE INTERFACE NODE INTERFACE
    ip link add "$2" netns "$1" type veth peer name "$4" netns "$3"
    ip -n "$1" link set "$2" up
    ip -n "$3" link set "$4" up
}
node() { ip netns add "$1"; ip -n "$1" link set lo up; }
bridge() { # NODE PORT…
    ip -n "$1" link add br0 type bridge
    ip -n "$1" link set br0 up
    for port in $(ip -n "$1" -br link show type veth | cut -d@ -f1); do ip -n "$1" link set "$port" master br0; done
}
no_offload() { ip netns exec "$1" python3 "$by_hand/no_offload.py" "$2"; }
"""


class ByHand:
    """A network built by hand that is there."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def inside(self, *argv: str) -> list[str]:
        """The command line that runs `argv` in the namespaces of the whole."""
        return [
            "nsenter",
            f"--target={self._pid}",
            "--user",
            "--preserve-credentials",
            "--net",
            "--mount",
            "--pid",
            *argv,
        ]

    def argv(self, node: str, *argv: str) -> list[str]:
        """The command line that runs `argv` in `node`."""
        return self.inside("ip", "netns", "exec", node, *argv)


@contextlib.contextmanager
def by_hand(script: str) -> Iterator[ByHand]:
    """Run `script` (sh, with the functions of START) in new namespaces; they end with the block."""
    with tempfile.TemporaryDirectory(prefix="wirelab-bench-") as folder:
        (Path(folder) / "no_offload.py").write_text((ROOT / "bench" / "no_offload.py").read_text(), encoding="utf-8")
        os.chmod(folder, 0o755)
        words = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child"]
        whole = f"by_hand={folder}\n{START}{script}\necho ready\ncat\n"
        process = subprocess.Popen(
            [*words, "--mount-proc", "sh", "-euc", whole],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"},
        )
        try:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise SystemExit(f"bench: cannot build by hand:\n{script}")
            child = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            yield ByHand(int(child[0]))
        finally:
            if process.stdin:
                process.stdin.close()
            if process.stdout:
                process.stdout.close()
            process.kill()
            process.wait()
