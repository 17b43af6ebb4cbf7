"""The tree of sums against plain arrays of weights."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_rl.replay.sumtree import SumTree


@given(size=st.integers(1, 40), seed=st.integers(0, 2**32 - 1), rounds=st.integers(1, 10))
@settings(max_examples=50, deadline=None)
def test_the_tree_holds_the_weights_and_draws_only_where_there_are_some(size: int, seed: int, rounds: int) -> None:
    rng = np.random.default_rng(seed)
    tree, plain = SumTree(size), np.zeros(size)
    for _ in range(rounds):
        at = rng.permutation(size)[: rng.integers(0, size + 1)]
        weights = rng.random(len(at)) * (rng.random(len(at)) < 0.5) * 10.0 ** rng.integers(-9, 9)
        tree.set(at, weights)
        plain[at] = weights
        assert np.array_equal(tree.weights[:size], plain)
        assert np.isclose(tree.total, plain.sum(), rtol=1e-12, atol=0)
        if plain.any():
            assert (plain[tree.draw(100, rng)] > 0).all()


def test_places_are_drawn_in_proportion_to_their_weights() -> None:
    tree = SumTree(5)
    weights = np.array([1.0, 0.0, 2.0, 3.0, 4.0])
    tree.set(np.arange(5), weights)
    counts = np.bincount(tree.draw(20_000, np.random.default_rng(0)), minlength=5)
    assert np.allclose(counts / 20_000, weights / 10, atol=0.015)
