"""Studies are made in parts that add up; what is missing or does not fit is said; their page is up to date."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import pytest
import yaml

from vla_rl.specs import VALIDATION_SEEDS

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts" / "studies"
NAMES = ("adaptation", "chains", "cost", "gaming", "many", "tools", "turns")
HEADLINES = {
    "chains": {"success_at_8", "one_step_at_8", "credit_correlation", "critic_correlation"},
    "tools": {"worst_regret"},
    "gaming": {"auc", "false_alarms", "verified_share"},
    "cost": {"budget_error", "kl_error", "forgetting"},
    "turns": {"flow", "calculator"},
    "adaptation": {"steps_share"},
    "many": {"worst_gap"},
    "recipes": {"reached", "measured"},
}
SETTINGS: dict[str, Any] = {
    "seeds": [1, 2],
    "worlds": {"easy": {"overrides": ["size=1"]}, "hard": {"overrides": ["size=9"], "settings": ["plain"]}},
    "settings": {"plain": [], "fancy": ["fancy=true"]},
    "common": ["steps=10"],
    "quick": ["steps=1"],
}
COUNTED = ("regret", "calls", "over_calls", "under_calls")
SECONDS = {"seconds": 60.0, "cpu_seconds": 30.0}


@pytest.fixture(scope="module", autouse=True)
def scripts() -> Iterator[None]:
    """A study is run as a script: what it imports lies beside it."""
    sys.path.insert(0, str(SCRIPTS))
    yield
    sys.path.remove(str(SCRIPTS))
    for name in (*NAMES, "parts", "study", "page", "hand"):
        sys.modules.pop(name, None)


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


def parts(folder: Path, settings: Mapping[str, Any] = SETTINGS, **given: Any) -> Any:
    return script("parts").Parts("made_up", folder, settings, **given)


def with_common(*overrides: str) -> dict[str, Any]:
    return SETTINGS | {"common": list(overrides)}


def test_rows_of_several_machines_add_up(tmp_path: Path) -> None:
    one, other, both = (parts(tmp_path / name) for name in ("one", "other", "one"))
    one.add("easy", 1, "cloned", {"success": 20.0}, SECONDS)
    one.add("easy", 1, "plain", {"success": 40.0, "cost": float("nan")}, SECONDS)
    other.add("easy", 2, "plain", {"success": 60.0, "cost": 3.0}, SECONDS)
    other.file("easy", 2).rename(one.file("easy", 2))
    assert list(both.seeds("easy")) == [1, 2]
    table = both.table("easy")
    assert table["plain"]["success"]["mean"] == 50.0
    assert table["plain"]["success"]["values"] == [40.0, 60.0]
    assert table["plain"]["success"]["ci95"] == [40.0, 60.0]
    assert table["plain"]["cost"] == {"mean": 3.0, "ci95": [3.0, 3.0], "values": [3.0]}
    assert table["cloned"]["success"]["values"] == [20.0]
    assert both.worlds() == ["easy"]
    assert both.wanted("easy", 1, ["plain", "fancy"]) == ["fancy"]
    told = both.about()["parts"]
    assert [(part["world"], part["seed"], part["rows"], part["seconds"]) for part in told] == [
        ("easy", 1, 2, 120.0),
        ("easy", 2, 1, 60.0),
    ]
    assert all(part["commit"] and part["date"] and "cores" in part["machine"][0] for part in told)
    assert not list(tmp_path.rglob("*.part"))


def test_processes_add_to_one_part_at_once(tmp_path: Path) -> None:
    settings = SETTINGS | {"settings": {f"row_{number}": [] for number in range(8)}}
    with ThreadPoolExecutor(8) as pool:
        for row in settings["settings"]:
            pool.submit(parts(tmp_path, settings).add, "easy", 1, row, {"success": 1.0}, SECONDS)
    assert parts(tmp_path, settings).read("easy", 1).keys() == settings["settings"].keys()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    some = parts(tmp_path)
    assert some.missing() == ["easy, hard: seed 1, 2"]
    some.add("easy", 2, "plain", {"success": 1.0}, SECONDS)
    some.add("hard", 1, "plain", {"success": 1.0}, SECONDS)
    assert some.missing() == ["easy: seed 1", "hard: seed 2", "easy, seed 2: fancy"]


def test_rows_of_other_settings_are_refused_left_out_or_replaced(tmp_path: Path) -> None:
    wrong = script("parts").OtherSettingsError
    parts(tmp_path).add("easy", 1, "plain", {"success": 1.0}, SECONDS)
    parts(tmp_path).add("easy", 1, "fancy", {"success": 2.0}, SECONDS)
    now = parts(tmp_path, with_common("steps=20"))
    with pytest.raises(wrong, match=r"easy_1.json: plain was made with other settings .* made_up.yaml now gives"):
        now.wanted("easy", 1, ["fancy"])
    assert now.table("easy") == {}
    assert now.about()["other_settings"] == ["easy, seed 1: plain, fancy"]
    assert "easy, hard: seed 1, 2" in now.about()["missing"]
    assert now.wanted("easy", 1, ["plain"], replace=True) == ["plain"]
    now.add("easy", 1, "plain", {"success": 7.0}, SECONDS)
    assert now.read("easy", 1).keys() == {"plain"}
    assert now.table("easy")["plain"]["success"]["mean"] == 7.0


def test_only_what_a_row_depends_on_counts_as_its_settings(tmp_path: Path) -> None:
    def digest(settings: Mapping[str, Any]) -> str:
        return parts(tmp_path, settings).digest("easy", "plain")

    before = digest(SETTINGS)
    more_worlds = SETTINGS["worlds"] | {"new": {}}
    more_settings = SETTINGS["settings"] | {"new": ["new=1"]}
    for same in ({"worlds": more_worlds}, {"settings": more_settings}, {"seeds": [5]}, {"quick": []}):
        assert digest(SETTINGS | same) == before
    for other in ({"common": []}, {"settings": {"plain": ["fancy=1"]}}, {"worlds": {"easy": {"overrides": []}}}):
        assert digest(SETTINGS | other) != before
    assert parts(tmp_path, more=["steps=1"]).digest("easy", "plain") != before


def made_up(part: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """A study whose success is its seed."""
    yield "cloned", {"success": 0.0}
    for name in part.settings:
        yield name, {"success": float(part.seed)}


def command(monkeypatch: pytest.MonkeyPatch, folder: Path, *words: str) -> dict[str, Any]:
    """`python made_up.py WORDS`: its summary."""
    study = script("study")
    (folder / "made_up.yaml").write_text(yaml.safe_dump(SETTINGS))
    monkeypatch.setattr(study, "HERE", folder)
    monkeypatch.setattr(script("parts"), "STUDIES", folder / "docs")
    monkeypatch.setattr(sys, "argv", ["made_up.py", "--out", str(folder / "runs"), *words])
    study.main("made_up", "about", made_up, lambda all_parts: {"tables": all_parts.tables()})
    where = folder / ("runs" if "--quick" in words else "docs")
    return json.loads((where / "made_up.json").read_text())


def test_a_command_makes_its_part_and_sums_up_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = command(monkeypatch, tmp_path, "--worlds", "easy", "--seeds", "1", "--settings", "fancy")
    assert told["tables"]["easy"].keys() == {"cloned", "fancy"}
    assert "easy, seed 1: plain" in told["missing"]
    told = command(monkeypatch, tmp_path)
    assert told["missing"] == []
    assert told["tables"]["easy"]["plain"]["success"]["values"] == [1.0, 2.0]
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "docs" / "made_up").iterdir()}
    assert command(monkeypatch, tmp_path, "--summary") == told == command(monkeypatch, tmp_path)
    assert before == {file: file.stat().st_mtime_ns for file in before}


def test_a_quick_look_leaves_the_docs_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = command(monkeypatch, tmp_path, "--quick")
    assert [part["world"] for part in told["parts"]] == ["easy"]
    assert not (tmp_path / "docs").exists()


def test_a_command_refuses_what_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command(monkeypatch, tmp_path, "--worlds", "esay")
    assert "--worlds: 'esay' is none of made_up.yaml; did you mean 'easy'?" in capsys.readouterr().err
    command(monkeypatch, tmp_path, "--seeds", "1")
    monkeypatch.setitem(SETTINGS, "common", ["steps=99"])
    with pytest.raises(SystemExit, match="was made with other settings"):
        command(monkeypatch, tmp_path, "--seeds", "1")


def test_what_was_run_with_other_overrides_is_run_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    study, done = script("study"), list[str]()

    def sft(run: Any) -> None:
        done.append(run.seed)
        run.run_dir.mkdir()

    monkeypatch.setattr(study, "sft", sft)
    for seed in (1, 1, 2):
        assert study.run("sft", tmp_path / "sft", f"seed={seed}") == tmp_path / "sft" / "checkpoints" / "last"
    assert done == [1, 2]


@pytest.mark.parametrize("name", NAMES)
def test_a_study_is_short_and_its_settings_are_whole(name: str) -> None:
    assert len((SCRIPTS / f"{name}.py").read_text("utf-8").splitlines()) <= 60
    settings = yaml.safe_load((SCRIPTS / f"{name}.yaml").read_text("utf-8"))
    assert len(settings["seeds"]) >= 3
    for world in settings["worlds"].values():
        assert set(world.get("settings", ())) <= settings["settings"].keys()


@pytest.mark.parametrize("name", NAMES)
def test_a_summary_has_its_headline_even_of_nothing(name: str, tmp_path: Path) -> None:
    settings = yaml.safe_load((SCRIPTS / f"{name}.yaml").read_text("utf-8"))
    told = script(name).summary(script("parts").Parts(name, tmp_path, settings))
    assert {key: told[key] for key in HEADLINES[name]} == dict.fromkeys(HEADLINES[name])
    assert set(script("page").SHOWN[name].headline) == HEADLINES[name]


def pretended(command: str, folder: Path, *overrides: str) -> Path:
    """What `study.run` leaves behind, without running anything: of two tasks and more, all alike."""
    folder.mkdir(parents=True, exist_ok=True)
    told = {"pc_success": 90.0, "avg_cost": 0.5, **{f"avg_{key}": 0.1 for key in COUNTED}}
    groups = {f"task {number}": told for number in range(_tasks(overrides))}
    episodes = [{"sum_reward": 1.0, "success": True, "invalid": False}] * 2
    (folder / "eval_info.json").write_text(json.dumps({"per_group": groups, "per_episode": episodes}))
    lines = [
        {"step": 10 * at, "time": 60.0 * at, "train/episodes": 1000.0 * at, "eval/pc_success": 80.0 - 60 * (at == 2)}
        for at in (1, 2, 3, 4)
    ]
    logged = {"train/success_rate": 0.5, "train/cost": 0.3, "policy/kl": 0.06, "guard/paid": 90.0, "guard/gap": 40.0}
    (folder / "metrics.jsonl").write_text("\n".join(json.dumps(line | logged) for line in lines) + "\n")
    return folder


def _tasks(overrides: tuple[str, ...]) -> int:
    chosen = [each for each in overrides if each.startswith("env=")]
    return chosen[-1].count(",") + 1 if chosen else 1


@pytest.mark.parametrize("name", NAMES)
def test_a_study_makes_the_rows_that_its_settings_ask_for(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module, study = script(name), script("study")
    for each in (module, study):
        monkeypatch.setattr(each, "run", pretended)
    if name == "chains":
        monkeypatch.setattr(module, "credited", lambda run: {"credit": 0.5, "critic": 0.4})
        monkeypatch.setattr(module, "judge", lambda run, **asked: run)
        monkeypatch.setattr(module, "summed_up", lambda judged: {"contribution": {"resets": 0.9}})
        monkeypatch.setattr(module.config, "load", lambda *given, **more: None)
    if name == "gaming":
        monkeypatch.setattr(module, "hacked", lambda given, out: {"success": 50.0, "paid": 90.0, "found": 1.0})
    settings = yaml.safe_load((SCRIPTS / f"{name}.yaml").read_text("utf-8"))
    all_parts = script("parts").Parts(name, tmp_path / "docs", settings)
    for world in settings["worlds"]:
        chosen = {row: settings["settings"][row] for row in all_parts.wanted(world, 1, settings["settings"])}
        part = study.Slice(world, 1, chosen, settings, tmp_path / "runs" / world, [])
        for row, numbers in module.study(part):
            all_parts.add(world, 1, row, numbers, SECONDS)
    assert all_parts.missing() == [f"{', '.join(settings['worlds'])}: seed 2, 3"]
    told = module.summary(all_parts)
    known = HEADLINES[name] - ({"auc"} if name == "gaming" else set())  # here, all worlds are gamed alike
    assert None not in [told[key] for key in known]
    section = script("page").section(name, told | all_parts.about())
    assert all(f"| {world} |" in section for world in settings["worlds"])


def summed(name: str, folder: Path, **rows: Mapping[str, Any]) -> dict[str, Any]:
    """A study's summary of made-up rows, `<world>_<seed>={row: numbers}`."""
    settings = yaml.safe_load((SCRIPTS / f"{name}.yaml").read_text("utf-8"))
    all_parts = script("parts").Parts(name, folder, settings)
    for part, numbers in rows.items():
        world, _, seed = part.rpartition("_")
        for row, each in numbers.items():
            all_parts.add(world, int(seed), row, each, SECONDS)
    return script(name).summary(all_parts) | all_parts.about()


