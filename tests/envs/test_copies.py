"""Environments, sensors and experts may return the same array again and again, changed in place."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from sims.observe import Observer, Timed
from tests.fakes import CAMERA, Line
from vla_rl.audit import probes
from vla_rl.data.record import Tape, play
from vla_rl.envs.history import History
from vla_rl.specs import IMAGES, STATE, SensorSpec


class Reusing(Line):
    """The same line, which has one array for each thing that it returns, and spoils the actions that it is given."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._mine: dict[str, Any] = {}
        self._move = np.zeros(1, np.float32)

    def step(self, action: np.ndarray) -> Any:
        found = super().step(action)
        action[:] = 9
        return found

    def expert_action(self) -> np.ndarray:
        self._move[:] = super().expert_action()
        return self._move

    def _observe(self) -> dict[str, Any]:
        for key, value in super()._observe().items():
            if isinstance(value, str):
                self._mine[key] = value
            else:
                self._mine.setdefault(key, np.empty_like(value))[:] = value
        return self._mine


@dataclass(frozen=True)
class Counter:
    """A sensor that shows a world's own array."""

    name: str = "count"
    kind: Any = "image"

    def spec(self, world: Any) -> SensorSpec:
        return SensorSpec(self.kind, world.array.shape, str(world.array.dtype))

    def read(self, world: Any) -> np.ndarray:
        return world.array


def test_demonstrations_of_an_environment_that_changes_its_arrays_in_place_hold_each_step() -> None:
    (plain, _), (reused, _) = (play(kind(), seed=3, noise=0.0) for kind in (Line, Reusing))
    assert len(plain) > 2
    for key in (CAMERA, STATE):
        np.testing.assert_array_equal(reused.observations[key], plain.observations[key])
    np.testing.assert_array_equal(reused.action, plain.action)
    np.testing.assert_array_equal(reused.label, plain.label)


def test_what_is_played_by_hand_is_kept_although_the_action_is_changed_in_place() -> None:
    tape, action = Tape(Reusing(), seed=3), np.zeros(1, np.float32)
    for value in (0.25, -0.5, 0.75):
        action[:] = value
        tape.step(action, action)
    assert tape.episode().action[:, 0].tolist() == tape.episode().label[:, 0].tolist() == [0.25, -0.5, 0.75]


def test_an_audits_demonstrations_hold_each_step() -> None:
    env, observations, actions = Reusing(), list[Any](), list[Any]()
    seen, _ = env.reset(seed=3)
    act = probes.demonstrating(0.0, observations, actions).begin(env, np.random.default_rng(0))
    places = []
    for _ in range(3):
        places.append(env.place)
        seen, *_ = env.step(act(seen))
    assert np.ravel([each[STATE] for each in observations]).tolist() == np.float32(places).tolist()
    assert np.ravel(actions).tolist() == np.float32(np.clip(-4 * np.array(places), -1, 1)).tolist()


def test_observations_do_not_change_with_a_sensors_own_array() -> None:
    world = SimpleNamespace(array=np.zeros((2, 2, 3), np.uint8))
    observer = Observer([Counter()], world)
    observer.begin(world, np.random.default_rng(0))
    seen = []
    for count in range(3):
        world.array[:] = count
        seen.append(observer.read(world)[IMAGES + "count"])
    assert [int(each.max()) for each in seen] == [0, 1, 2]


def test_a_late_sensor_remembers_what_its_sensor_has_since_changed_in_place() -> None:
    for kind, shape in (("image", (2, 2, 3)), ("vector", (2,))):
        world = SimpleNamespace(array=np.zeros(shape, np.uint8 if kind == "image" else np.float32))
        observer = Observer([Timed(Counter(kind=kind), delay=1)], world)
        observer.begin(world, np.random.default_rng(0))
        seen = []
        for count in range(4):
            world.array[:] = count
            (reading,) = observer.read(world).values()
            seen.append(int(reading.max()))
        assert seen == [0, 0, 1, 2], kind


def test_stacked_frames_survive_whoever_changes_what_it_is_given() -> None:
    history, newest = History(3), np.zeros((1, 2, 2, 3), np.uint8)
    for count in range(4):
        newest[:] = count
        stacked = history.push({CAMERA: newest}, np.array([count == 0]))[CAMERA]
        assert stacked[0, :, 0, 0, 0].tolist() == [max(count - 2, 0), max(count - 1, 0), count]
        stacked[:] = 77
