"""Demonstrations and datasets of a stranger's: sizes are held against the files' own before memory is taken."""

from __future__ import annotations

import io
import json
import resource
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unsealed import unsealed
from vla_rl.data import demos, files
from vla_rl.data.demos import DemonstrationError, Demonstrations, Episode
from vla_rl.envs import ObservationShape
from vla_rl.specs import IMAGES, STATE

SHAPE = ObservationShape({f"{IMAGES}front": (8, 8, 3)}, 2)


def episode(length: int = 3) -> Episode:
    ends = np.arange(length) == length - 1
    return Episode(
        tasks=("reach the red cube",) * (length + 1),
        seed=0,
        observations={
            f"{IMAGES}front": np.zeros((length + 1, 8, 8, 3), np.uint8),
            STATE: np.ones((length + 1, 2), np.float32),
        },
        action=np.asfortranarray(np.ones((length, 2), np.float32)),
        label=np.ones((length, 2), np.float32),
        reward=ends.astype(np.float32),
        terminated=ends,
        truncated=np.zeros(length, bool),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return demos.save(Demonstrations((episode(), episode()), SHAPE, {"env": "x"}), tmp_path / "demos")


def edit(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text())
    content.pop("sha256", None)
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: meta["episodes"][0].update(length=3e9),
        lambda meta: meta["episodes"][0].update(length=10**30),
        lambda meta: meta["images"].update({f"{IMAGES}front": [2**40, 2**40, 3]}),
        lambda meta: meta.update(state=10**12),
        lambda meta: meta["action"].update(shape=[10**12]),
        lambda meta: meta["action"].update(dtype="O"),
        lambda meta: meta["episodes"][0].update(task="x" * 1_000_000),
        lambda meta: meta["episodes"][0].update(length=-7),
    ],
)
def test_claims_that_no_file_bears_out_are_refused(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    edit(folder / "meta.json", change)
    with pytest.raises(DemonstrationError) as refused:
        demos.load(folder)
    assert len(str(refused.value)) < 1_000


def test_the_header_of_an_array_is_believed_less_than_the_file(folder: Path) -> None:
    file = unsealed(folder) / "episode_000000.npz"
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 2)})
    members["label.npy"] = header.getvalue() + b"0" * 24
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(DemonstrationError, match=r"label: expected float32 \[3, 2\], got float32 \[1000000000000, 2\]"):
        demos.load(folder)


def test_arrays_come_back_in_their_order(folder: Path) -> None:
    first, _ = demos.load(folder)
    for key, value in files._arrays(episode()).items():
        assert np.array_equal(value, first.observations.get(key, getattr(first, key, None)))
        assert first.action.flags.writeable


@pytest.fixture
def dataset(folder: Path, tmp_path: Path) -> Path:
    pytest.importorskip("pyarrow")
    from vla_rl.export import export

    export(folder, tmp_path / "dataset")
    return unsealed(tmp_path / "dataset")


@pytest.mark.parametrize(
    "change",
    [
        lambda info: info.update(total_episodes=10**9),
        lambda info: info["features"]["action"].update(shape=[10**12]),
        lambda info: info["features"][f"{IMAGES}front"].update(shape=[10**6, 10**6, 3]),
        lambda info: info.update(data_path="../../etc/{file_index}"),
        lambda info: info.update(data_path="/etc/passwd"),
        lambda info: info.update(data_path="{chunk_index.__class__}"),
    ],
)
def test_a_dataset_is_held_against_its_files(dataset: Path, change: Callable[[dict[str, Any]], object]) -> None:
    from vla_rl.data import lerobot

    assert len(lerobot.load(dataset)) == 2
    edit(dataset / "meta/info.json", change)
    with pytest.raises(DemonstrationError):
        lerobot.load(dataset)


def test_a_file_of_many_rows_in_few_bytes_is_refused(dataset: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    from vla_rl.data import lerobot

    table = pa.table({"task_index": pa.array(np.zeros(10_000_000, np.int64)), "text": pa.array(["x"] * 10_000_000)})
    parquet.write_table(table, dataset / "meta/tasks.parquet")
    assert (dataset / "meta/tasks.parquet").stat().st_size < 100_000
    with pytest.raises(DemonstrationError, match="10000000 rows"):
        lerobot.load(dataset)


@pytest.mark.parametrize("kind", ["GIF", "EPS", "BMP"])
def test_pictures_are_of_two_kinds(kind: str) -> None:
    from vla_rl.data.lerobot import pictures

    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, kind)
    with pytest.raises(ValueError, match="cannot be read"):
        pictures.decode(content.getvalue(), (8, 8, 3))


def png(width: int, height: int, rows: bytes) -> bytes:
    """A PNG file that says it is so large, and holds these rows."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(rows, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def test_a_picture_that_unpacks_to_gigabytes_is_refused_by_the_size_that_it_says() -> None:
    from vla_rl.data.lerobot import pictures

    for side in (12_000, 2**31 - 1):
        with pytest.raises(ValueError, match=r"expected a picture \[8, 8, 3\], got|cannot be read"):
            pictures.decode(png(side, side, b""), (8, 8, 3))


def test_of_a_picture_with_more_rows_than_it_says_only_those_are_unpacked() -> None:
    from vla_rl.data.lerobot import pictures

    content = png(8, 8, bytes(1 << 28))  # 256 MiB of rows
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert pictures.decode(content, (8, 8, 3)).shape == (8, 8, 3)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


@pytest.mark.parametrize(
    "content", ["#EXTM3U\n#EXTINF:1,\nfile://{canary}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile {canary}\n"]
)
def test_a_video_that_is_a_list_of_files_is_not_followed(tmp_path: Path, content: str) -> None:
    from vla_rl.data.lerobot import pictures
    from vla_rl.media.video import write_video

    canary = tmp_path / "canary.mp4"
    write_video(canary, [np.zeros((16, 16, 3), np.uint8)] * 4, 10.0)
    shutil.copy(canary, tmp_path / "honest.mp4")
    (tmp_path / "stranger.mp4").write_text(content.replace("{canary}", str(canary)))
    assert pictures.read_video(tmp_path / "honest.mp4", "front", 0.0, 4, 10.0, (256, 256, 3)).shape == (4, 256, 256, 3)
    with pytest.raises(DemonstrationError, match=r"stranger\.mp4: (damaged|front)"):
        pictures.read_video(tmp_path / "stranger.mp4", "front", 0.0, 4, 10.0, (256, 256, 3))
