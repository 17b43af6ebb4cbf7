"""A person plays: by lines, and in a real window on a screen of its own; what is kept trains."""

from __future__ import annotations

import io
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from PIL import Image

import sims  # noqa: F401  (registers the environments)
from tests import fakes
from tests.play.players import say, window
from vla_rl import cli, config
from vla_rl.data import demos, files
from vla_rl.play.session import SIDE, Session
from vla_rl.registry import ConfigError
from vla_rl.sft import sft
from vla_rl.specs import HELD_OUT_SEEDS, STATE


class Steps(fakes.Line):
    """The line, walked by three choices: 5 goes left, 6 stays, 7 goes right."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = gymnasium.spaces.Discrete(3, start=5)

    def step(self, action: np.ndarray) -> tuple:
        return super().step(np.asarray([int(action) - 6], np.float32))


def far_right() -> int:
    """A seed of the line that starts four steps to the right of the middle."""
    env = fakes.Line()
    for seed in range(100):
        env.reset(seed=seed)
        if env.place > 0.92:
            return seed
    raise AssertionError


def test_demonstrations_by_lines_train(
    quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    told = "x 0.5 z -1\nright 2\nnonsense\nexpert 30\nsave\nexpert 30\nsave\nexpert 2\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(told))
    assert cli.main(["play", "reach", "--lines", f"demos.path={tmp_path}/demos"]) == 0
    out = capsys.readouterr().out
    assert "2 episode(s) kept" in out
    assert "? cannot read 'nonsense'" in out
    read = demos.load(tmp_path / "demos")
    assert [episode.seed for episode in read] == [0, 1]
    first = next(iter(read))
    np.testing.assert_allclose(first.action[:3], [[0.5, 0, -1], [1, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(first.action, first.label)
    assert first.reward[-1] == 1
    assert (sft(config.load(quick, command="sft")) / "pretrained_model" / "config.json").is_file()


def test_what_is_there_is_refused_or_added_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["play", fakes.LINE, "--lines", f"demos.path={tmp_path}/demos", f"run_dir={tmp_path}/run"]
    for flags, episodes in (([], 1), (["--append"], 2)):
        monkeypatch.setattr("sys.stdin", io.StringIO("expert 12\nsave\n"))
        assert cli.main(command + flags) == 0
        assert [episode.seed for episode in demos.load(tmp_path / "demos")] == list(range(episodes))
    assert cli.main(command) == cli.USER_ERROR


def test_each_kept_episode_is_on_disk_at_once(tmp_path: Path) -> None:
    session = Session(fakes.Line(), tmp_path / "demos")
    for kept in (1, 2):
        say(session, tmp_path, "expert 12", "save")
        assert len(demos.load(tmp_path / "demos")) == kept


def test_only_successes_are_kept(tmp_path: Path) -> None:
    session = Session(fakes.Stuck(), tmp_path / "demos")
    answers = say(session, tmp_path, "save", "expert 20", "save", "expert", "drop")
    assert answers[0].startswith("? the episode is not over")
    assert answers[1].endswith("step 12, reward 0: over, without success")
    assert answers[2].startswith("? the episode ended without success")
    assert answers[3].startswith("? the episode is over")
    assert answers[4] == "dropped 12 step(s)"
    assert not (tmp_path / "demos").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("x", "x: give a value, such as `x 0`"),
        ("x far", "x: 'far' is no number"),
        ("x nan", "x: 'nan' is no number"),
        ("x 1.5", "x: 1.5 is not in [-1, 1]"),
        ("x 0.5 z -2", "z: -2 is not in [-1, 1]"),
        ("x 1 x 1", "x: given twice"),
        ("x 1 0", "'0': expected the number of steps, from 1 to 1000"),
        ("x 1 2.5", "expected the number of steps"),
        ("fingres 1", "cannot read 'fingres'; did you mean 'fingers'?"),
        ("lefty", "cannot read 'lefty'; did you mean 'left'?"),
        ("left many", "expected the number of steps"),
        ("expert -1", "expected the number of steps"),
        ("save it", "save: takes nothing more, got 'it'"),
        ("quit now", "quit: takes nothing more, got 'now'"),
        ("\x00 \u202e", "cannot read"),
    ],
)
def test_a_bad_line_is_answered_and_changes_nothing(line: str, message: str, tmp_path: Path) -> None:
    env = gymnasium.make("vla_rl/Pick-v0")
    session = Session(env, tmp_path / "demos")
    before = env.unwrapped.world.data.qpos.copy()
    answers = say(session, tmp_path, line)
    assert len(answers) == 1
    assert answers[0].startswith("? ")
    assert message in answers[0]
    assert len(session.tape) == 0
    np.testing.assert_array_equal(env.unwrapped.world.data.qpos, before)
    assert session.controls.value("fingers") == 1


def test_the_fingers_stay_and_the_rest_goes_back(tmp_path: Path) -> None:
    session = Session(gymnasium.make("vla_rl/Pick-v0"), tmp_path / "demos")
    say(session, tmp_path, "x 0.5", "fingers -1 y 1", "", "up 2", "wait 2", "open")
    actions = session.tape.episode().action
    np.testing.assert_array_equal(actions[:, 4], [1, -1, -1, -1, -1, -1, -1, 1])
    np.testing.assert_array_equal(actions[:, :3].sum(1), [0.5, 1, 0, 1, 1, 0, 0, 0])


def test_entries_that_name_a_place_stay(tmp_path: Path) -> None:
    control = {"type": "end_effector", "relative": False}
    session = Session(gymnasium.make("vla_rl/Pick-v0", control=control), tmp_path / "demos")
    say(session, tmp_path, "x 0.5 z -0.2", "y 0.1")
    np.testing.assert_allclose(session.tape.episode().action[1], [0.5, 0.1, -0.2, 0, 1])


def test_the_experts_fingers_are_taken_over(tmp_path: Path) -> None:
    session = Session(gymnasium.make("vla_rl/Pick-v0"), tmp_path / "demos")
    say(session, tmp_path, "expert 11")
    grip = session.tape.episode().action[-1, 4]
    say(session, tmp_path, "wait")
    assert session.tape.episode().action[-1, 4] == grip


def test_choices_are_numbers(tmp_path: Path) -> None:
    session = Session(Steps(), tmp_path / "demos", far_right())
    answers = say(session, tmp_path, "5 2", "4", "8", "x 1", "left", "6.5", "", "7")
    assert len(session.tape) == 3
    assert [answer[0] for answer in answers] == ["e", "?", "?", "?", "?", "?", "?", "e"]
    assert "choices go from 5 to 7" in answers[1]
    assert session.tape.episode().action.tolist() == [5, 5, 7]


def test_entries_without_names_are_numbered_and_help_lists_everything(tmp_path: Path) -> None:
    session = Session(fakes.Wild(), tmp_path / "demos")
    answers = say(session, tmp_path, "help", "a0 1", "expert")
    assert "there are: a0" in answers[0]
    assert not any("expert" in line for line in answers[:-1])
    assert answers[-1].startswith("? Wild: it has no scripted expert")
    assert {line.split()[0] for line in answers[:-2]} >= {"a0", "wait", "show", "save", "drop", "quit"}


def test_show_draws_every_camera_large(tmp_path: Path) -> None:
    sensors = [{"type": "camera", "name": "front"}, {"type": "camera", "name": "side"}, "instruction"]
    session = Session(gymnasium.make("vla_rl/Reach-v0", sensors=sensors), tmp_path / "demos")
    path = Path(say(session, tmp_path, "show")[0])
    with Image.open(path) as picture:
        assert picture.size == (2 * SIDE, SIDE)
        large = np.asarray(picture)
    enlarged = np.repeat(np.repeat(large[::6, :SIDE:6], 6, 0), 6, 1)
    assert not np.array_equal(large[:, :SIDE], enlarged)  # it was drawn anew
    assert Session(fakes.Line(), tmp_path / "demos").picture().size == (SIDE, SIDE)


@pytest.mark.parametrize(
    ("env_id", "kwargs", "message"),
    [
        ("CartPole-v1", {}, "nothing could train on it"),
        ("vla_rl/Pick-v0", {"tools": ["close_up"]}, "where an action is a Box, Discrete or Commands"),
    ],
)
def test_what_cannot_be_played_or_recorded_is_refused(env_id: str, kwargs: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        Session(gymnasium.make(env_id, **kwargs), tmp_path)


def test_held_out_seeds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="for evaluation"):
        Session(fakes.Line(), tmp_path, HELD_OUT_SEEDS.start)


def test_demonstrations_of_something_else_are_not_added_to(tmp_path: Path) -> None:
    recorded = demos.demonstrate(fakes.Line(), 1)
    files.save(recorded, tmp_path / "demos")
    with pytest.raises(demos.DemonstrationError, match=r"holds demonstrations of Line .* not of Steps"):
        say(Session(Steps(), tmp_path / "demos", far_right()), tmp_path, "5 4", "save")
    wider = demos.demonstrate(fakes.Line(width=16), 1)
    with pytest.raises(demos.DemonstrationError, match="front"):
        files.append(wider, tmp_path / "demos")
    assert len(files.load(tmp_path / "demos")) == 1


def test_a_crash_while_adding_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = demos.demonstrate(fakes.Line(), 2)
    files.save(recorded, tmp_path / "demos")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("_write_meta", "_arrays"):
        with monkeypatch.context() as patch:
            patch.setattr(files, name, full)
            with pytest.raises(OSError, match="No space"):
                files.append(recorded, tmp_path / "demos")
        assert len(files.load(tmp_path / "demos")) == 2
    files.append(recorded, tmp_path / "demos")
    np.testing.assert_array_equal(
        [episode.observations[STATE][0] for episode in files.load(tmp_path / "demos")],
        [episode.observations[STATE][0] for episode in (*recorded, *recorded)],
    )


def test_without_a_screen_it_goes_by_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tkinter")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO("expert\n"))
    assert cli.main(["play", fakes.LINE, f"demos.path={tmp_path}/demos", f"run_dir={tmp_path}/run"]) == 0
    out = capsys.readouterr().out
    assert "no window: there is no screen" in out
    assert "0 episode(s) kept" in out


def test_keys_and_mouse_act_and_what_is_kept_is_recorded(screen: None, tmp_path: Path) -> None:
    session = Session(gymnasium.make("vla_rl/Pick-v0"), tmp_path / "demos")
    made, press = window(session)
    assert made.root.title() == session.tape.task
    press("<Left>", "<Up>", "<w>", "<Next>", "<q>", "<space>", "<Key-1>", "<plus>", "<Button-4>")
    press("<Button-1>", rootx=100, rooty=100)
    press("<B1-Motion>", rootx=120, rooty=90)
    np.testing.assert_allclose(
        session.tape.episode().action,
        [
            *([-1, 0, 0, 0, 1], [0, 1, 0, 0, 1], [0, 0, 1, 0, 1], [0, 0, -1, 0, 1], [0, 0, 0, 1, 1]),
            *([0, 0, 0, 0, -1], [1, 0, 0, 0, -1], [0, 0, 1, 0, -1], [0.5, 0.25, 0, 0, -1]),
        ],
    )
    press("<Return>")
    assert "not over" in made.status["text"]
    press(*["<h>"] * 40)
    assert "SUCCESS" in made.status["text"]
    press("<Return>", "<Left>", "<BackSpace>")
    assert "dropped 1 step(s)" in made.status["text"]
    assert made.root.title() == session.tape.task
    press("<Escape>")
    assert [episode.seed for episode in demos.load(tmp_path / "demos")] == [0]


def test_what_breaks_closes_the_window_and_is_raised(screen: None, tmp_path: Path) -> None:
    session = Session(fakes.Line(), tmp_path / "demos")
    made, press = window(session)
    press(*["<h>"] * 12)
    (tmp_path / "demos").write_text("in the way")
    press("<Return>")
    with pytest.raises(demos.DemonstrationError, match="demos"):
        made.run()


def test_digits_choose_where_actions_are_choices(screen: None, tmp_path: Path) -> None:
    session = Session(Steps(), tmp_path / "demos", far_right())
    made, press = window(session)
    press("<Key-5>", "<Key-9>", "<Left>", "<space>")
    assert session.tape.episode().action.tolist() == [5]
    assert "'fingers'" in made.status["text"]
    press("<Escape>")
