#!/usr/bin/env bash
# Install what pages need into .venv (made first where there is none): the browser, and the pages of MiniWoB++.
# Called as: bash scripts/install_suite.sh web [--test | --bench]
# The pages clash with nothing, and need no Selenium, which their package would bring; --bench installs it, to race it.
# --test runs the tests of pages. Then: .venv/bin/vla-rl play click_button
set -euo pipefail
cd "$(dirname "$0")/.."

[ -x .venv/bin/python ] || bash scripts/setup.sh test
bash scripts/system_packages.sh web "$@"
pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check -c scripts/constraints.txt -c scripts/suites/web.txt)
"${pip[@]}" --no-deps miniwob
.venv/bin/python -c 'from sims.web.miniwob import MiniWoB; lacks = MiniWoB.missing(); assert not lacks, lacks'
case "${1:-}" in
  --bench) "${pip[@]}" selenium ;;
  --test) OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 .venv/bin/python -m pytest -n "$(nproc)" -m "not slow and not gpu" tests/sims/web ;;
esac
