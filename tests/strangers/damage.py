"""A program that damages what was saved, loads it, and writes down what came of it, a line of JSON a damage.

`python -m tests.strangers.damage KIND FOLDER FIRST LAST OUT` does damages FIRST to LAST - 1 of a kind of folder.
None may take more than BYTES of memory or SECONDS of processor time: the kernel ends who does, and a line is missing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.strangers.test_datasets import SHAPE
from vla_rl import config, train, train_state
from vla_rl.algorithms.critic import QScorer
from vla_rl.data import demos, lerobot
from vla_rl.data.demos import Demonstrations
from vla_rl.models.backbone import Backbone
from vla_rl.models.pointers import Pointers
from vla_rl.models.policy import Policy
from vla_rl.rollout.actor import load_actor
from vla_rl.runtime import checkpoint

SCREEN, SECONDS, BYTES = 4_000, 5, 1 << 30
PATIENCE = 1_800
"""Seconds that a program of many cases has, on a machine that has much else to do."""
WAYS = ("flip", "cut", "zero", "swap", "noise", "double", "exchange")
"""A bit flipped; the file cut; a region zeroed, swapped with another, made of noise, doubled; two files exchanged."""


def digest(value: Any) -> str:
    """Of nested plain values, arrays, tensors and dataclasses."""
    found = hashlib.sha256()

    def add(value: Any) -> None:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        if isinstance(value, torch.Tensor):
            found.update(f"{value.dtype} {list(value.shape)}".encode())
            value = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        if isinstance(value, np.ndarray):
            found.update(f"{value.dtype} {value.shape}".encode() + np.ascontiguousarray(value).tobytes())
        elif isinstance(value, Mapping):
            for key in sorted(value, key=str):
                found.update(f"{key}:".encode())
                add(value[key])
        elif isinstance(value, (list, tuple)):
            found.update(f"{len(value)} of".encode())
            for item in value:
                add(item)
        else:
            found.update(repr(value).encode())

    add(value)
    return found.hexdigest()[:16]


# What is loaded ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What a load gave: the checkpoint's step, a digest of all but the replay's rows, and one of each row."""

    step: int
    rest: str
    rows: frozenset[str] = frozenset()


Load = Callable[[], Found]


def run(folder: Path) -> Load:
    """Resume a run: everything that its newest whole generation holds, in the state of a run that goes on."""
    state = train_state.make(config.load([f"run_dir={folder}", "resume=true", "plugins=[tests.fakes]"]), folder)

    def load() -> Found:
        step = train.restore(folder, state)
        kept = [state.policy.state_dict(), state.algorithm.state_dict(), state.progress.state_dict()]
        kept += [state.collector.episodes, checkpoint.rng_state(state.rng)]
        # What was seen and done at each row; of its return, less may be known where later rows are lost.
        rows = [
            [state.replay.observations(row), state.replay.recorded(row)]
            for row in state.replay.sampleable_ids().reshape(-1, 1)
        ]
        return Found(step, digest(kept), frozenset(map(digest, rows)))

    return load


def evaluated(folder: Path) -> Load:
    """Load a run's actor, as `vla-rl eval` does."""

    def load() -> Found:
        actor = load_actor(folder, device="cpu")
        place = checkpoint.locate(folder).generation
        assert place is not None
        scorer = actor.scorer
        assert isinstance(scorer, QScorer)
        return Found(place.step, digest([actor.policy.state_dict(), scorer.critic.state_dict()]))

    return load


def policy(folder: Path) -> Load:
    """Load a policy that stands alone."""
    return lambda: Found(0, digest(_decides(Policy.from_pretrained(folder))))


def _decides(policy: Policy) -> list[Any]:
    return [policy.state_dict(), repr(policy.action_space), policy.cameras, _reads(policy.trunk.backbone)]


def _reads(backbone: Backbone) -> list[Any]:
    return [backbone.image_size, backbone.mean, backbone.std, backbone.tokenizer("reach the red cube")["input_ids"]]


def demonstrations(folder: Path) -> Load:
    """Load demonstrations."""
    return lambda: _episodes(demos.load(folder, SHAPE))


def dataset(folder: Path) -> Load:
    """Load a LeRobotDataset."""
    return lambda: _episodes(lerobot.load(folder))


def _episodes(found: Demonstrations) -> Found:
    return Found(0, digest([found.episodes, found.shape, found.meta.get("env")]))


def backbone(folder: Path) -> Load:
    """Load a backbone and its pointers."""

    def load() -> Found:
        backbone = Backbone.load(folder)
        pointers = Pointers.load(folder, backbone.hidden_size)
        return Found(0, digest([backbone.state_dict(), pointers.state_dict(), _reads(backbone)]))

    return load


KINDS: dict[str, Callable[[Path], Load]] = {
    each.__name__: each for each in (run, evaluated, policy, demonstrations, dataset, backbone)
}


