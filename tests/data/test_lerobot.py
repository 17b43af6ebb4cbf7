"""LeRobotDatasets: what is written is read again; what is torn, missing or of another shape is named."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest

from tests.fakes import CAMERA, LINE
from tests.unsealed import unsealed
from vla_rl import cli, export
from vla_rl.actions.binned import Binned
from vla_rl.actions.chunk import Chunk
from vla_rl.data import demos, lerobot
from vla_rl.data.demos import DemonstrationError, Demonstrations, Episode
from vla_rl.data.lerobot import pictures
from vla_rl.data.lerobot.layout import Feature
from vla_rl.data.lerobot.stats import merged, stats_of
from vla_rl.envs import ObservationShape
from vla_rl.registry import SetupError
from vla_rl.replay import ReplayBuffer
from vla_rl.specs import STATE

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

SHAPE = ObservationShape(images={CAMERA: (8, 8, 3)}, state=1)
TEXTS = ("räume auf", "把杯子放下", 'say "hi"\n\tthen 🙂')
FIELDS = ("action", "label", "reward", "terminated", "truncated")


def episode(rng: np.random.Generator, length: int, size: tuple[int, int] = (8, 8), ends: bool = True) -> Episode:
    """Pictures of smooth colours, a state and actions at random; its text changes where it is long."""
    y, x = np.mgrid[: size[0], : size[1]]
    shade = rng.uniform(2, 8, (length + 1, 1, 1, 3)) * (x + y)[..., None] + rng.uniform(0, 100)
    last = np.arange(length) == length - 1
    return Episode(
        tasks=tuple(TEXTS[(i // 4) % 3] for i in range(length + 1)),
        seed=int(rng.integers(1000)),
        observations={
            CAMERA: np.clip(shade, 0, 255).astype(np.uint8),
            STATE: rng.normal(size=(length + 1, 1)).astype(np.float32),
        },
        action=rng.uniform(-1, 1, (length, 1)).astype(np.float32),
        label=rng.uniform(-1, 1, (length, 1)).astype(np.float32),
        reward=rng.normal(size=length).astype(np.float32),
        terminated=last & ends,
        truncated=np.zeros(length, bool),
    )


@pytest.fixture
def some() -> list[Episode]:
    rng = np.random.default_rng(0)
    return [episode(rng, int(length)) for length in (1, 5, 9, 30, 2)]


def assert_equal(got: Episode, want: Episode, tolerance: float = 0.0) -> None:
    assert (got.tasks, got.seed, len(got)) == (want.tasks, want.seed, len(want))
    for name in FIELDS:
        assert getattr(got, name).dtype == getattr(want, name).dtype
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name))
    assert got.observations.keys() == want.observations.keys()
    np.testing.assert_array_equal(got.observations[STATE], want.observations[STATE])
    one, other = got.observations[CAMERA], want.observations[CAMERA]
    assert one.dtype == np.uint8
    assert np.abs(one.astype(int) - other).mean() <= tolerance


@pytest.mark.parametrize(("mode", "tolerance"), [("image", 0.0), ("video", 3.0)])
def test_what_is_written_is_what_is_read(some: list[Episode], mode: str, tolerance: float, tmp_path: Path) -> None:
    assert lerobot.write_demonstrations(some, tmp_path / "d", mode, meta={"env": LINE}) == 5  # type: ignore[arg-type]
    read = lerobot.load(tmp_path / "d", SHAPE)
    assert read.meta["env"] == LINE
    for got, want in zip(read, some, strict=True):
        assert_equal(got, want, tolerance)
    assert not [path for path in tmp_path.iterdir() if path.name != "d"], "nothing half written is left"


@pytest.mark.parametrize("size", [(8, 8), (9, 16), (64, 48)])
def test_each_frame_of_a_video_is_its_own(size: tuple[int, int], tmp_path: Path) -> None:
    """Each frame is of one grey, another one than its neighbours'."""
    wanted = np.random.default_rng(0).permutation(240)[:21].astype(np.uint8)
    greys = np.broadcast_to(wanted[:, None, None, None], (21, *size, 3))
    with lerobot.writing(tmp_path / "d", "video", fps=7) as writer:
        for start in (0, 3, 12):
            part = greys[start : {0: 3, 3: 12, 12: 21}[start]]
            writer.add({CAMERA: part}, ["grey"] * len(part))
    found = [recorded.columns[CAMERA] for recorded in lerobot.Dataset.open(tmp_path / "d").episodes([CAMERA])]
    assert np.abs(np.concatenate(found).mean(axis=(1, 2, 3)) - wanted).max() < 3


