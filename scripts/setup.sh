#!/usr/bin/env bash
# Make .venv with the package and its known-good dependencies; as root, the system packages for headless rendering too.
# Usage: bash scripts/setup.sh [extra ...]      (extras of pyproject.toml: test, dev)
# TORCH_INDEX=<url of a wheel index> chooses another build of torch, for example one for your CUDA.
set -euo pipefail
cd "$(dirname "$0")/.."

bash scripts/system_packages.sh "$@"

python=${PYTHON:-python3}
"$python" - <<'PY' || { echo "setup: needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2; exit 1; }
import sys
sys.exit(sys.version_info < (3, 11))
PY
new=
[ -x .venv/bin/python ] || { "$python" -m venv .venv; new=1; }
# Not compiled: all of every package would take as long as the rest, and a fifth of it is ever imported.
pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -c scripts/constraints.txt)
# torch first: with it there, nothing below looks for another build.
[ -z "${TORCH_INDEX:-}" ] || "${pip[@]}" --index-url "$TORCH_INDEX" torch
extras=$(IFS=,; echo "$*")
"${pip[@]}" -e ".${extras:+[$extras]}"
# What the commands import is compiled here, also for those who let Python write no bytecode.
[ -z "$new" ] || env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -c 'import sims, vla_rl.train'
