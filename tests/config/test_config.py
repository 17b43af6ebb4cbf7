"""A run's config: composed, checked with the full path, saved, and read back."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from vla_rl import build, config, paths, registry
from vla_rl.config import RunConfig
from vla_rl.registry import ConfigError


def refusal(*overrides: str, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        config.load(overrides, **options)
    return str(caught.value)


def keys(values: Any, prefix: str = "") -> set[str]:
    if not isinstance(values, dict):
        return {prefix.rstrip(".")}
    return {prefix.rstrip(".")}.union(*(keys(value, f"{prefix}{key}.") for key, value in values.items()))


def test_the_shipped_config_lists_every_key() -> None:
    run = config.load()
    shipped = OmegaConf.to_container(OmegaConf.load(paths.shipped("configs") / "config.yaml"))
    assert isinstance(shipped, dict)
    groups = {"defaults", "env", "policy", "algorithm"}
    assert set(shipped) | groups == set(RunConfig.model_fields) | {"defaults"}
    for part in set(RunConfig.model_fields) - groups - {"action_space"}:
        assert keys(run.model_dump(mode="json")[part]) == keys(shipped[part])


@pytest.mark.parametrize("group", ["env", "policy", "algorithm", "experiment", "distributed"])
def test_every_shipped_file_of_a_group_makes_a_run(group: str) -> None:
    files = sorted((paths.shipped("configs") / group).glob("[!_]*.yaml"))
    assert files
    for file in files:
        assert config.load([f"{group}={file.stem}"])


def test_overrides_are_typed_and_the_last_one_counts() -> None:
    run = config.load(["train.steps=7", "sft.lr=1e-4", "train.steps=8", "plugins=[json]", "+env.kwargs.a=[1,{b: 2}]"])
    assert (run.train.steps, run.sft.lr, run.plugins) == (8, 1e-4, ["json"])
    assert run.env.kwargs["a"] == [1, {"b": 2}]


def test_a_component_in_an_override_takes_the_others_place_whole() -> None:
    run = config.load(["action_space.bins=5", "action_space={type: chunk, horizon: 2, inner: {type: binned}}"])
    assert registry.describe(run.action_space, "action_spaces")["inner"]["bins"] == 11
    assert config.load(["env.sensors.0.width=32"]).env.sensors[0]["width"] == 32  # type: ignore[index]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trian.steps=3", "trian: unknown key (got {'steps': 3}); did you mean 'train'?"),
        ("train.stepz=3", "train.stepz: unknown key (got 3); did you mean 'steps'?"),
        ("batch_size=3", "batch_size: unknown key (got 3); did you mean 'sft.batch_size'?"),
        ("train.steps=-1", "train.steps: Input should be greater than 0 (got -1)"),
        ("train.steps=1.5", "train.steps: Input should be a valid integer"),
        ("train.steps=1e6", "train.steps: a whole number is needed; write 1000000 (got 1000000.0)"),
        ("sft.lr='1e-4'", "sft.lr: a number is needed, and '1e-4' is text; write 0.0001 without quotes (got '1e-4')"),
        ("sft.lr=nan", "sft.lr: Input should be a finite number"),
        ("seed=true", "seed: Input should be a valid integer (got True)"),
        ("train=5", "train: Input should be an object (got 5)"),
        ("device=gpu", "device: Input should be 'auto', 'cpu' or 'cuda' (got 'gpu')"),
        ("plugins=[a,3]", "plugins[1]: Input should be a valid string (got 3)"),
        ("policy=null", "policy: null, but every run needs one; known: smollm, smolvlm, tiny"),
        ("env=puhs", "env: no config file 'puhs'; did you mean 'push'?"),
        ("env.sensors.0.widht=3", "env.sensors[0].widht: unknown key; did you mean 'width'?"),
        ("env.sensors.0.width=3.5", "env.sensors[0].width: Input should be a valid integer (got 3.5)"),
        (
            "env.sensors=[{type: camra}]",
            "env.sensors[0].type: unknown name 'camra' among sensors; did you",
        ),
        ("env.sensors=[camera]", "env.sensors[0]: Input should be an object (got 'camera')"),
        ("env.sensors.9.width=3", "env.sensors.9.width: cannot be set to 3"),
        ("action_space.binz=3", "action_space.binz: unknown key; did you mean 'bins'?"),
        ("action_space={type: 'os:system'}", "action_space.type: 'os:system' lies in module 'os', which the run's"),
        ("algorithm.gama=1", "algorithm.gama: unknown key; did you mean 'gamma'?"),
        ("algorithm.gamma=3", "algorithm: gamma must lie in [0, 1], got 3.0"),
        ("policy.head.widht=3", "policy.head.widht: unknown key; did you mean 'width'?"),
        (
            "policy.backbone.type=tinny",
            "policy.backbone.type: unknown name 'tinny' among backbones; did you",
        ),
        ("policy.train=heads", "policy.train: Input should be 'head', 'lora' or 'all' (got 'heads')"),
        ("train.rehearsal={type: drawm}", "train.rehearsal.type: unknown name 'drawm' among rehearsals; did you mean"),
        ("seed=${train.stepz}", "seed: Interpolation key 'train.stepz' not found"),
        ("seed=???", "seed: Missing mandatory value: seed"),
        ("run_dir=", "run_dir: 'run_dir=' gives no value; write run_dir=null for none"),
        ("=5", "cannot read '=5': the key is empty"),
        ("train.=5", "cannot read 'train.=5': expected key=value"),
        ("train.steps 5", "cannot read 'train.steps 5': expected key=value"),
        ("train.steps=10=0", "train.steps: Input should be a valid integer (got '10=0')"),
        ("plugins=[tür]", "plugins: cannot read '[tür]'; in a list or a mapping, a text that is not made of"),
        ("env.kwargs.text=a, b", "env.kwargs.text: one value a run; got 'env.kwargs.text=a, b' (a list is written"),
        ("demos.path=a${b", "demos.path: cannot be set to 'a${b': no viable alternative at input '${b'; `${key}`"),
        ("demos.path=a\udce4", "cannot read 'demos.path=a\\udce4': it is no UTF-8"),
        ("~env.kwargs", "env.kwargs: keys cannot be deleted"),
        ("seed=1,2", "seed: one value a run; got 'seed=1,2'"),
        ("resume=true", "resume: give run_dir=FOLDER too"),
    ],
)
def test_a_wrong_override_is_refused_with_path_value_and_nearest(override: str, message: str) -> None:
    said = refusal(override)
    assert said.startswith(message)
    assert "\n" not in said


TYPED = (
    "2026_11_28", "1e5", "007", "true", "nan", "a=b", "a b", "it's", "Tür (1) #2", "#1", "a, b", "[a]", "{a: 3}",
    "str(3)", "桌子", "C:\\", "a~",
)  # fmt: skip


def anchored(run: RunConfig) -> RunConfig:
    """The run as its saved config tells it: with paths that do not depend on the folder that one works in."""
    paths = {"demos": ("path", run.demos.path), "train": ("checkpoint", run.train.checkpoint)}
    whole = {part: {name: Path(os.path.abspath(path))} for part, (name, path) in paths.items() if path is not None}
    return run.model_copy(update={part: getattr(run, part).model_copy(update=told) for part, told in whole.items()})


@pytest.mark.parametrize("typed", TYPED)
def test_a_text_or_path_of_an_override_is_what_was_typed(typed: str, tmp_path: Path) -> None:
    keys = ("run_dir", "demos.path", "train.checkpoint", "tracker")
    run = config.load([f"{key}={typed}" for key in keys])
    assert (str(run.run_dir), str(run.demos.path), str(run.train.checkpoint), run.tracker) == (typed,) * 4
    assert config.load([f"run_dir={typed}"], base=run.save(tmp_path)) == anchored(run)


def test_a_component_takes_texts_as_they_were_typed() -> None:
    run = config.load(["env=fetch_reach", "env.adapter.name=2026_11", "env.sensors.0.width=3_2"])
    assert run.env.name == "2026_11"
    assert run.env.sensors is not None
    assert run.env.sensors[0]["width"] == 32


@pytest.mark.parametrize("typed", ["Tür", "pick (red)", "a=b", "#1", "~x", "it's", "(a)"])
def test_what_hydra_cannot_read_is_a_text(typed: str) -> None:
    assert config.load([f"+env.kwargs.text={typed}"]).env.kwargs == {"text": typed}


def test_a_path_may_begin_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert config.load(["run_dir=~/runs/1"]).run_dir == Path("/home/me/runs/1")


def test_a_run_is_found_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config.load(["train.steps=50"]).save(tmp_path / "1")
    assert config.load(["resume=true", "run_dir=~/1"]).train.steps == 50


@pytest.mark.parametrize("text", ["${x}", "\\${x}", "a\\\\${x} ${y", "${oc.env:HOME}", "\\", "$"])
def test_a_text_like_an_interpolation_comes_back_from_the_saved_config(text: str, tmp_path: Path) -> None:
    run = config.load()
    run = run.model_copy(update={"env": run.env.model_copy(update={"kwargs": {"text": [text]}})})
    assert config.load([f"run_dir={run.run_dir}"], base=run.save(tmp_path)).env.kwargs == {"text": [text]}


def test_an_escaped_interpolation_is_saved_such_that_it_loads_again(tmp_path: Path) -> None:
    run = config.load(["env.kwargs.text=\\${x}", "run_dir=a\\${x}"])
    assert (run.env.kwargs, run.run_dir) == ({"text": "${x}"}, Path("a${x}"))
    assert config.load(["run_dir=a\\${x}"], base=run.save(tmp_path)) == run


def test_two_runs_of_one_second_get_two_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda form: "now")
    assert len({config.load().run_dir for _ in range(3)}) == 3


def test_an_experiments_algorithm_gives_way_to_another_one() -> None:
    with pytest.warns(UserWarning, match="algorithm=awac: has no temperature, which experiment=reach sets"):
        run = config.load(["experiment=reach", "algorithm=awac"])
    chosen = registry.describe(run.algorithm, "algorithms")
    assert (chosen["type"], chosen["backup"], chosen["mc_weight"], chosen["critic_width"]) == ("awac", "mean", 1.0, 128)
    with pytest.warns(UserWarning, match="left out"):
        assert "algorithm.temperature: unknown key" in refusal(
            "experiment=reach", "algorithm=awac", "algorithm.temperature=1"
        )


def test_an_experiments_backbone_gives_way_to_another_one_and_sees_at_its_own_size() -> None:
    with pytest.warns(
        UserWarning, match=r"policy=smolvlm: has no backbone\.image_size=96, head\.reads=.*experiment=gui"
    ):
        run = config.load(["experiment=gui", "policy=smolvlm"])
    alone = config.load(["policy=smolvlm"])
    assert run.policy.backbone == alone.policy.backbone
    assert run.policy.head["reads"] == ["pointers", "tokens"]
    assert config.load(["experiment=gui", "policy=tiny"]).policy.backbone["image_size"] == 96
    with pytest.warns(UserWarning, match="left out"):
        typed = config.load(["experiment=gui", "policy=smolvlm", "policy.backbone.image_size=256"])
    assert typed.policy.backbone["image_size"] == 256


def test_what_the_command_line_names_is_known() -> None:
    run = config.load(["policy=smolvlm", "seed=3", "policy.lora={rank: 4}"])
    assert run.given == {"policy", "seed", "policy.lora", "policy.lora.rank"}
    assert config.load().given == frozenset()


def test_no_experiment_is_the_default_and_undoes_an_earlier_one() -> None:
    without = config.load()
    for overrides in (["experiment=null"], ["experiment=push", "experiment=null"]):
        run = config.load(overrides)
        assert run.model_copy(update={"run_dir": without.run_dir}) == without
    assert config.load(["experiment=null", "experiment=push"]).env.name == "push"


def test_more_than_one_problem_is_counted() -> None:
    assert refusal("train.steps=0", "seed=-1", "sft.lr=0").endswith("(and 2 more)")


def test_a_config_cannot_be_changed() -> None:
    run = config.load()
    with pytest.raises(ValueError, match="frozen"):
        run.train.steps = 3  # type: ignore[misc]


def test_folders_are_named_by_command_date_env_and_policy() -> None:
    run = config.load(["env=push"], command="sft")
    assert run.run_dir is not None
    assert run.run_dir.parts[:2] == ("outputs", "sft")
    assert run.run_dir.name.endswith("_push_tiny")
    assert run.demos.folder == Path("outputs/demos/push")


def test_several_processes_must_be_told_their_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert refusal().startswith("run_dir: null; give it where several processes work together")
    assert config.load(["run_dir=here"]).run_dir == Path("here")


def test_a_saved_config_is_the_same_run(tmp_path: Path) -> None:
    run = config.load(
        ["train.minutes=1.5", "action_space={type: chunk, horizon: 2, inner: {type: binned}}", "sft.lr=1e-7"]
    )
    file = run.save(tmp_path)
    assert file == tmp_path / "config.yaml"
    again = config.load([f"run_dir={run.run_dir}"], base=file)
    assert again == anchored(run)


class TestUsersFolder:
    """`--config-dir`: the user's own groups, beside the shipped ones."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "it's mine" / "env").mkdir(parents=True)
        return tmp_path / "it's mine"

    def test_its_files_can_be_chosen(self, folder: Path) -> None:
        (folder / "env" / "mine.yaml").write_text("id: me/Own-v0\nsensors: null\nkwargs: {}\n")
        run = config.load(["env=mine"], config_dir=folder)
        assert (run.env.name, run.env.sensors) == ("own", None)
        assert config.load(["env=push"], config_dir=folder).env.name == "push"

    def test_an_env_file_may_bring_its_action_space(self, folder: Path) -> None:
        text = "# @package _global_\nenv: {id: me/Own-v0, sensors: null, kwargs: {}}\naction_space: {type: choice}\n"
        (folder / "env" / "mine.yaml").write_text(text)
        run = config.load(["env=mine"], config_dir=folder)
        assert registry.describe(run.action_space, "action_spaces")["type"] == "choice"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("id: a\nid: b\n", "found duplicate key id"),
            ("id: a\nsensors: null\nkwargs: {}\nsteps: 3\n", "env.steps: unknown key"),
            ("id: a\nsensors: null\nkwargs: {}\nnull: 3\n", "env=mine: a key is empty"),
            ('id: a\nsensors: null\nkwargs: {}\n"": 3\n', "env.: unknown key"),
            ("id: a\nsensors: null\n", "env.kwargs: missing"),
            ("id: [a\n", "while parsing"),
        ],
    )
    def test_a_faulty_file_is_refused(self, folder: Path, text: str, message: str) -> None:
        (folder / "env" / "mine.yaml").write_text(text)
        assert message in refusal("env=mine", config_dir=folder)

    def test_a_folder_that_is_not_there_is_refused(self, tmp_path: Path) -> None:
        assert "is not a folder" in refusal(config_dir=tmp_path / "none")