@pytest.mark.parametrize("mode", ["image", "video"])
def test_many_files_and_folders(some: list[Episode], mode: str, tmp_path: Path) -> None:
    limits = lerobot.Limits(data_bytes=4000, video_bytes=1500, files=2)
    lerobot.write_demonstrations(some, tmp_path / "d", mode, limits=limits)  # type: ignore[arg-type]
    files = [path.relative_to(tmp_path / "d").as_posix() for path in (tmp_path / "d").rglob("file-*")]
    assert len([name for name in files if name.startswith("videos" if mode == "video" else "data")]) > 1, files
    for got, want in zip(lerobot.load(tmp_path / "d", SHAPE), some, strict=True):
        assert_equal(got, want, 3.0 if mode == "video" else 0.0)
    if mode == "image":
        assert "data/chunk-001/file-000.parquet" in files


def test_an_episode_without_an_end_stays_so(tmp_path: Path) -> None:
    unfinished = episode(np.random.default_rng(1), 6, ends=False)
    lerobot.write_demonstrations([unfinished], tmp_path / "d")
    assert_equal(lerobot.load(tmp_path / "d").episodes[0], unfinished)


@pytest.mark.parametrize("wrong", [None, "x"])
def test_a_seed_that_is_no_number_is_named(wrong: str | None, tmp_path: Path) -> None:
    lerobot.write_demonstrations([episode(np.random.default_rng(1), 6)], tmp_path / "d")
    (file,) = (unsealed(tmp_path / "d") / "meta" / "episodes").rglob("*.parquet")
    table = parquet.read_table(file)
    at = table.column_names.index("seed")
    parquet.write_table(table.set_column(at, "seed", pyarrow.array([wrong], pyarrow.string())), file)
    with pytest.raises(DemonstrationError, match=f"episode 0: seed {wrong!r} is no whole number"):
        lerobot.load(tmp_path / "d", SHAPE)


def test_actions_take_the_shape_of_the_environments(tmp_path: Path) -> None:
    one = replace(episode(np.random.default_rng(1), 4), action=np.arange(4), label=np.arange(4)[::-1].copy())
    lerobot.write_demonstrations([one], tmp_path / "d")
    for actions in (None, gymnasium.spaces.Discrete(4)):
        read = lerobot.load(tmp_path / "d", SHAPE, actions).episodes[0]
        np.testing.assert_array_equal(read.action, one.action)
        assert read.action.shape == (4,)
    with pytest.raises(DemonstrationError, match=r"info\.json: action: recorded \(1,\), but .* takes \(3,\)"):
        lerobot.load(tmp_path / "d", SHAPE, gymnasium.spaces.Box(-1, 1, (3,), np.float32))


