#!/usr/bin/env bash
# The proofs that take minutes: experts over 100 seeds, the wheel in an empty environment, Stable-Baselines3, runs
# that are killed, and runs in several processes.
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh test
export HF_HUB_OFFLINE=1
.venv/bin/python -m pytest -m "slow or faults or processes" "$@"
