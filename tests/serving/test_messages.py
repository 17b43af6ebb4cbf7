"""What is sent is read back, and what was sent by nobody honest is refused before it costs anything."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vla_rl.serving import asked
from vla_rl.serving.messages import MOST_PARTS, MessageError, packed, unpacked
from vla_rl.specs import STATE, TASK

KINDS = [np.uint8, np.float32, np.float64, np.int64, np.bool_, ">f4"]
PLAIN = st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.floats(allow_nan=False) | st.text(max_size=8)
ARRAYS = st.sampled_from(KINDS).flatmap(lambda kind: arrays.arrays(kind, arrays.array_shapes(max_dims=4, min_side=0)))
VALUES = st.recursive(
    PLAIN | ARRAYS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(one == other)


@given(VALUES)
def test_what_is_sent_is_read_back(value: Any) -> None:
    assert same(value, unpacked(packed(value)))


def test_numbers_of_numpy_are_read_back() -> None:
    for number in (np.float32(0.1), np.int64(-3), np.uint8(200), np.bool_(True)):
        read = unpacked(packed(number))
        assert type(read) is type(number)
        assert read == number


@pytest.mark.parametrize("value", [object(), np.array([object()]), np.array(["a"]), np.complex64(1j), {1, 2}])
def test_only_numbers_and_plain_values_are_sent(value: Any) -> None:
    with pytest.raises(TypeError):
        packed(value)


def array(dtype: Any = "<f4", shape: Any = (2,), data: Any = bytes(8)) -> bytes:
    return msgpack.packb({b"__ndarray__": True, b"dtype": dtype, b"shape": shape, b"data": data})


REFUSED = [
    b"",
    b"\xc1",
    b"\x80\x80",
    b"\xdd\xff\xff\xff\xff",
    b"\x91" * 100_000,
    b"\x80" * 9,
    msgpack.packb([0] * (MOST_PARTS + 1)),
    msgpack.packb([[[0] * 40] * 40] * 40),
    msgpack.packb({1: 2}),
    msgpack.packb({"a": "b"})[:-1] + b"\xff",
    msgpack.packb(msgpack.ExtType(1, b"x")),
    msgpack.packb(msgpack.Timestamp(1)),
    array("O"),
    array("<U4"),
    array("V8"),
    array("(2,)f4"),
    array("f4,f4"),
    array("<M8[s]"),
    array("<c8"),
    array("no such"),
    array(["<f4"]),
    array(shape=(3,)),
    array(shape=(-2,)),
    array(shape=(2**40, 2**40)),
    array(shape=(1,) * 60),
    array(shape=2),
    array(shape=("2",)),
    array(data="12345678"),
    array(data=[0, 0]),
    msgpack.packb({b"__npgeneric__": True, b"dtype": "<f4", b"data": "1"}),
    msgpack.packb({b"__npgeneric__": True, b"dtype": "|u1", b"data": 300}),
    msgpack.packb({b"__npgeneric__": True, b"dtype": "O", b"data": 1}),
]


@pytest.mark.parametrize("data", REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(MessageError):
        unpacked(data)


@given(st.binary(max_size=200))
def test_whatever_bytes_there_are_they_are_read_or_refused(data: bytes) -> None:
    with suppress(MessageError):
        unpacked(data)


# --- observations ---------------------------------------------------------------------------------------------

FRONT = "observation.images.front"
GOOD = {FRONT: np.zeros((4, 6, 3), np.uint8), STATE: np.zeros(2), TASK: "go"}


def read(**changed: Any) -> asked.Asked:
    message = {key: value for key, value in (GOOD | changed).items() if value is not None}
    return asked.read(packed(message), ["front"], 2)


def test_an_observation_is_a_batch_of_one() -> None:
    found = read()
    assert {key: (value.dtype, value.shape) for key, value in found.observation.items() if key != TASK} == {
        FRONT: (np.uint8, (1, 4, 6, 3)),
        STATE: (np.float32, (1, 2)),
    }
    assert (found.text, found.begins) == ("go", False)
    assert read(episode_start=True).begins
    assert read(task=None, prompt="as openpi says it").text == "as openpi says it"
    assert read(other=[1, 2, 3], prompt="no").observation.keys() == found.observation.keys()
    assert asked.read(packed(GOOD), ["front"], 0).observation[STATE].shape == (1, 0)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({FRONT: None}, "lacks 'observation.images.front'"),
        ({FRONT: np.zeros((4, 6, 3), np.float32)}, "pictures are uint8"),
        ({FRONT: np.zeros((2, 4, 6, 3), np.uint8)}, "of one environment"),
        ({FRONT: np.zeros((0, 6, 3), np.uint8)}, "1 to 8192 pixels, got 0 x 6"),
        ({FRONT: np.zeros((1, 9000, 3), np.uint8)}, "got 1 x 9000"),
        ({FRONT: "a picture"}, "pictures are uint8"),
        ({STATE: None}, r"observation.state: expected \[2\], got none"),
        ({STATE: np.zeros(3)}, r"observation.state: expected \[2\], got \[3\]"),
        ({STATE: np.array([0, np.nan])}, "not finite"),
        ({STATE: "numbers"}, "could not convert"),
        ({TASK: None}, "lacks 'task'"),
        ({TASK: ["go"]}, "task: expected a text, got list"),
        ({"episode_start": 1}, "episode_start: expected true or false, got int"),
    ],
)
def test_what_the_policy_cannot_see_by_is_named(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read(**changed)


@pytest.mark.parametrize("data", ["text", packed([1]), packed(None), packed(5)])
def test_an_observation_is_a_map(data: Any) -> None:
    with pytest.raises(MessageError, match="an observation is"):
        asked.read(data, ["front"], 2)