def chain(success: float, credit: float, critic: float, **more: float) -> dict[str, float]:
    return {"success": success, "credit": credit, "critic": critic, **more}


def test_the_headline_of_chains_is_of_eight_steps(tmp_path: Path) -> None:
    plain = {"one_step": chain(20.0, 0.1, 0.1, rollouts=0.9), "resets": chain(90.0, 0.8, 0.5)}
    hard = {"one_step": chain(10.0, 0.1, 0.1, rollouts=0.7), "resets": chain(80.0, 0.8, 0.3)}
    told = summed("chains", tmp_path, k8_1=hard, k8_plain_1=plain, k2_1={"one_step": chain(99.0, 0.0, 0.0)})
    assert (told["success_at_8"], told["one_step_at_8"], told["best"]) == (85.0, 15.0, "resets")
    assert told["credit_correlation"] == pytest.approx(0.8)
    assert told["critic_correlation"] == pytest.approx(0.4)


def test_the_headline_of_costs_is_of_the_worst_world(tmp_path: Path) -> None:
    def row(cost: float, kl: float, lost: float) -> dict[str, float]:
        return {"success": 50.0, "cost": cost, "forgetting": lost, "train/cost": cost, "policy/kl": kl}

    checks = {"budget": row(0.3, 0.0, 0.0), "kl_budget": row(0.0, 0.06, 0.0), "held_budget": row(0.0, 0.0, 3.0)}
    reach = {"budget": row(0.33, 0.0, 0.0), "kl_budget": row(0.0, 0.01, 0.0), "nothing": row(0.0, 0.0, 30.0)}
    told = summed("cost", tmp_path, skip_checks_1=checks, fragile_reach_1=reach)
    assert told["budget_error"] == pytest.approx(0.5)
    assert told["kl_error"] == pytest.approx(0.2)
    assert told["forgetting"] == 3.0
    assert told["of_worlds"]["fragile_reach"]["forgetting_without"]["mean"] == 30.0


