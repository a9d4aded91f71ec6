"""The plan as a plain shell script that builds the same lab by hand, without Wirelab."""

from __future__ import annotations

from emulator.plan.containers import CreateContainer
from emulator.plan.ops import Plan

_NAMESPACES = """\
# It needs no root and leaves nothing behind: everything lives in new namespaces and ends with this script.
set -eu
if [ -z "${WIRELAB_INSIDE-}" ]; then
    WIRELAB_INSIDE=1 exec unshare --user --map-root-user --net --mount --pid --fork --kill-child --mount-proc \\
        --uts --ipc sh "$0" "$@"
fi
"""

_CONTAINERS = """\
# It needs root and the Docker Engine, since some nodes are containers; it removes them when it ends.
set -eu
if [ -z "${WIRELAB_INSIDE-}" ]; then
    WIRELAB_INSIDE=1 exec unshare --net --mount --uts --ipc sh "$0" "$@"
fi
end() {
    docker ps --all --quiet --filter label=wirelab.script=$$ | xargs -r docker rm --force --volumes >/dev/null
}
trap end EXIT
trap 'exit 1' HUP INT TERM
"""

_HIDE_NAMES = """\
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
"""

_MAKE_CONTAINER = """
# A container with an empty network namespace; `ip` knows that namespace by the name of the node.
make_container() {
    node=$1
    shift
    id=$(docker run --detach --init --network none --label wirelab.script=$$ "$@")
    echo "$id" >"$lab/$node.container"
    ip netns attach "$node" "$(docker inspect --format '{{.State.Pid}}' "$id")"
}
"""

_PROLOGUE = """\
#!/bin/sh
# The lab {lab}, by hand: `ip`, `iptables` and the daemons' own configuration.
#
#     sh {lab}.sh                                    build it and open a shell
#     sh {lab}.sh in_node NODE COMMAND...            build it, run one command in a node, take it all back
#
{start}PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
resolv_conf=$(readlink -f /etc/resolv.conf)
mount -t tmpfs tmpfs /mnt
lab=/mnt
{hide_run}mkdir -p /run/netns "$lab/log"
{make_container}
# The places that only one node sees.
make_places() {{
    mkdir -p "$lab/$1/etc" "$lab/$1/run" "$lab/$1/tmp"
    printf '127.0.0.1 localhost\\n' >"$lab/$1/etc/hosts"
    : >"$lab/$1/etc/resolv.conf"
}}

# Standard input becomes a file that only one node sees.
put() {{
{put_container}    mkdir -p "$(dirname "$lab/$1$2")"
    cat >"$lab/$1$2"
    chmod "${{3-644}}" "$lab/$1$2"
}}

in_ns() {{
    ip netns exec "$@"
}}

# A command as a process of a node: its network, its name, its files.
in_node() {{
    node=$1
    shift
{in_container}    ip netns exec "$node" unshare --uts sh -c '
        own=$1 resolv_conf=$2
        shift 2
        hostname "${{own##*/}}"
        mount --bind "$own/etc/hosts" /etc/hosts
        if [ -e "$own/binds" ]; then . "$own/binds"; fi
        mount --bind "$own/tmp" /tmp
        mount --bind "$own/run" /run
        if [ ! -e "$resolv_conf" ]; then mkdir -p "${{resolv_conf%/*}}"; : >"$resolv_conf"; fi
        mount --bind "$own/etc/resolv.conf" "$resolv_conf"
        ca=/run/wirelab/ca.pem
        if [ -e "$ca" ]; then export SSL_CERT_FILE="$ca" CURL_CA_BUNDLE="$ca"; fi
        exec "$@"
    ' sh "$lab/$node" "$resolv_conf" "$@"
}}

no_offload() {{
    command -v ethtool >/dev/null || return 0
    ip netns exec "$1" ethtool -K "$2" tx off sg off tso off gso off gro off >/dev/null
}}

wait_for() {{
    tries=0
    until "$@" >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -ge 100 ]; then
            echo "no success: $*" >&2
            tail -n 5 "$lab"/log/* >&2
            exit 1
        fi
        sleep 0.1
    done
}}
"""

_EPILOGUE = """
# The lab is up.
if [ $# -gt 0 ]; then
    "$@"
else
    echo "The lab {lab} is up until you leave this shell. Enter a node with: ip netns exec NODE COMMAND" >&2
    sh -i
fi
"""


_IN_CONTAINER = """\
    if [ -e "$lab/$node.container" ]; then
        user=$(cat "$lab/$node.user" 2>/dev/null || echo root)
        docker exec --interactive --user "${as-$user}" "$(cat "$lab/$node.container")" "$@"
        return
    fi
"""

_PUT_CONTAINER = """\
    if [ -e "$lab/$1.container" ]; then
        as=root in_node "$1" sh -c '
            mkdir -p "$(dirname "$1")" && cat >"$1" && { chmod "$2" "$1" || :; }
        ' sh "$2" "${3-644}"
        return
    fi
"""


def _prologue(plan: Plan) -> str:
    containers = any(isinstance(operation, CreateContainer) for operation in plan.operations)
    return _PROLOGUE.format(
        lab=plan.lab,
        start=_CONTAINERS if containers else _NAMESPACES,
        hide_run=_HIDE_NAMES if containers else "mount -t tmpfs tmpfs /run\n",
        make_container=_MAKE_CONTAINER if containers else "",
        put_container=_PUT_CONTAINER if containers else "",
        in_container=_IN_CONTAINER if containers else "",
    )


def as_script(plan: Plan) -> str:
    """`plan` as a POSIX shell script."""
    parts = [_prologue(plan)]
    last = ""
    for operation in plan.operations:
        kind = type(operation).__name__
        if kind != last:
            parts.append("")
        last = kind
        if text := operation.shell():
            parts.append(f"# {operation.describe()}\n{text}")
    parts.append(_EPILOGUE.format(lab=plan.lab))
    return "\n".join(parts)
