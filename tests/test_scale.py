"""What scripts/scale.py simulates is what can be worked out by hand, where it can."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scripts.scale import Setup, _two, simulate

FEW = Setup(actors=1, servers=1, learners=1, row=0.0)


def test_one_actor_waits_for_its_step_and_its_decision() -> None:
    told = simulate(FEW, seconds=20.0)
    assert told["decisions_per_s"] == pytest.approx(1 / (FEW.step + FEW.decide(1)), rel=0.01)
    assert told["updates_per_s"] == pytest.approx(1 / FEW.update, rel=0.02)


def test_more_actors_than_the_gpus_serve_gain_nothing() -> None:
    most = FEW.most / FEW.decide(FEW.most)
    for actors in (500, 1000):
        told = simulate(replace(FEW, actors=actors), seconds=10.0)
        assert told["decisions_per_s"] == pytest.approx(most, rel=0.05)
        assert told["GPUs that decide"] == pytest.approx(1.0, abs=0.02)


def test_raw_frames_fill_a_wire() -> None:
    many = Setup(actors=500, hosts=1, wire=1e9, row=786e3)
    assert simulate(many)["wires of replay"] > 0.9
    assert simulate(replace(many, row=10e3))["wires of replay"] < 0.1


@pytest.mark.parametrize(("cores", "rate"), [(1, 2 / (0.004 + 2 * 0.01)), (2, 2 / (0.004 + 0.01))])
def test_two_actors_share_the_cores_that_there_are(cores: int, rate: float) -> None:
    assert _two(0.004, 0.01, cores) == pytest.approx(rate, rel=0.01)


def test_the_more_trains_the_more_goes_out() -> None:
    sizes = [replace(Setup(), trains=name).weights for name in ("head", "lora", "all")]
    assert sizes == sorted(sizes)
    assert sizes[-1] == 7.5e9