class TestResume:
    """`resume=true run_dir=FOLDER` goes on with the saved config."""

    @pytest.fixture
    def saved(self, tmp_path: Path) -> RunConfig:
        run = config.load([f"run_dir={tmp_path / 'run'}", "train.steps=50", "env=push"])
        run.save(tmp_path / "run")
        return run

    def test_it_is_the_saved_run_with_the_commands_values(self, saved: RunConfig) -> None:
        run = config.load(["resume=true", f"run_dir={saved.run_dir}", "train.minutes=2"])
        assert run.resume
        assert (run.env.name, run.train.steps, run.train.minutes) == ("push", 50, 2.0)
        assert run.run_dir == saved.run_dir

    def test_what_an_older_version_did_not_save_is_as_now_shipped_and_named(self, saved: RunConfig) -> None:
        file = Path(str(saved.run_dir)) / "config.yaml"
        tree = OmegaConf.load(file)
        for section, key in (("train", "step_timeout"), ("eval", "workers")):
            del tree[section][key]
        OmegaConf.save(tree, file)
        with pytest.warns(UserWarning, match=r"of an older version; .* train\.step_timeout=.*eval\.workers="):
            run = config.load(["resume=true", f"run_dir={saved.run_dir}"])
        assert run.train.step_timeout == saved.train.step_timeout
        assert run.eval.workers == saved.eval.workers

    def test_a_command_that_chooses_a_group_composes_afresh(self, saved: RunConfig) -> None:
        run = config.load(["resume=true", f"run_dir={saved.run_dir}", "env=reach"])
        assert (run.env.name, run.train.steps) == ("reach", config.load().train.steps)

    def test_a_folder_without_a_run_is_refused(self, tmp_path: Path) -> None:
        assert "holds no config.yaml" in refusal("resume=true", f"run_dir={tmp_path}")

    def test_a_saved_config_cannot_widen_what_may_be_imported(
        self, saved: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert saved.run_dir is not None
        canary = tmp_path / "canary"
        (tmp_path / "evil.py").write_text(f"open({str(canary)!r}, 'w').close()")
        monkeypatch.syspath_prepend(tmp_path)
        saved.model_copy(update={"plugins": ["evil"]}).save(saved.run_dir)
        arguments = ("resume=true", f"run_dir={saved.run_dir}")
        assert "needs the modules ['evil']; give plugins=[evil]" in refusal(*arguments)
        assert not canary.exists()
        assert config.load([*arguments, "plugins=[evil]"]).plugins == ["evil"]

    def test_a_damaged_file_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "config.yaml").write_text("seed: [1\n")
        assert refusal("resume=true", f"run_dir={tmp_path}").startswith(str(tmp_path / "config.yaml"))

    def test_eval_starts_from_the_config_of_the_checkpoints_run(self, saved: RunConfig) -> None:
        assert saved.run_dir is not None
        policy = saved.run_dir / "checkpoints" / "000050" / "pretrained_model"
        policy.mkdir(parents=True)
        run = config.load([f"eval.checkpoint={policy}", "eval.episodes=3"], command="eval")
        assert (run.env.name, run.eval.checkpoint, run.eval.episodes) == ("push", policy, 3)
        assert run.run_dir != saved.run_dir


