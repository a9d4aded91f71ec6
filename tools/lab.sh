#!/bin/sh
# lab.sh WIRELAB NAME: bring a lab up (or take the one that runs), prove it, say what to try next, leave it running.
set -eu
wirelab=$1
name=$2
if "$wirelab" ps "$name" >/dev/null 2>&1; then
    echo "$name is running already"
else
    "$wirelab" up "$name"
fi
status=0
"$wirelab" verify "$name" || status=$?
host=$("$wirelab" ps "$name" --json | sed 's/.*"nodes": \[{"name": "\([^"]*\)".*/\1/')
try() { printf '  %-48s %s\n' "$1" "$2"; }
echo
echo "$name is running. Try next (or put .venv/bin on your PATH):"
[ ! -f "labs/$name/README.md" ] || try "labs/$name/README.md" "what to look for, and what to break"
try "$wirelab ps $name" "its nodes, addresses and services"
try "$wirelab shell $name $host" "a shell on $host"
try "$wirelab capture $name -w $name.pcapng" "record everything; open it in Wireshark"
try "make down-$name" "take it down; nothing stays"
exit "$status"
