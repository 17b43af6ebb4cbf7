#!/usr/bin/env bash
# Set up .venv and run the tests on all cores. Usage: bash scripts/test.sh [pytest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
# .ci/run has done it.
[ -n "${IS_SET_UP:-}" ] || bash scripts/setup.sh test
cores=$(nproc) # before OMP_NUM_THREADS is set, which nproc heeds
export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1
# Else each of the many processes that the tests start compiles the package anew.
unset PYTHONDONTWRITEBYTECODE
.venv/bin/python -m pytest -n "$cores" --dist worksteal -m "not slow and not gpu and not faults and not ray" "$@"
