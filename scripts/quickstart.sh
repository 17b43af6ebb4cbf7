#!/usr/bin/env bash
# Set everything up, then: demonstrations, supervised start, reinforcement learning from pixels and a sparse
# reward, and both policies on the same held-out seeds. Usage: bash scripts/quickstart.sh [reach|push|gui|gui_long] [seed]
set -euo pipefail
cd "$(dirname "$0")/.."
start=$(date +%s)
bash scripts/setup.sh
.venv/bin/python scripts/quickstart.py "${1:-reach}" --seed "${2:-1}" --setup-seconds $(($(date +%s) - start))
