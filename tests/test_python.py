"""What people write: a policy that is loaded and acts, a training with callbacks, environments of their own."""

from __future__ import annotations

import ast
import shutil
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import psutil
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from huggingface_hub import snapshot_download

import vla_rl
from tests.fakes import CAMERA, LINE, Line
from vla_rl import config
from vla_rl.config.policy import PolicySettings
from vla_rl.envs import TokenEnv
from vla_rl.evaluation.episodes import evaluate
from vla_rl.models.policy import Policy
from vla_rl.models.settings import Pretrained
from vla_rl.registry import ConfigError
from vla_rl.replay import EndedEpisode
from vla_rl.rollout import hub
from vla_rl.rollout.actor import Actor
from vla_rl.runtime.callbacks import Callback, Moment
from vla_rl.specs import HELD_OUT_SEEDS, STATE, TASK

ROOT = Path(__file__).resolve().parent.parent
BRIEF = ["train.steps=60", "train.eval_every=0"]


@pytest.fixture(scope="module")
def trained(random_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on the line."""
    folder = tmp_path_factory.mktemp("trained")
    return run(random_backbone, folder, *BRIEF)


def run(backbone: Path, folder: Path, *overrides: str, **named: Any) -> Path:
    """Train on the line for a second; returns the run's folder."""
    vla_rl.train(*settings(backbone, folder, *overrides), **named)
    return folder / "run"


def settings(backbone: Path, folder: Path, *overrides: str) -> list[str]:
    return [
        "experiment=smoke",
        "device=cpu",
        f"policy.backbone={{type: pretrained, source: '{backbone}'}}",
        f"run_dir={folder}/run",
        f"env.id={LINE}",
        "env.sensors=null",
        "plugins=[tests.fakes]",
        "train.workers=0",
        "demos.episodes=0",
        "algorithm.demo_share=0",
        "algorithm.mc_weight=0.5",
        "algorithm.warmup_updates=4",
        "tracker=null",
        *overrides,
    ]


def fresh(backbone: Path, action_space: Any, **given: Any) -> Policy:
    env = Line()
    return Policy.build(
        PolicySettings(Pretrained(source=str(backbone)), **given), action_space.bind(env.action_space), [CAMERA], 1, 0
    )


# --- what is imported -----------------------------------------------------------------------------------------


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import vla_rl; dir(vla_rl); print(set(sys.modules) - before)"
    said = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
    assert {name.split(".")[0] for name in ast.literal_eval(said)} <= {"vla_rl"} | sys.stdlib_module_names


def test_type_checkers_are_told_what_there_is() -> None:
    stub = ast.parse((ROOT / "vla_rl" / "__init__.pyi").read_text())
    told = {alias.asname: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert told == vla_rl._HOMES
    assert set(told) == set(vla_rl.__all__)
    for name in told:
        assert callable(getattr(vla_rl, name)), name
    with pytest.raises(AttributeError, match="trian"):
        _ = vla_rl.trian  # type: ignore[attr-defined]


SAME = """
import vla_rl
from vla_rl import train
from vla_rl.train import train as same
import vla_rl.train as module
assert train is vla_rl.train is module and module.train is same
assert callable(train) and callable(same) and callable(train.loop)
"""


def test_a_module_and_its_function_share_a_name_whatever_was_imported_before() -> None:
    subprocess.run([sys.executable, "-c", SAME], check=True, cwd=ROOT)  # nothing was
    from vla_rl.train import train  # noqa: F401

    exec(SAME, {})


# --- acting ---------------------------------------------------------------------------------------------------


def test_a_run_is_loaded_and_acts_as_evaluation_does(trained: Path) -> None:
    actor, env = vla_rl.load(trained), Line()
    make_env = lambda: TokenEnv(Line(), actor.policy.action_space)  # noqa: E731
    judged = evaluate(Actor(actor.policy), make_env, HELD_OUT_SEEDS[:3])
    for outcome in judged.outcomes:
        actor.reset()
        observation, _ = env.reset(seed=outcome.seed)
        for tokens in outcome.tokens:
            action = actor.act(observation)
            assert env.action_space.contains(action)
            assert np.array_equal(action, actor.policy.action_space.decode(tokens))
            observation, *_ = env.step(action)


def test_a_batch_is_acted_for_as_each_of_it_is(trained: Path) -> None:
    actor, envs = vla_rl.load(trained, best_of=4), SyncVectorEnv([Line] * 3)
    observation, _ = envs.reset(seed=[1, 2, 3])
    actions = actor.act(observation)
    assert actions.shape == envs.action_space.shape
    alone = [{key: value[i] for key, value in observation.items()} for i in range(3)]
    greedy = [actor.act(one, best_of=0) for one in alone]
    assert np.array_equal(np.stack(greedy), actor.act(observation, best_of=0))
    envs.step(actions)


def test_samples_follow_their_seed(trained: Path) -> None:
    actor = vla_rl.load(trained, greedy=False, seed=3)
    observation, _ = SyncVectorEnv([Line] * 16).reset(seed=0)
    first, second = actor.act(observation), actor.act(observation)
    assert not np.array_equal(first, second)
    assert np.array_equal(actor.act(observation, seed=3), first)
    assert np.array_equal(actor.act(observation, greedy=True), actor.act(observation, greedy=True, seed=5))


def test_the_instruction_may_stand_apart(trained: Path) -> None:
    actor = vla_rl.load(trained)
    observation, _ = Line().reset(seed=0)
    words = observation.pop(TASK)
    with pytest.raises(ValueError, match="lacks 'task', the instruction"):
        actor.act(observation)
    assert np.array_equal(actor.act(observation, task=words), actor.act({**observation, TASK: words}))
    batch = {key: value[None] for key, value in observation.items()}
    assert np.array_equal(actor.act(batch, task=words)[0], actor.act(observation, task=words))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({CAMERA: None}, "lacks 'observation.images.front', which the policy sees by"),
        ({CAMERA: np.zeros((8, 8, 3), np.float32)}, "pictures are uint8"),
        ({STATE: np.zeros((2, 1), np.float32)}, r"observation.state: expected \[1, 1\]"),
        ({TASK: ["one", "two"]}, "equally many"),
    ],
)
def test_what_does_not_fit_is_named(trained: Path, change: dict[str, Any], said: str) -> None:
    observation = Line().reset(seed=0)[0] | change
    with pytest.raises(ValueError, match=said):
        vla_rl.load(trained).act({key: value for key, value in observation.items() if value is not None})