# What is done to it -----------------------------------------------------------------------------------------


def files_of(folder: Path) -> list[Path]:
    """What is damaged: of a run its newest generation, of anything else all of it."""
    newest = sorted(path for path in folder.glob("checkpoints/*") if path.name.isdigit())
    place = newest[-1] if newest else folder
    return sorted(path for path in place.rglob("*") if path.is_file() and path.stat().st_size)


def spoilt(content: bytes, way: str, rng: np.random.Generator) -> bytes:
    """The content damaged at its beginning, at its end, or anywhere."""
    size = int(rng.integers(1, min(len(content), 200) + 1))
    at = (0, len(content) - size, int(rng.integers(len(content) - size + 1)))[rng.integers(3)]
    region = content[at : at + size]
    if way == "flip":
        return content[:at] + bytes([content[at] ^ 1 << int(rng.integers(8))]) + content[at + 1 :]
    if way == "cut":
        return content[:at]
    if way == "swap":
        to = int(rng.integers(len(content) - size + 1))
        changed = bytearray(content)
        changed[at : at + size], changed[to : to + size] = content[to : to + size], region
        return bytes(changed)
    other = {"zero": bytes(size), "noise": rng.bytes(size), "double": region * 2}[way]
    return content[:at] + other + content[at + size :]


def damage(folder: Path, index: int) -> tuple[str, Callable[[], None]]:
    """Do damage `index`; says what it is, and gives what mends it.

    Every file has every way in turn. A file that two generations share is damaged for both of them, every other time.
    """
    rng, files = np.random.default_rng(index), files_of(folder)
    file = files[index % len(files)]
    way = WAYS[index // len(files) % len(WAYS)]
    before = {file: file.read_bytes()}
    if way == "exchange":
        other = files[int(rng.integers(len(files)))]
        before[other] = other.read_bytes()
        after = {file: before[other], other: before[file]}
    else:
        after = {file: spoilt(before[file], way, rng)}
    if after == before:
        way, after = "flip", {file: spoilt(before[file], "flip", rng)}
    apart = index % 2 == 0
    for path, content in after.items():
        _write(path, content, apart)
    said = f"{index}: {way} {file.relative_to(folder)}"
    return said, lambda: [_write(path, content, apart) for path, content in before.items()] and None


def _write(path: Path, content: bytes, apart: bool) -> None:
    """Into the file itself, and so into all links to it, or into one of its own."""
    if apart:
        part = path.with_name(f".{path.name}")
        part.write_bytes(content)
        part.replace(path)
    else:
        path.write_bytes(content)


# What comes of it -------------------------------------------------------------------------------------------


def outcome(load: Load, folder: Path, whole: Mapping[int, Found]) -> str:
    """What a load of a damaged folder came to. All that begins with "wrong" is a fault."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            found = load()
        except (ValueError, OSError) as error:
            said = str(error)
            if len(said) >= SCREEN:
                return f"wrong: it says too much: {said[:SCREEN]}"
            return "refused" if str(folder) in said else f"wrong: it names no file: {said}"
        except Exception as error:
            return f"wrong: {type(error).__name__}: {error}"
    told = [str(warning.message) for warning in warned if str(folder) in str(warning.message)]
    saved = whole.get(found.step)
    if saved is None or found.rest != saved.rest or not found.rows <= saved.rows:
        return f"wrong: it gave what was never saved, of step {found.step}"
    if found.rows < saved.rows:
        return "salvaged" if told else "wrong: rows are missing, and nothing is said"
    if found.step < max(whole):
        return "an older one" if told else "wrong: an older one, and nothing is said"
    return "the same"


def main(kind: str, folder: Path, first: int, last: int, out: Path) -> None:
    """Do damages `first` to `last - 1`, each to the whole folder."""
    load = KINDS[kind](folder)
    whole = {found.step: found for found in _all_of(load, folder)}
    resource.setrlimit(resource.RLIMIT_AS, (memory() + BYTES, resource.RLIM_INFINITY))
    with out.open("a") as lines:
        for index in range(first, last):
            said, mend = damage(folder, index)
            lines.write(json.dumps({"damage": said}) + "\n")
            lines.flush()
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # its signal ends the process
            came = outcome(load, folder, whole)
            signal.setitimer(signal.ITIMER_PROF, 0)
            mend()
            lines.write(json.dumps({"outcome": came}) + "\n")
            lines.flush()
        assert load() == whole[max(whole)], "what was mended is not whole"


def _all_of(load: Load, folder: Path) -> Iterator[Found]:
    """What is loaded of the folder as it is; of a run also what its older generation holds."""
    yield load()
    steps = sorted(path for path in folder.glob("checkpoints/*") if path.name.isdigit())
    for newest in steps[1:]:
        newest.rename(newest.with_name("aside"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield load()
        newest.with_name("aside").rename(newest)


def memory() -> int:
    """Bytes of address space that the process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
