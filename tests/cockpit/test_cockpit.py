"""A person in a real browser: watches a run that trains, takes over, judges, is cut off, comes again, hands back."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="pip install 'vla-rl[cockpit]'")

from sims.screen.interaction import Gesture
from sims.web.chromium import NAMES, Browser, SlowError
from sims.web.visit import Visit
from tests import launch
from vla_rl import config, resume, train_state
from vla_rl.data import files
from vla_rl.replay import ReplayBuffer
from vla_rl.specs import STATE

pytestmark = pytest.mark.skipif(not any(map(shutil.which, NAMES)), reason="bash scripts/install_suite.sh web")

GAMEPAD = """
window.pad = {connected: true, axes: [0, 0, 0, 0], buttons: Array.from({length: 17}, () => ({pressed: false}))};
navigator.getGamepads = () => [window.pad];
"""
ALT = 1


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    made = Browser(online=True)
    yield made
    made.close()


class Command:
    """`vla-rl ...` in a process of its own."""

    def __init__(self, log: Path, *arguments: str, **environment: str) -> None:
        self.log = log
        log.touch()
        self.process = launch.start(log, "-m", "vla_rl.cli", *arguments, PYTHONUNBUFFERED="1", **environment)

    def says(self, word: str, visit: Visit | None = None, within: float = 120) -> str:
        """Wait until it says a line with a word, and return the rest of the line."""

        def said() -> str:
            assert self.process.is_alive(), self.log.read_text()
            lines = [line for line in self.log.read_text().splitlines() if word in line]
            return lines[0].split(word)[1].strip() if lines else ""

        if visit is not None:
            return visit.wait(said, word, within)
        while not (found := said()):
            self.process.join(0.05)
        return found

    def end(self, number: int = signal.SIGINT) -> int | None:
        """Tell it to end, and wait."""
        if self.process.is_alive() and self.process.pid:
            os.kill(self.process.pid, number)
        self.process.join(120)
        return self.process.exitcode


@pytest.fixture
def commands() -> Iterator[list[Command]]:
    """Those that a test starts, which end with it."""
    started: list[Command] = []
    yield started
    for each in started:
        each.process.kill()
        each.process.join()


def episodes(replay: ReplayBuffer) -> list[str]:
    """Where each ended episode has been, as `fakes.Diary` writes it."""
    return [
        " ".join(str(np.float32(place)) for place in replay.observations(ids)[STATE].ravel())
        for ids in replay.episodes()
    ]


def test_a_persons_take_over_of_an_episode_ends_in_replay_exactly_once(
    line: list[str], tmp_path: Path, browser: Browser, commands: list[Command]
) -> None:
    diary, run = tmp_path / "diary", tmp_path / "run"
    diary.mkdir()
    own = ["env.id=fake/Diary-v0", "env.kwargs={tells: false}", "plugins=[tests.fakes]", "train.num_envs=3"]
    own += ["train.steps=1000000", "train.eval_every=0", "train.save_every=0", "train.updates_per_step=0.01"]
    training = Command(tmp_path / "train.log", "train", *line, *own, DIARY=str(diary))
    commands.append(training)
    while not (run / ".cockpit").exists():
        assert training.process.is_alive(), training.log.read_text()
        training.process.join(0.1)
    server = Command(tmp_path / "cockpit.log", "cockpit", str(run), "plugins=[tests.fakes]", "--port=0")
    commands.append(server)
    address = server.says("cockpit: ")

    visit = Visit(browser, address, script=GAMEPAD)  # watch
    visit.until("state.live && document.querySelector('.view img')?.naturalWidth === 8")
    assert visit.run("$('task').textContent") == "go to <b>the middle</b>"  # as text, not as HTML
    before = visit.run("state.version[0]")
    visit.until(f"state.version[0] > {before}")

    visit.press("t")  # take over: the lane rests, and the others go on
    visit.until("mine()")
    begun = visit.run("state.version")
    visit.until(f"state.version[1] > {begun[1] + 20} && state.version[2] > {begun[2] + 20}")
    assert visit.run("state.version[0]") - begun[0] <= 1

    visit.hold("ArrowRight")
    visit.until("state.taken[0] >= 3")
    visit.leave("ArrowRight")
    visit.run("window.pad.axes[0] = -1")  # a gamepad's stick, to the left
    visit.until("state.taken[0] >= 6 || state.episode[0] > " + str(visit.run("state.episode[0]")))
    visit.run("window.pad.axes[0] = 0")

    other = Visit(browser, address)  # another viewer sees it, and cannot take it
    other.until("state.live && state.held[0] === 'other' && $('take').disabled")

    visit.run("socket.close()")  # cut off, and back again: it is still theirs
    visit.until("socket.readyState === 1 && mine()")
    visit.press("y")  # a success, which nothing but a person tells
    visit.until("state.ended[0] === 'success' || state.episode[0] > 1")

    visit.press("Escape", 27)  # hand back
    visit.until("!mine() && state.live")
    resting = visit.run("state.version[0]")
    visit.until(f"state.version[0] > {resting + 5}")

    visit.press("t")  # take over, and shut the computer
    visit.until("mine()")
    visit.close()
    other.until("state.live && !Object.keys(state.held).length", within=60)
    assert not other.errors

    assert training.end(signal.SIGTERM) == 143, training.log.read_text()
    other.until("!state.live && $('link').textContent.includes('no training')")
    assert server.end() in (0, 130), server.log.read_text()
    other.close()

    # As the run that goes on has it: what waited for its turn when the other one was told to stop is taken in.
    again = train_state.make(config.load(["resume=true", f"run_dir={run}", "plugins=[tests.fakes]"]), run)
    with closing(again):
        assert resume.restore(run, again) > 0
        replay = again.replay
    shown = [text.strip() for file in diary.iterdir() for text in file.read_text().strip().split("\n")[:-1]]
    shown = [text for text in shown if " " in text]  # not of who only looked at the environment
    remembered = episodes(replay)
    assert len(remembered) > 20
    assert sorted(remembered) == sorted(shown)  # none lost, none doubled, each in its order
    rows = replay.recorded(np.arange(replay.added))
    assert rows["demo"].sum() >= 3
    assert (rows["tokens"][rows["demo"]] == rows["labels"][rows["demo"]]).all()
    assert rows["verified"].sum() == 1
    judged = int(rows["verified"].argmax())
    assert rows["reward"][judged] >= 1
    assert rows["terminated"][judged]


def test_a_person_acts_alone_and_what_they_keep_are_demonstrations(
    tmp_path: Path, browser: Browser, commands: list[Command]
) -> None:
    demos = tmp_path / "demos"
    own = ["fake/Diary-v0", "plugins=[tests.fakes]", f"demos.path={demos}", "--port=0"]
    server = Command(tmp_path / "log", "cockpit", *own, DIARY=os.devnull)
    commands.append(server)
    visit = Visit(browser, server.says("cockpit: "))
    visit.until("mine()")  # it is theirs at once
    for _ in range(12):
        place = visit.run("state.step[0]")
        if visit.run("state.ended[0]"):
            break
        visit.run("send({do: 'expert'})")
        visit.until(f"state.step[0] > {place}")
    visit.until("state.ended[0] === 'success'")
    visit.run("label(true)")
    visit.until("$('said').textContent.includes('itself tells')")
    visit.press("Enter", 13)
    visit.until("state.kept === 1")
    assert not visit.errors
    visit.close()
    server.end()
    (episode,) = files.load(demos)
    assert episode.reward.sum() == 1


def test_one_clicks_and_types_in_the_picture(tmp_path: Path, browser: Browser, commands: list[Command]) -> None:
    server = Command(tmp_path / "log", "cockpit", "gui_fill_form", f"demos.path={tmp_path}/demos", "--port=0")
    commands.append(server)
    visit = Visit(browser, server.says("cockpit: "))
    visit.until("mine() && document.querySelector('.view img')?.naturalWidth > 100")
    visit.click(".view", (0.5, 0.3))
    visit.until("state.step[0] === 1")
    assert visit.run("$('said').textContent").startswith("click 0.5 0.")
    word = visit.run("$('task').textContent").split()[0]
    visit.do(Gesture("type", text=word))
    assert visit.run("$('prompt').textContent") == f"> {word}▏"
    visit.press("Enter", 13)
    visit.until("state.step[0] === 2")
    assert visit.run("$('said').textContent") == f"type {word}"
    visit.do(Gesture("type", text="zz"))
    visit.press("Enter", 13)
    visit.until("$('said').classList.contains('refused')")
    assert visit.run("state.step[0]") == 2
    visit.press("Escape", 27, held=8)  # shift: hand back
    visit.until("!mine()")
    with pytest.raises(SlowError):
        visit.until("state.step[0] > 2", within=0.3)
    assert not visit.errors
    visit.close()


def test_a_folder_that_holds_no_run_is_named(tmp_path: Path) -> None:
    from vla_rl.cockpit.command import cockpit

    with pytest.raises(ValueError, match=r"holds no config\.yaml"):
        cockpit([str(tmp_path)])
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        cockpit([str(tmp_path / "missing")])
    with pytest.raises(ValueError, match="name a run's folder"):
        cockpit([])
    with pytest.raises(ValueError, match="every address"):
        cockpit(["pick"], host="0.0.0.0")
    taken: dict[str, Any] = {"words": [f"demos.path={tmp_path}", "gui_click_colour"]}
    with pytest.raises(FileExistsError, match="--append"):
        cockpit(**taken)