def test_a_chunk_is_decided_once_and_carried_out_step_by_step(random_backbone: Path) -> None:
    from vla_rl.actions import Binned, Chunk

    policy = fresh(random_backbone, Chunk(Binned(), 3))
    env, actor, seen = Line(), Actor(policy), list[int]()
    read = policy.trunk.read
    policy.trunk.read = lambda images, *more: (seen.append(len(images[0])), read(images, *more))[1]  # type: ignore
    observation, _ = env.reset(seed=0)
    for step in range(7):
        action = actor.act(observation)
        assert env.action_space.contains(action)
        observation, *_ = env.step(action)
        assert len(seen) == step // 3 + 1
    both = {
        key: [value, value] if isinstance(value, str) else np.stack([value, value])
        for key, value in observation.items()
    }
    actor.act(both)
    actor.act(both, episode_start=[True, False])
    assert seen[-2:] == [2, 1], "only the one that begins anew decides"


def test_frames_and_notes_are_kept_from_step_to_step(random_backbone: Path) -> None:
    from vla_rl.actions import Binned
    from vla_rl.specs import REMEMBERED

    policy = fresh(random_backbone, Binned(), stack=2, remembers=True)
    actor, frames, notes = Actor(policy), list[np.ndarray](), list[Any]()
    before = policy.before

    def spy(observation: dict[str, Any], rows: int) -> Any:
        frames.append(observation[CAMERA][0])
        notes.append(observation.get(REMEMBERED))
        return before(observation, rows)

    policy.before = spy  # type: ignore[assignment]
    env = Line()
    shown = [env.reset(seed=0)[0]]
    for _ in range(2):
        shown.append(env.step(actor.act(shown[-1]))[0])
    actor.act(shown[-1], episode_start=True)
    for frame, pair in zip(frames, [(0, 0), (0, 1), (2, 2)], strict=True):
        assert np.array_equal(frame, [shown[i][CAMERA] for i in pair])
    assert notes[0] is None
    assert notes[1] is not None
    assert notes[2] is None


# --- the hub --------------------------------------------------------------------------------------------------


