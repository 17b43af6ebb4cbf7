#!/usr/bin/env bash
# Make .venvs/lerobot: the real lerobot, alone, to prove that it and we read each other's datasets.
# Called as: bash scripts/install_suite.sh lerobot [--test]      --test runs that proof from .venv
# It wants Python 3.12 or newer: PYTHON312=/path/to/python3.12. TORCH_INDEX=<wheel index> chooses another build of torch.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON312:-$(command -v python3.12 || command -v python3)}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' || {
  echo "install_lerobot: needs Python 3.12 or newer; set PYTHON312=/path/to/python3.12" >&2; exit 2; }
suite=.venvs/lerobot
[ -x "$suite/bin/python" ] || "$python" -m venv "$suite"
pip=("$suite/bin/python" -m pip install --quiet --disable-pip-version-check -c scripts/suites/lerobot.txt)
[ -z "${TORCH_INDEX:-}" ] || "${pip[@]}" --index-url "$TORCH_INDEX" torch torchvision
"${pip[@]}" 'lerobot[dataset]'
"$suite/bin/python" -c 'import lerobot.datasets.lerobot_dataset'

if [ "${1:-}" = --test ]; then
  [ -x .venv/bin/python ] || bash scripts/setup.sh test
  OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 .venv/bin/python -m pytest tests/data
fi
