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
[ -x .venv/bin/python ] || "$python" -m venv .venv
pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check -c scripts/constraints.txt)
# torch first: with it there, nothing below looks for another build.
"${pip[@]}" ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
extras=$(IFS=,; echo "$*")
"${pip[@]}" -e ".${extras:+[$extras]}"
