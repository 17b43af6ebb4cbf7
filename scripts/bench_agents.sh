#!/usr/bin/env bash
# One agent on one task, with the environment of packages that it needs; writes outputs/agents/NAME_TASK_SEED.json.
# Usage: bash scripts/bench_agents.sh NAME TASK SEED [--steps N] [--every N] [--minutes M] [KEY=VALUE ...]
#   NAME: pa_rl, filtered_bc (ours); sac, sac_demos (Stable-Baselines3); drqv2, drqv2_demos, rlpd, rlpd_alone;
#   lerobot_sac, lerobot_sac_alone; tiny_vla (TorchRL's recipe).    TASK: reach or push; toy for tiny_vla and pa_rl
# Then: .venv/bin/python -m scripts.agents.table
# LeRobot needs Python 3.12 (PYTHON312=<path>) and has a torch of its own; TORCH_INDEX=<url of a wheel index> chooses a build.
set -euo pipefail
cd "$(dirname "$0")/.."

name=${1:?"usage: bash scripts/bench_agents.sh NAME TASK SEED"}

# The environment of a rival's replay buffer, and what our environments and configs need beside it.
rival() {
  local home=.venvs/rivals-$1
  [ -e "$home/agents" ] && return
  bash scripts/bench_rivals.sh "$1"
  "$home/bin/python" -m pip install --quiet --disable-pip-version-check -r scripts/agents/light.txt
  "$home/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -e .
  touch "$home/agents"
}

[ -x .venv/bin/python ] || bash scripts/setup.sh test
python=.venv/bin/python
case $name in
  lerobot_*) rival lerobot; python=.venvs/rivals-lerobot/bin/python ;;
  tiny_vla) rival torchrl; python=.venvs/rivals-torchrl/bin/python ;;
  sac*) "$python" -c 'import stable_baselines3' || bash scripts/setup.sh test ;;
esac
if [ "${2:-}" = toy ]; then rival torchrl; fi
exec "$python" -m scripts.agents.run "$@"