def test_a_dataset_of_others_is_read_with_what_it_has(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    seen = {CAMERA: rng.integers(0, 256, (5, 8, 8, 3), np.uint8), STATE: rng.normal(size=(5, 1))}
    acts = {"action": rng.uniform(-1, 1, (5, 1))}
    extra = {"observation.images.wrist": np.zeros((5, 4, 4, 3), np.uint8)}
    with lerobot.writing(tmp_path / "d") as writer:
        writer.add(seen | acts | extra | {"next.success": np.zeros(5, bool)}, ["no"] * 5)
        writer.add(seen | acts | extra | {"next.success": np.arange(5) == 4}, ["yes"] * 5)
    (unsealed(tmp_path / "d") / "meta/vla_rl.json").unlink()
    space = gymnasium.make(LINE).action_space
    (read,) = lerobot.load(tmp_path / "d", SHAPE, space)
    assert read.tasks == ("yes",) * 6
    assert read.action.dtype == np.float32
    np.testing.assert_allclose(read.action, acts["action"], rtol=1e-6)
    np.testing.assert_array_equal(read.label, read.action)
    np.testing.assert_array_equal(read.observations[CAMERA], seen[CAMERA][[0, 1, 2, 3, 4, 4]])
    assert (read.reward.tolist(), read.terminated.tolist()) == ([0, 0, 0, 0, 1], [False] * 4 + [True])
    failed, _ = lerobot.episodes(lerobot.Dataset.open(tmp_path / "d"), SHAPE, space, successes=False)
    assert (failed.reward.any(), failed.terminated.any(), failed.truncated[-1]) == (False, False, True)
    tokens = Binned(bins=5).bind(space)
    assert demos.to_decisions(read, tokens).tokens.tolist() == [tokens.encode(each).tolist() for each in read.action]


# What is wrong is named ------------------------------------------------------------------------------


@pytest.fixture
def folder(some: list[Episode], tmp_path: Path) -> Path:
    lerobot.write_demonstrations(some, tmp_path / "d", limits=lerobot.Limits(data_bytes=4000))
    return tmp_path / "d"


def test_other_observations_are_named_with_both_shapes(folder: Path) -> None:
    with pytest.raises(DemonstrationError, match=r"info\.json: .*front: recorded \(8, 8, 3\), but .* \(16, 16, 3\)"):
        lerobot.load(folder, ObservationShape({CAMERA: (16, 16, 3)}, 1))
    with pytest.raises(DemonstrationError, match=r"observation\.state: recorded \(1,\), but .* \(4,\)"):
        lerobot.load(folder, ObservationShape({CAMERA: (8, 8, 3)}, 4))
    with pytest.raises(DemonstrationError, match=r"images\.frnt: missing; did you mean 'observation\.images\.front'"):
        lerobot.load(folder, ObservationShape({"observation.images.frnt": (8, 8, 3)}, 1))


def test_nothing_there_and_nothing_in_it(folder: Path, tmp_path: Path) -> None:
    assert not lerobot.is_dataset(tmp_path)
    with pytest.raises(DemonstrationError, match=r"info\.json: no such file"):
        lerobot.load(tmp_path)
    with pytest.raises(ValueError, match="no episodes"), lerobot.writing(tmp_path / "empty"):
        pass
    assert not (tmp_path / "empty").exists()
    edit(folder, total_episodes=0)
    with pytest.raises(DemonstrationError, match=r"info\.json: holds 0 episodes"):
        lerobot.load(folder)


def edit(folder: Path, **changes: object) -> None:
    path = unsealed(folder) / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_other_versions_and_wrong_counts_are_named(folder: Path) -> None:
    edit(folder, total_episodes=9)
    with pytest.raises(DemonstrationError, match=r"meta/episodes: expected the 9 episodes .* got 5"):
        lerobot.load(folder)
    edit(folder, codebase_version="v2.1")
    with pytest.raises(DemonstrationError, match=r"info\.json: expected codebase_version v3\.x, got 'v2\.1'"):
        lerobot.load(folder)
    (folder / "meta/info.json").write_text("{")
    with pytest.raises(DemonstrationError, match=r"info\.json: damaged"):
        lerobot.load(folder)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("name", ["data/chunk-000/file-001.parquet", "meta/episodes/chunk-000/file-000.parquet"])
def test_a_torn_file_is_named(folder: Path, name: str, share: float) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DemonstrationError, match=path.name):
        lerobot.load(folder)


