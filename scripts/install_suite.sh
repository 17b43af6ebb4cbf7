#!/usr/bin/env bash
# Make .venvs/NAME: this package with a suite of other people's environments, in the versions that it works with.
# Usage: bash scripts/install_suite.sh NAME [--test]     NAME: gymnasium, robotics, metaworld or pusht
#        bash scripts/install_suite.sh ray [--test]         Ray, for environments on several machines
#        bash scripts/install_suite.sh web [--test | --bench]     pages in a browser; see scripts/install_web.sh
#        bash scripts/install_suite.sh lerobot [--test]     the real lerobot, to test datasets; scripts/install_lerobot.sh
#        bash scripts/install_suite.sh openpi [--test]      openpi's client, to test vla-rl serve; scripts/install_openpi.sh
# It lies over .venv (made first where there is none): what is not there, torch for one, comes from .venv.
# --test runs the suite's tests in it. Then: .venvs/NAME/bin/vla-rl train env=fetch_reach
set -euo pipefail
cd "$(dirname "$0")/.."

known=$(cd scripts/suites && for file in *.txt; do echo -n "${file%.txt} "; done)
name=${1:-}
[ -n "$name" ] && [ -f "scripts/suites/$name.txt" ] || { echo "install_suite: no suite '$name'; there are: $known" >&2; exit 2; }
[ $# -eq 1 ] || [ "$*" = "$name --test" ] || [ "$*" = "web --bench" ] || { echo "install_suite: expected NAME [--test], got: $*" >&2; exit 2; }
[ "$name" != lerobot ] || exec bash scripts/install_lerobot.sh "${@:2}"
[ "$name" != openpi ] || exec bash scripts/install_openpi.sh "${@:2}"
[ "$name" != web ] || exec bash scripts/install_web.sh "${@:2}"

[ -x .venv/bin/python ] || bash scripts/setup.sh test
suite=.venvs/$name
[ -x "$suite/bin/python" ] || .venv/bin/python -m venv "$suite"
site() { "$1" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])'; }
# Links to all that .venv has, but for MuJoCo: its package extends itself over every folder of its name on the path.
rm -rf "$suite/base" && mkdir "$suite/base"
find "$(site .venv/bin/python)" -mindepth 1 -maxdepth 1 ! -name 'mujoco*' ! -name '*.pth' ! -name __pycache__ \
  -exec ln -s -t "$suite/base" {} +
echo "$PWD/$suite/base" > "$(site "$suite/bin/python")/base.pth"
# The known-good versions, but for those that the suite has its own of.
constraints=$(mktemp)
trap 'rm -f "$constraints"' EXIT
own=$(sed -n 's/^\([A-Za-z0-9_.-]*\)==.*/\1/p' "scripts/suites/$name.txt" | paste -sd '|')
grep -viE "^($own|mujoco-[a-z]+)==" scripts/constraints.txt | cat - "scripts/suites/$name.txt" > "$constraints"
extras=$name
[ "${2:-}" != --test ] || extras=$name,test
"$suite/bin/python" -m pip install --quiet --disable-pip-version-check -c "$constraints" -e ".[$extras]"
works="from sims.adapters import suites; suites.load('$name')"
tests=(-m "not slow and not gpu" tests/sims/adapters/test_adapters.py -k "$name")
if [ "$name" = ray ]; then
  works="import ray"
  tests=(-m ray tests/rollout/test_ray.py)
fi
"$suite/bin/python" -c "$works" 2>/dev/null || { "$suite/bin/python" -c "$works"; exit 1; }

if [ "${2:-}" = --test ]; then
  export OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1
  unset PYTHONDONTWRITEBYTECODE # as in scripts/test.sh
  "$suite/bin/python" -m pytest "${tests[@]}"
fi