def test_the_headline_of_adaptation_counts_what_fell(tmp_path: Path) -> None:
    def row(*success: float, begins: int = 10) -> dict[str, Any]:
        told = [[100.0 * at, 4.0 * at, each] for at, each in enumerate(success, start=1)]
        return {"begins": begins, "noticed_after": None, "validations": told}

    fell = {
        "nothing": row(90.0, 90.0, 10.0, 10.0, 10.0, 10.0, 10.0),
        "adapts": row(90.0, 90.0, 90.0, 90.0),
        "anew": row(0.0, 90.0, 90.0, 90.0, begins=0),
    }
    stayed = fell | {"nothing": row(90.0, 90.0, 90.0, 90.0)}
    told = summed("adaptation", tmp_path, camera_1=fell, camera_2=stayed)
    assert told["of_worlds"]["camera"] == [pytest.approx(100 / 400)]
    assert told["steps_share"] == pytest.approx(0.25)


def test_the_headline_of_many_tasks_counts_those_that_single_runs_solve(tmp_path: Path) -> None:
    def row(**success: float) -> dict[str, Any]:
        return {"cloned": dict.fromkeys(success, 0.0), "success": success}

    alone = {"reach": row(reach=96.0), "push": row(push=84.0), "pick": row(pick=30.0)}
    told = summed("many", tmp_path, table_top_1=alone | {"together": row(reach=94.0, push=70.0, pick=0.0)})
    assert told["gaps"]["table_top"] == {"reach": 2.0, "push": 14.0}
    assert told["worst_gap"] == 14.0
    section = script("page").section("many", told)
    assert "**14**" in section
    assert "| table_top | together: push | 70 | 0 | 1 |" in section
    assert "Missing: table_top: seed 2, 3; screens" in section
    assert "; table_top, seed 1: press_in_order, open_drawer" in section


