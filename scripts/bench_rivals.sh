#!/usr/bin/env bash
# Make .venvs/rivals-NAME for every replay buffer that `vla-rl bench replay` races ours with.
# Usage: bash scripts/bench_rivals.sh [NAME ...]     NAME: sb3, torchrl, cpprb or lerobot; all by default
# One that cannot be installed is named, and left out of the race; the others go on.
# VENV=<folder>: whose torch they share instead of .venv's (made first where there is none). LeRobot needs Python 3.12
# (PYTHON312=<path>) and has a torch of its own; TORCH_INDEX=<url of a wheel index> chooses a build without CUDA.
set -euo pipefail
cd "$(dirname "$0")/.."

site() { "$1" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])'; }

install() {  # NAME PYTHON [--share]
  local home=.venvs/rivals-$1 wants=scripts/rivals/$1.txt
  [ -x "$home/bin/python" ] || "$2" -m venv "$home" || return 1
  if [ "${3:-}" = --share ]; then
    # torch and what it needs, as links; nothing else, so that a rival's own versions count.
    rm -rf "$home/base" && mkdir "$home/base"
    find "$(site "$2")" -mindepth 1 -maxdepth 1 | grep -E '/(torch|torchgen|functorch|sympy|mpmath|networkx|jinja2|markupsafe|filelock|fsspec|typing_extensions)([-.].*)?$' |
      xargs ln -s -t "$home/base"
    echo "$PWD/$home/base" > "$(site "$home/bin/python")/base.pth"
  elif [ -n "${TORCH_INDEX:-}" ]; then
    "$home/bin/python" -m pip install --quiet --disable-pip-version-check --index-url "$TORCH_INDEX" torch torchvision || return 1
  fi
  "$home/bin/python" -m pip install --quiet --disable-pip-version-check -r "$wants" || return 1
  PYTHONPATH=. "$home/bin/python" -P "scripts/rivals/$1.py" --check
}

venv=${VENV:-.venv}
names=("$@")
[ ${#names[@]} -gt 0 ] || names=(sb3 torchrl cpprb lerobot)
for name in "${names[@]}"; do
  [ -f "scripts/rivals/$name.txt" ] || { echo "bench_rivals: no rival '$name'; there are: sb3 torchrl cpprb lerobot" >&2; exit 2; }
done
[ -x "$venv/bin/python" ] || bash scripts/setup.sh
for name in "${names[@]}"; do
  case $name in
    sb3 | torchrl) wanted=("$venv/bin/python" --share) ;;
    cpprb) wanted=("$venv/bin/python") ;;
    lerobot) wanted=("${PYTHON312:-python3.12}") ;;
  esac
  if install "$name" "${wanted[@]}"; then echo "$name: ready"; else echo "$name: cannot be installed here"; fi
done