def test_a_missing_file_and_a_torn_video_are_named(folder: Path, some: list[Episode], tmp_path: Path) -> None:
    (unsealed(folder) / "data/chunk-000/file-001.parquet").unlink()
    with pytest.raises(DemonstrationError, match=r"data/chunk-000/file-001\.parquet: no such file"):
        lerobot.load(folder)
    lerobot.write_demonstrations(some, tmp_path / "v", "video")
    (video,) = unsealed(tmp_path / "v").rglob("*.mp4")
    whole = video.read_bytes()
    for content in (b"", whole[: len(whole) // 2]):
        video.write_bytes(content)
        with pytest.raises(DemonstrationError, match=r"file-000\.mp4"):
            lerobot.load(tmp_path / "v")
    video.unlink()
    with pytest.raises(DemonstrationError, match=r"file-000\.mp4: no such file"):
        lerobot.load(tmp_path / "v")


# Datasets of others ----------------------------------------------------------------------------------


def test_a_task_that_is_not_in_the_table_is_named(tmp_path: Path) -> None:
    folder, one = tmp_path / "d", episode(np.random.default_rng(0), 9)
    lerobot.write_demonstrations([one], folder)
    for index in (-1, 3, None):
        rewrite(folder, "task_index", pyarrow.array([0, index, *[0] * 8], pyarrow.int64()))
        with pytest.raises(DemonstrationError, match=rf"file-000\.parquet: .*task_index: {index} in episode 0"):
            lerobot.load(folder)


@pytest.mark.parametrize("mode", ["image", "video"])
def test_files_lie_where_info_says(some: list[Episode], mode: str, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    lerobot.write_demonstrations(some, folder, mode, limits=lerobot.Limits(4000, 1500))  # type: ignore[arg-type]
    for path in [*folder.rglob("data/**/*.parquet"), *folder.rglob("*.mp4")]:
        target = folder / f"elsewhere/{path.suffix[1:]}/{int(path.stem[-3:])}{path.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    edit(folder, data_path="elsewhere/parquet/{file_index}.parquet", video_path="elsewhere/mp4/{file_index:d}.mp4")
    for got, want in zip(lerobot.load(folder, SHAPE), some, strict=True):
        assert_equal(got, want, 3.0 if mode == "video" else 0.0)


@pytest.mark.parametrize(
    ("key", "pattern", "message"),
    [
        ("data_path", "../{file_index}.parquet", "is no place within the dataset's folder"),
        ("data_path", "/etc/{file_index:03d}.parquet", "is no place within the dataset's folder"),
        ("data_path", "{file_index.real}.parquet", "is no place within the dataset's folder"),
        ("data_path", "{file_indx}.parquet", "nothing is called 'file_indx'; did you mean 'file_index'?"),
        ("video_path", "a/../../{video_key}.mp4", "is no place within the dataset's folder"),
    ],
)
def test_a_path_of_info_that_leads_out_of_the_folder_is_refused(
    some: list[Episode], key: str, pattern: str, message: str, tmp_path: Path
) -> None:
    lerobot.write_demonstrations(some, tmp_path / "d", "video")
    edit(tmp_path / "d", **{key: pattern})
    with pytest.raises(
        DemonstrationError, match=rf"info\.json: .*{key}: {re.escape(repr(pattern))}:? {re.escape(message)}"
    ):
        lerobot.load(tmp_path / "d")


@pytest.mark.parametrize("names", [[], None, ["channels", "height", "width"]])
def test_channels_may_come_first(names: list[str] | None, some: list[Episode], tmp_path: Path) -> None:
    lerobot.write_demonstrations(some, tmp_path / "d")
    features = json.loads((tmp_path / "d/meta/info.json").read_text())["features"]
    features[CAMERA] |= {"shape": [3, 8, 8], "names": names}
    features[STATE]["names"] = []
    edit(tmp_path / "d", features=features)
    for got, want in zip(lerobot.load(tmp_path / "d", SHAPE), some, strict=True):
        assert_equal(got, want)


def test_hidden_files_are_passed_over(folder: Path, some: list[Episode]) -> None:
    """A Mac leaves such beside every file that it copies."""
    for path in [*folder.rglob("*.parquet")]:
        path.with_name(f"._{path.name}").write_bytes(b"\x00\x05\x16\x07Mac OS X")
    for got, want in zip(lerobot.load(folder), some, strict=True):
        assert_equal(got, want)


def test_numbers_of_episodes_and_of_tasks_may_have_gaps(some: list[Episode], tmp_path: Path) -> None:
    folder = tmp_path / "d"
    lerobot.write_demonstrations(some, folder)
    numbers = {"episode_index": lambda n: 3 * n + 1, "task_index": lambda n: 10 - 2 * n}
    for path in unsealed(folder).rglob("*.parquet"):
        table = parquet.read_table(path)
        for key, number in numbers.items():
            if key in table.column_names:
                column = pyarrow.array([number(each) for each in table[key].to_pylist()])
                table = table.set_column(table.column_names.index(key), key, column)
        parquet.write_table(table, path)
    for got, want in zip(lerobot.load(folder), some, strict=True):
        assert_equal(got, want)


@pytest.mark.parametrize("fps", [29.97, 30000 / 1001, 12.5, 1.0])
def test_frames_a_second_need_not_be_whole(fps: float, some: list[Episode], tmp_path: Path) -> None:
    lerobot.write_demonstrations(some, tmp_path / "d", "video", fps=fps)
    assert lerobot.Dataset.open(tmp_path / "d").fps == fps
    for got, want in zip(lerobot.load(tmp_path / "d", SHAPE), some, strict=True):
        assert_equal(got, want, 3.0)


def rewrite(folder: Path, key: str, column: object | None) -> None:
    """Put another column into the only file of rows, or none."""
    (path,) = unsealed(folder).glob("data/*/*.parquet")
    table = parquet.read_table(path)
    at = table.column_names.index(key)
    table = table.remove_column(at) if column is None else table.set_column(at, key, column)
    parquet.write_table(table, path)


def test_rows_that_say_other_than_meta_are_named(tmp_path: Path) -> None:
    folder, one = tmp_path / "d", episode(np.random.default_rng(0), 3)
    lerobot.write_demonstrations([one], folder)
    rewrite(folder, "action", pyarrow.array([[1.0, 2.0]] * 4, pyarrow.list_(pyarrow.float32())))
    with pytest.raises(DemonstrationError, match=r"file-000\.parquet: action: .* says \[1\] a frame, .* holds \[2\]"):
        lerobot.load(folder)
    rewrite(folder, "action", pyarrow.array([0.0, None, 1.0, 2.0]))
    with pytest.raises(DemonstrationError, match=r"file-000\.parquet: action: 1 numbers are missing"):
        lerobot.load(folder)
    rewrite(folder, "action", pyarrow.array([0.0, np.nan, 1.0, 2.0]))
    with pytest.raises(DemonstrationError, match=r"action: holds values that are not finite"):
        lerobot.load(folder)
    rewrite(folder, "action", None)
    with pytest.raises(DemonstrationError, match=r"file-000\.parquet: action: missing; known: .*label"):
        lerobot.load(folder)


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    folder, one = tmp_path / "d", episode(np.random.default_rng(0), 3)
    lerobot.write_demonstrations([one], folder)
    good = parquet.read_table(next(folder.glob("data/*/*.parquet")))[CAMERA].to_pylist()
    big = pictures.encode(np.zeros((9, 8, 3), np.uint8))
    for content, told in (
        (b"", "cannot be read"),
        (good[1]["bytes"][:60], "read"),
        (None, "not in"),
        (big, r"9, 8, 3"),
    ):
        rewrite(folder, CAMERA, pyarrow.array([good[0], {"bytes": content, "path": None}, *good[2:]]))
        with pytest.raises(DemonstrationError, match=rf"file-000\.parquet: {CAMERA}: .*{told}"):
            lerobot.load(folder)


def test_episodes_that_do_not_go_together_are_refused_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=rf"{CAMERA}: episode 0 has .*\(8, 8, 3\).*, this one .*\(8, 16, 3\)"):
        lerobot.write_demonstrations([episode(rng, 3), episode(rng, 3, (8, 16))], tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(SetupError, match=r"pip install 'vla-rl\[lerobot\]'"):
        lerobot.write_demonstrations([], tmp_path / "d")


# Statistics ------------------------------------------------------------------------------------------


def test_statistics_of_parts_are_those_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(n, 3)) * scale for n, scale in ((1, 1), (7, 5), (40, 0.1))]
    feature, whole = Feature("float64", (3,)), np.concatenate(parts)
    stats = merged([stats_of(part, feature) for part in parts])
    for name, want in (("min", whole.min(0)), ("max", whole.max(0)), ("mean", whole.mean(0)), ("std", whole.std(0))):
        np.testing.assert_allclose(stats[name], want)
    assert stats["count"].tolist() == [48]


def test_statistics_of_pictures_are_of_their_channels() -> None:
    seen = np.random.default_rng(0).integers(20, 250, (5, 16, 9, 3), np.uint8) // np.array([1, 2, 3], np.uint8)
    stats, rows = stats_of(seen, Feature("image", (16, 9, 3))), seen.reshape(-1, 3) / 255
    for name, want in (("min", rows.min(0)), ("max", rows.max(0)), ("mean", rows.mean(0)), ("std", rows.std(0))):
        np.testing.assert_allclose(stats[name][:, 0, 0], want)
    np.testing.assert_allclose(stats["q90"][:, 0, 0], np.quantile(rows, 0.9, axis=0), atol=2 / 255)
    assert stats["count"].tolist() == [5]


# Replay and commands ---------------------------------------------------------------------------------


def buffer(lanes: int = 1, stack: int = 1, capacity: int = 400) -> ReplayBuffer:
    return ReplayBuffer(capacity, SHAPE.images, 1, slots=2, lanes=lanes, stack=stack, choices=9)


def filled(lanes: int, stack: int, rows: int = 120) -> ReplayBuffer:
    """Lanes whose episodes end now and then, by termination or truncation; every lane's last one still runs."""
    replay, rng = buffer(lanes, stack), np.random.default_rng(3)
    final, finals = np.zeros(lanes, bool), 0
    for row in range(rows):
        over = (rng.random(lanes) < 0.15) & ~final & (row < rows - 4)
        terminated = over & (rng.random(lanes) < 0.5)
        replay.add(
            {
                CAMERA: rng.integers(0, 256, (lanes, 8, 8, 3), np.uint8),
                STATE: rng.normal(size=(lanes, 1)).astype(np.float32),
                "task": [TEXTS[int(i)] for i in rng.integers(0, 3, lanes)],
            },
            rng.integers(0, 9, (lanes, 2)),
            rng.normal(size=lanes).astype(np.float32),
            terminated,
            over & ~terminated,
            final,
            labels=rng.integers(0, 9, (lanes, 2)),
            demo=rng.random(lanes) < 0.5,
        )
        final, finals = over, finals + int(over.sum())
    assert finals > 4
    return replay


@pytest.mark.parametrize(("lanes", "stack"), [(1, 1), (3, 2)])
def test_a_replay_comes_back_row_by_row(lanes: int, stack: int, tmp_path: Path) -> None:
    replay, back = filled(lanes, stack), buffer(stack=stack)
    count = lerobot.write_replay(replay, tmp_path / "d", act=lambda tokens: tokens / 4 - 1)
    assert lerobot.read_replay(tmp_path / "d", back, SHAPE) == count == len(list(replay.episodes()))
    pairs = list(zip(replay.episodes(), back.episodes(), strict=True))
    assert sum(len(ids) for ids, _ in pairs) == len(back) < len(replay), "what still runs is left out"
    for ids, others in pairs:
        want, got = replay.observations(ids), back.observations(others)
        assert want["task"] == got["task"]
        for key in (CAMERA, STATE):
            np.testing.assert_array_equal(got[key], want[key])
        for name, column in replay.recorded(ids[:-1]).items():
            np.testing.assert_array_equal(back.recorded(others[:-1])[name], column)
        np.testing.assert_array_equal(back.transitions(others[:-1]).returns, replay.transitions(ids[:-1]).returns)


def test_what_was_evicted_and_what_still_runs_are_left_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no episodes"):
        lerobot.write_replay(buffer(), tmp_path / "d")
    replay = buffer(capacity=60)
    many = [replace(episode(np.random.default_rng(i), 9), seed=i) for i in range(12)]
    tokens = np.zeros((9, 2), np.int64)
    for number, each in enumerate(many):
        ends = demos.Decisions(np.arange(10), tokens + number % 9, tokens, each.reward, each.terminated, each.truncated)
        demos.remember(replay, each, ends)
    kept = [int(replay.recorded(ids)["tokens"][0, 0]) for ids in replay.episodes()]
    assert kept == [6 + i if 6 + i < 9 else i - 3 for i in range(6)]


def test_a_saved_replay_opens_by_itself(tmp_path: Path) -> None:
    replay = filled(2, 1)
    replay.save(tmp_path / "saved")
    again = ReplayBuffer.of_saved(tmp_path / "saved")
    for one, other in zip(replay.episodes(), again.episodes(), strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(replay.observations(one)[CAMERA], again.observations(other)[CAMERA])


def test_export_writes_demonstrations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line: Demonstrations = demos.demonstrate(gymnasium.make(LINE), episodes=3, noise=0.4)
    demos.save(line, tmp_path / "demos")
    assert cli.main(["export", f"{tmp_path}/demos", f"{tmp_path}/out"]) == 0
    assert "3 episodes" in capsys.readouterr().out
    for got, want in zip(lerobot.load(tmp_path / "out", SHAPE), line, strict=True):
        assert_equal(got, want)
    assert cli.main(["export", f"{tmp_path}/demos", f"{tmp_path}/out"]) == cli.USER_ERROR
    assert cli.main(["export", f"{tmp_path}/nowhere", f"{tmp_path}/o"]) == cli.USER_ERROR
    assert "expected a folder of demonstrations" in capsys.readouterr().err


def test_a_chunk_of_actions_is_exported_as_their_numbers_in_a_row() -> None:
    space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    tokens = Chunk(Binned(bins=5), 3).bind(space)
    act = export._act(SimpleNamespace(tokens=tokens, actions=space))  # type: ignore[arg-type]
    np.testing.assert_allclose(act(np.array([0, 1, 2, 3, 4, 0])), [-1, -0.5, 0, 0.5, 1, -1])


def test_a_run_reads_its_demonstrations_from_a_dataset(some: list[Episode], tmp_path: Path) -> None:
    from vla_rl import build  # torch

    lerobot.write_demonstrations(some, tmp_path / "d")
    space = gymnasium.make(LINE).action_space
    run = SimpleNamespace(demos=SimpleNamespace(episodes=1, folder=tmp_path / "d"))
    run.each = lambda: (run,)
    spec = build.EnvSpec(SHAPE, space, Binned(bins=5).bind(space))
    (read,) = build.demonstrations(run, spec)  # type: ignore[arg-type]
    for got, want in zip(read, some, strict=True):
        assert_equal(got, want)
