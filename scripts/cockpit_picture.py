"""A picture of the cockpit of a run, or of an environment, while a person acts there.

`python scripts/cockpit_picture.py docs/cockpit.png RUN|ENV [KEY=VALUE...] [--dark]`; a run must be training meanwhile,
and the browser of `bash scripts/install_suite.sh web` be installed.
"""

from __future__ import annotations

import argparse
import io
import signal
import subprocess
import sys
import time
from pathlib import Path

from PIL import Image

from sims.web.chromium import Browser
from sims.web.visit import OFTEN, Visit

SIZE = (1280, 760)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("out", type=Path)
    options.add_argument("words", nargs="+")
    options.add_argument("--dark", action="store_true")
    chosen = options.parse_args()
    command = [sys.executable, "-u", "-m", "vla_rl.cli", "cockpit", *chosen.words, "--port=0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    browser = Browser(online=True)
    try:
        visit = Visit(browser, server.stdout.readline().split("cockpit: ")[1].strip(), SIZE, dark=chosen.dark)
        visit.until("state.live")
        spend(visit, 8.0)  # so that every lane has been shown
        visit.run("mine() || toggle()")
        visit.until("mine()")
        visit.hold("ArrowLeft")
        spend(visit, 0.4)
        visit.leave("ArrowLeft")
        spend(visit, 2.0)
        sheet = Image.open(io.BytesIO(visit.picture())).convert("RGB")
        sheet.quantize(256, dither=Image.Dither.NONE).save(chosen.out, optimize=True)
        visit.close()
    finally:
        browser.close()
        server.send_signal(signal.SIGINT)
        server.wait()


def spend(visit: Visit, seconds: float) -> None:
    """Look at the page for a while."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        visit.draw()
        time.sleep(OFTEN)


if __name__ == "__main__":
    main()