@pytest.mark.parametrize("way", ["the group", "the type", "one's own file", "a saved run"])
def test_the_old_name_of_pa_rl_still_works_and_warns(way: str, tmp_path: Path) -> None:
    new = config.load(["algorithm=pa_rl", "algorithm.gamma=0.8"])
    given: dict[str, Any] = {"overrides": ["algorithm=parl", "algorithm.gamma=0.8"]}
    if way == "the type":
        given = {"overrides": ["algorithm={type: parl, gamma: 0.8, mc_weight: 0.5}"]}
    elif way == "one's own file":
        (tmp_path / "experiment").mkdir()
        own = "# @package _global_\ndefaults:\n  - override /algorithm: parl\nalgorithm:\n  gamma: 0.8\n"
        (tmp_path / "experiment" / "mine.yaml").write_text(own)
        given = {"overrides": ["experiment=mine"], "config_dir": tmp_path}
    elif way == "a saved run":
        saved = new.save(tmp_path)
        saved.write_text(saved.read_text().replace("type: pa_rl", "type: parl"))
        given = {"base": saved}
    with pytest.warns(FutureWarning, match="'parl' is called 'pa_rl' now"):
        old = config.load(**given)
    assert old.algorithm == new.algorithm
    assert "type: pa_rl" in old.to_yaml()


def test_one_key_sets_the_size_of_all_pictures_in_all_environments() -> None:
    run = config.load(["env=[reach,push]", "env.image_size=40"])
    assert build.env_spec(run).observation.images == dict.fromkeys(
        ("observation.images.front", "observation.images.side"), (40, 40, 3)
    )
    late = "env.sensors=[{type: timed, sensor: {type: camera}, delay: 1}, {type: instruction}]"
    shape = build.env_spec(config.load(["env=reach", late, "env.image_size=40"])).observation
    assert shape.images == {"observation.images.front": (40, 40, 3)}


@pytest.mark.parametrize("sensors", ["[{type: end_effector_pose}, {type: instruction}]", "null"])
def test_a_size_without_a_picture_that_has_one_is_refused(sensors: str) -> None:
    with pytest.raises(ConfigError, match=r"env\.image_size: 40, but no sensor of vla_rl/Reach-v0"):
        config.load(["env=reach", f"env.sensors={sensors}", "env.image_size=40"])
