"""The order of an epoch: every image once, or every class equally often; training rows only, for any padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alljax.config import default_config
from alljax.data.splits import Fold
from alljax.training.sampling import FoldRows, epoch_order, make_fold_rows

LABELS = np.array([0] * 70 + [1] * 20 + [2] * 10, np.int32)[np.random.default_rng(4).permutation(100)]
ROWS = np.random.default_rng(2).permutation(100)

order = jax.jit(epoch_order, static_argnums=3)


def fold_of(rows: np.ndarray, longest: int = 0) -> FoldRows:
    """Returns a fold of these training rows, padded to the length of another fold of `longest`."""
    rest = np.setdiff1d(np.arange(100), rows)
    splits = [Fold(0, 0, rows, rest), Fold(0, 1, ROWS[: longest or len(rows)], rest)]
    return make_fold_rows(default_config(), LABELS, 3, splits)[0]


def epoch(seed: int, fold: FoldRows, balanced: bool) -> np.ndarray:
    return np.asarray(order(jax.random.key(seed), fold, jnp.asarray(LABELS), balanced))


@pytest.mark.parametrize("count", [80, 31])
@pytest.mark.parametrize("seed", range(2))
def test_balanced_classes_differ_by_at_most_one(seed: int, count: int) -> None:
    fold = fold_of(ROWS[:count], 93)
    found = epoch(seed, fold, balanced=True)
    assert found.shape == (93,)
    shares = np.bincount(LABELS[found[:count]], minlength=3)
    assert shares.sum() == count
    assert np.ptp(shares) == (count % 3 > 0)
    assert set(found[:count]) <= set(ROWS[:count])


def test_rows_of_a_class_are_equally_likely() -> None:
    """At each position of an epoch."""
    fold = fold_of(ROWS[:80], 93)
    keys = jax.vmap(jax.random.key)(jnp.arange(3000))
    many = np.asarray(jax.jit(jax.vmap(lambda key: epoch_order(key, fold, jnp.asarray(LABELS), True)))(keys))[:, :80]
    times = np.bincount(many.ravel(), minlength=100)
    assert not times[ROWS[80:]].any()
    for label in range(3):
        own = ROWS[:80][LABELS[ROWS[:80]] == label]
        expected = many.size / 3 / len(own)
        # Within five standard deviations of a count with this mean.
        assert (np.abs(times[own] - expected) < 5 * np.sqrt(expected)).all()
        shares = (LABELS[many] == label).mean(axis=0)
        assert np.abs(shares - 1 / 3).max() < 5 * np.sqrt(2 / 9 / 3000)


@pytest.mark.parametrize("balanced", [False, True])
def test_padding_does_not_change_the_order(balanced: bool) -> None:
    """Neither its length nor its content."""
    alone = epoch(3, fold_of(ROWS[:80]), balanced)
    for longest in (81, 99):
        padded = fold_of(ROWS[:80], longest)
        assert np.array_equal(epoch(3, padded, balanced)[:80], alone)
        poisoned = padded.replace(train=jnp.where(jnp.arange(longest) < 80, padded.train, ROWS[99]))  # type: ignore[attr-defined]
        assert np.array_equal(epoch(3, poisoned, balanced)[:80], alone)


def test_class_without_training_rows_is_not_sampled() -> None:
    rows = np.flatnonzero(LABELS != 1)[:50]
    found = epoch(0, fold_of(rows, 60), balanced=True)[:50]
    assert set(found) <= set(rows)
    assert np.bincount(LABELS[found], minlength=3)[[0, 2]].tolist() == [25, 25]