def test_a_policy_of_the_hub_is_loaded_by_its_id(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = trained / "checkpoints" / "last" / "pretrained_model"
    repository = tmp_path / "models--someone--reaches"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0123abc")
    (repository / "blobs").mkdir()
    for number, file in enumerate(file for file in saved.rglob("*") if file.is_file()):
        # The cache keeps each file once, and a snapshot is links to them.
        link = repository / "snapshots" / "0123abc" / file.relative_to(saved)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(shutil.copy(file, repository / "blobs" / str(number)))
    monkeypatch.setattr(hub, "snapshot_download", partial(snapshot_download, cache_dir=tmp_path))
    observation, _ = Line().reset(seed=0)
    real = Actor(Policy.from_pretrained(saved))
    assert np.array_equal(vla_rl.load("someone/reaches").act(observation), real.act(observation))


def test_without_the_hub_the_error_says_what_to_do() -> None:
    with pytest.raises(FileNotFoundError, match="nobody/has-this: no such folder here, and the hub cannot be asked"):
        vla_rl.load("nobody/has-this")
    with pytest.raises(FileNotFoundError, match="no checkpoint in outputs/nobody/has/this"):
        vla_rl.load("outputs/nobody/has/this")


# --- training -------------------------------------------------------------------------------------------------


class Diary(Callback):
    """Writes down what it hears, and ends the training at a step."""

    def __init__(self, until: int = 10**9) -> None:
        self.until, self.steps, self.episodes, self.evals = until, list[int](), list[EndedEpisode](), list[Any]()

    def on_step(self, now: Moment) -> bool:
        self.steps.append(now.step)
        return now.step < self.until

    def on_episode(self, now: Moment, episode: EndedEpisode) -> None:
        assert (now.folder / "config.yaml").is_file()
        self.episodes.append(episode)

    def on_eval(self, now: Moment, metrics: Any) -> None:
        self.evals.append(metrics["eval/pc_success"])


def test_callbacks_hear_of_steps_episodes_and_validations(random_backbone: Path, tmp_path: Path) -> None:
    diary = Diary()
    brief = ["train.steps=96", "train.eval_every=48", "train.eval_episodes=2"]
    folder = run(random_backbone, tmp_path, *brief, callbacks=[diary])
    assert diary.steps == sorted(diary.steps)
    assert diary.steps[-1] >= 96
    assert len(diary.evals) == 2
    assert diary.episodes
    assert all(each.success == (each.reward.sum() > 0) for each in diary.episodes)
    heard = len(diary.episodes)
    vla_rl.train("resume=true", f"run_dir={folder}", "plugins=[tests.fakes]", "train.steps=97", callbacks=[diary])
    assert len(diary.episodes) - heard < heard, "those of before are not told again"


def test_a_callback_ends_a_training_as_its_last_step_does(random_backbone: Path, tmp_path: Path) -> None:
    diary = Diary(until=40)
    folder = run(random_backbone, tmp_path, "train.steps=10000", "train.eval_every=0", callbacks=[diary])
    assert 40 <= int((folder / "checkpoints" / "last").resolve().name) < 80
    assert vla_rl.load(folder)


def test_what_a_callback_raises_ends_the_run_with_a_checkpoint(random_backbone: Path, tmp_path: Path) -> None:
    class Breaks(Callback):
        def on_step(self, now: Moment) -> None:
            if now.step >= 16:
                raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough") as caught:
        run(random_backbone, tmp_path, *BRIEF, callbacks=[Breaks()])
    assert "a checkpoint of step" in caught.value.__notes__[0]


@pytest.mark.parametrize("known", [False, True])
def test_vector_environments_of_ones_own_are_taken_as_they_are(
    known: bool, random_backbone: Path, tmp_path: Path
) -> None:
    envs = gymnasium.make_vec(LINE, num_envs=3, vectorization_mode="sync") if known else SyncVectorEnv([Line] * 3)
    diary = Diary()
    eval_every = ["train.eval_every=40", "train.eval_episodes=2"] if known else ["train.eval_every=0"]
    folder = run(random_backbone, tmp_path, "train.steps=90", *eval_every, envs=envs, callbacks=[diary])
    assert len(diary.evals) == (2 if known else 0)
    assert any(each.success for each in diary.episodes)
    assert all(len(each) <= 12 for each in diary.episodes)
    envs.reset()  # they are still open
    envs.close()
    result = vla_rl.evaluate(folder, env=Line, episodes=4)
    assert len(result.valid) == 4


def test_vector_environments_that_cannot_be_taken_are_refused(random_backbone: Path, tmp_path: Path) -> None:
    same = SyncVectorEnv([Line] * 2, autoreset_mode=AutoresetMode.SAME_STEP)
    with pytest.raises(ConfigError, match="autoreset_mode is SAME_STEP"):
        run(random_backbone, tmp_path, *BRIEF, envs=same)
    with pytest.raises(ConfigError, match=r"train\.eval_every: .*vla_rl\.evaluate"):
        run(random_backbone, tmp_path, "train.eval_every=5", envs=SyncVectorEnv([Line] * 2))
    numbers = gymnasium.make_vec("CartPole-v1", num_envs=2)
    with pytest.raises(ConfigError, match="envs: expected a Dict observation space"):
        run(random_backbone, tmp_path, *BRIEF, "action_space=choice", envs=numbers)


# --- environments and evaluation ------------------------------------------------------------------------------


def test_an_environment_by_its_name() -> None:
    env = vla_rl.make_env("reach", "env.kwargs.horizon=3")
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert [env.step(env.action_space.sample())[3] for _ in range(3)] == [False, False, True]
    env.close()
    with pytest.raises(ConfigError, match="no environment 'raech'; did you mean 'reach'"):
        vla_rl.make_env("raech")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ((), "env.sensors=null for an environment that shows its own observations"),
        (("env.sensors=null", "action_space=choice"), "choice needs .*; for a Box there is action_space.type=binned"),
        (("env.sensors=null", "action_space={type: 'tests.own_parts:Stride'}"), "did you mean 'Strides'"),
        (("env.sensors=null", "action_space={type: 'somewhere:Else'}"), r"plugins=\[tests.fakes,somewhere\] lets it"),
    ],
)
def test_what_a_newcomer_gets_wrong_is_answered_with_what_to_write(overrides: tuple[str, ...], said: str) -> None:
    plugins = "tests.fakes,tests.own_parts" if "own_parts" in str(overrides) else "tests.fakes"
    with pytest.raises(ConfigError, match=said):
        vla_rl.record(f"env.id={LINE}", f"plugins=[{plugins}]", "env.kwargs={}", *overrides)


