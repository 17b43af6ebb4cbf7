#!/usr/bin/env bash
# What only a GPU can show, in parts of at most 2 minutes on one H200, 10 in all: its tests, decisions and updates by CUDA
# graphs, Reach end to end, adapters in a 256M and a 3B shape, bfloat16. Writes JSON and a table to outputs/gpu.
# Without a CUDA device, or with --cpu, the same is done small, to know that it works.
# Usage: bash scripts/gpu.sh [--cpu] [FOLDER]; PYTHON=<path> for another environment than .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
small=()
[ "${1:-}" != --cpu ] || { small=(--small); export CUDA_VISIBLE_DEVICES=""; shift; }
[ -n "${PYTHON:-}" ] || [ -x .venv/bin/python ] || bash scripts/setup.sh test
python=${PYTHON:-.venv/bin/python}
out=${1:-outputs/gpu}
mkdir -p "$out"
"$python" -c 'import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device: small", torch.__version__)'
failed=0
# The shortest first: what was measured stays if time runs out. A part that fails does not cost the others.
[ ${#small[@]} -gt 0 ] || timeout 120 "$python" -m pytest -q -m gpu tests/test_gpu.py || failed=1
for part in acting updates parity lora lora_3b reach; do
  rm -rf "${out:?}/$part" "$out/$part.json"
  timeout "${PART_SECONDS:-120}" "$python" -m vla_rl.bench.gpu "$part" "$out" "${small[@]}" || { echo "$part: failed" >&2; failed=1; }
done
"$python" -m vla_rl.bench.gpu table "$out" | tee "$out/table.md"
exit $failed
