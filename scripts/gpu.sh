#!/usr/bin/env bash
# What only a GPU can show: its tests, decisions against generate(), cached features against encoding, and where the
# time of a training goes. Prints one JSON object a bench; PYTHON=<path> for another environment than .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -n "${PYTHON:-}" ] || [ -x .venv/bin/python ] || bash scripts/setup.sh test
python=${PYTHON:-.venv/bin/python}
out=${1:-outputs/gpu}
rm -rf "$out" && mkdir -p "$out"
"$python" -c 'import torch; assert torch.cuda.is_available(), "no CUDA device"; print(torch.cuda.get_device_name(), torch.__version__)'
"$python" -m pytest -m gpu tests/test_gpu.py
"$python" -m vla_rl.cli bench policy --large --json | tee "$out/policy.json"
"$python" -m vla_rl.cli bench learner --json | tee "$out/learner.json"
common=(experiment=reach seed=1 "demos.path=$out/demos" tracker=null)
"$python" -m vla_rl.cli demos "${common[@]}"
"$python" -m vla_rl.cli sft "${common[@]}" "run_dir=$out/sft"
"$python" -m vla_rl.cli train "${common[@]}" "train.checkpoint=$out/sft/checkpoints/last" "run_dir=$out/rl" train.steps=10000 train.eval_every=0