def test_a_checkpoint_is_evaluated(trained: Path, tmp_path: Path) -> None:
    given = ["plugins=[tests.fakes]", "eval.episodes=3", "eval.videos=0", f"run_dir={tmp_path}/eval"]
    result = vla_rl.evaluate(trained, *given)
    assert len(result.valid) == 3
    assert (tmp_path / "eval" / "report.html").is_file()
    own = vla_rl.evaluate(vla_rl.load(trained), env=Line, episodes=3)
    assert [each.success for each in own.outcomes] == [each.success for each in result.outcomes]
    with pytest.raises(ConfigError, match="give env="):
        vla_rl.evaluate(vla_rl.load(trained))


def test_a_config_takes_no_overrides(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train: overrides \['seed=3'\] of a RunConfig"):
        vla_rl.train(config.load([]), "seed=3")


# --- notebooks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("main", [True, False])
def test_nothing_is_left_behind_in_a_notebook(main: bool, random_backbone: Path, tmp_path: Path) -> None:
    """A notebook's cells run in the main thread of a process that lives on; others' code runs in threads of theirs."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}
    processes, threads = _children(), threading.active_count()
    during = list[Any]()

    class Looks(Callback):
        def on_step(self, now: Moment) -> None:
            during.append((signal.getsignal(signal.SIGINT), len(_children() - processes)))

    def cell() -> None:
        run(random_backbone, tmp_path, *BRIEF, "train.workers=1", callbacks=[Looks()])

    if main:
        cell()
    else:
        thread = threading.Thread(target=cell)
        thread.start()
        thread.join()
    assert {workers for _, workers in during} == {1}
    assert {handler is before[signal.SIGINT] for handler, _ in during} == {not main}
    assert {number: signal.getsignal(number) for number in numbers} == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert _children() == processes
    assert threading.active_count() == threads
    assert (tmp_path / "run" / "checkpoints" / "last").exists()


def _children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}
