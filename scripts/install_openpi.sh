#!/usr/bin/env bash
# Make .venvs/openpi: the published client of openpi, alone, to prove that it and `vla-rl serve` understand each other.
# Called as: bash scripts/install_suite.sh openpi [--test]      --test runs that proof from .venv
set -euo pipefail
cd "$(dirname "$0")/.."

suite=.venvs/openpi
[ -x "$suite/bin/python" ] || "${PYTHON:-python3}" -m venv "$suite"
# It uses typing_extensions, and does not say so.
"$suite/bin/python" -m pip install --quiet --disable-pip-version-check -c scripts/suites/openpi.txt openpi-client typing_extensions
"$suite/bin/python" -c 'import openpi_client.websocket_client_policy'

if [ "${1:-}" = --test ]; then
  [ -x .venv/bin/python ] || bash scripts/setup.sh test
  OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 .venv/bin/python -m pytest tests/serving
fi