def test_the_page_shows_a_table_and_a_picture_of_what_there_is(tmp_path: Path) -> None:
    page = script("page")
    told = summed(
        "chains",
        tmp_path,
        k8_1={"one_step": chain(20.0, 0.1, 0.1, rollouts=0.9)},
        k8_2={"one_step": chain(30.0, 0.2, 0.1, rollouts=0.9)},
    )
    section = page.section("chains", told)
    assert "| k8 | one_step | 25 (20 to 30) | 0.15 (0.1 to 0.2) | 0.1 (0.1 to 0.1) | 2 |" in section
    assert "**Of 2 seeds only**" in section
    assert "![chains: success in percent of each setting](studies/chains.svg)" in section
    drawn = page.picture("chains", told)
    assert "k8, one_step" in drawn
    assert drawn == page.picture("chains", told)
    text = "before\n<!-- study chains -->\nold\n<!-- end of study chains -->\nafter\n"
    written = page.written(text, {"chains": told})
    assert written == page.written(written, {"chains": told})
    assert section in written
    assert "old" not in written
    assert "Not yet run" in page.written(text, {"chains": None})
    with pytest.raises(ValueError, match="<!-- study tools -->"):
        page.written(text, {"tools": None})


def test_the_page_is_up_to_date() -> None:
    page = script("page")
    found = page.summaries()
    for file, text in page.pages(found).items():
        assert file.read_text("utf-8") == text, "run `python scripts/studies/page.py`"
    for name, each in found.items():
        if each and each["parts"]:
            assert page.drawn(name, each) in (page.STUDIES / f"{name}.svg").read_text("utf-8")


