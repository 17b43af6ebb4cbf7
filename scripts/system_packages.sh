#!/usr/bin/env bash
# Install the Debian packages that headless MuJoCo rendering needs, where they are missing and we are root.
# Usage: bash scripts/system_packages.sh [test|dev|web [--bench]]
# test, dev: also what the tests of `vla-rl play` need; web: the browser instead; --bench: the driver that it is raced with.
set -euo pipefail
packages=(libegl1 libgl1 libgl1-mesa-dri libosmesa6)
# A screen that nobody sees, and Tk for Debian's own python3; 6 MB.
case " $* " in *" test "* | *" dev "*) packages+=(xvfb python3-tk) ;; esac
case " $* " in *" web "*) packages=(chromium-headless-shell) ;; esac
case " $* " in *" --bench "*) packages+=(chromium-driver) ;; esac
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "setup: these packages are missing; install them with your package manager: ${missing[*]}" >&2
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
