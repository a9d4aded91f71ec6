#!/bin/sh
# The one test command: style, types, import rules, then pytest. The plain summary of pytest comes last.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
export PATH
bin=.venv/bin
"$bin/ruff" check --quiet .
"$bin/ruff" format --check --quiet .
"$bin/mypy"
"$bin/lint-imports" --no-cache
exec "$bin/python" -m pytest -n "${TEST_WORKERS:-4}" --dist worksteal "$@"