@pytest.mark.parametrize("task", ["Reach", "GuiClickLabel"])
def test_one_hand_is_for_the_table_and_for_screens(task: str) -> None:
    script("hand")
    env, other = gymnasium.make(f"studies/Hand{task}-v0"), gymnasium.make("studies/HandPush-v0")
    for key in ("observation.images.front", "observation.images.side", "observation.state"):
        assert env.observation_space[key] == other.observation_space[key]
    assert env.action_space == other.action_space
    for seed in VALIDATION_SEEDS[:2]:
        seen, info = env.reset(seed=seed)
        ended = False
        while not ended:
            assert env.observation_space.contains(seen)
            seen, reward, terminated, truncated, info = env.step(env.unwrapped.expert_action())
            ended = terminated or truncated
        assert reward == 1
        assert info["is_success"]
    env.close()
    other.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_summary_is_that_of_its_parts(name: str) -> None:
    known = script("page").summaries()[name]
    settings = yaml.safe_load((SCRIPTS / f"{name}.yaml").read_text("utf-8"))
    all_parts = script("parts").Parts(name, script("parts").STUDIES, settings)
    if not all_parts.worlds():
        assert not known or not known["parts"]
        return
    told = json.loads(json.dumps({"study": name, **script(name).summary(all_parts), **all_parts.about()}))
    assert known == told, f"run `python scripts/studies/{name}.py --summary`"
