"""The order of an epoch: every cell once, or every class equally often; only training rows, whatever the padding."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alljax.config import default_config
from alljax.data.splits import Split
from alljax.training.sampling import FoldRows, drawn, epoch_order, make_fold_rows, shuffled

LABELS = np.array([0] * 70 + [1] * 20 + [2] * 10, np.int32)[np.random.default_rng(4).permutation(100)]
ROWS = np.random.default_rng(2).permutation(100)

order = jax.jit(epoch_order, static_argnums=3)


def fold_of(rows: np.ndarray, longest: int = 0, labels: np.ndarray = LABELS, classes: int = 3) -> FoldRows:
    """Returns a fold of these training rows, padded as beside another one of `longest`."""
    rest = np.setdiff1d(np.arange(len(labels)), rows)
    config = default_config()
    splits = [Split(0, 0, rows, rest), Split(0, 1, ROWS[: longest or len(rows)], rest)]
    return make_fold_rows(config, labels, classes, splits)[0]


def epoch(seed: int, fold: FoldRows, balanced: bool, labels: np.ndarray = LABELS) -> np.ndarray:
    return np.asarray(order(jax.random.key(seed), fold, jnp.asarray(labels), balanced))


def before(key: jax.Array, fold: FoldRows) -> Any:
    """The order as the frozen mode first had it, written again."""
    draws = np.asarray(jax.random.uniform(key, (len(fold.train),)))[: int(fold.train_count)]
    return np.asarray(fold.train)[np.argsort(draws, kind="stable")]


@pytest.mark.parametrize("longest", [80, 93])
@pytest.mark.parametrize("seed", range(4))
def test_each_cell_once_in_the_order_it_always_had(seed: int, longest: int) -> None:
    fold = fold_of(ROWS[:80], longest)
    found = epoch(seed, fold, balanced=False)
    assert np.array_equal(found[:80], before(jax.random.key(seed), fold))
    assert np.array_equal(found, shuffled(jax.random.key(seed), fold))
    assert sorted(found[:80]) == sorted(ROWS[:80])


@pytest.mark.parametrize("count", [80, 79, 60, 31])
@pytest.mark.parametrize("seed", range(4))
def test_classes_equally_often(seed: int, count: int) -> None:
    """To one draw, and only of training rows."""
    fold = fold_of(ROWS[:count], 93)
    found = epoch(seed, fold, balanced=True)
    assert found.shape == (93,)
    shares = np.bincount(LABELS[found[:count]], minlength=3)
    assert shares.sum() == count
    assert np.ptp(shares) == (count % 3 > 0)
    assert set(found[:count]) <= set(ROWS[:count])


def test_who_has_one_more_is_drawn() -> None:
    fold = fold_of(ROWS[:79])
    most = [np.bincount(LABELS[epoch(seed, fold, balanced=True)], minlength=3).argmax() for seed in range(30)]
    assert set(most) == {0, 1, 2}


def test_every_row_of_a_class_is_as_likely() -> None:
    """And stands as likely at the beginning of an epoch as at its end."""
    fold = fold_of(ROWS[:80], 93)
    keys = jax.vmap(jax.random.key)(jnp.arange(3000))
    many = np.asarray(jax.jit(jax.vmap(drawn, (0, None, None)))(keys, fold, jnp.asarray(LABELS)))[:, :80]
    times = np.bincount(many.ravel(), minlength=100)
    assert not times[ROWS[80:]].any()
    for label in range(3):
        own = ROWS[:80][LABELS[ROWS[:80]] == label]
        expected = many.size / 3 / len(own)
        # Within five standard deviations of a count with this mean.
        assert (np.abs(times[own] - expected) < 5 * np.sqrt(expected)).all()
        shares = (LABELS[many] == label).mean(axis=0)
        assert np.abs(shares - 1 / 3).max() < 5 * np.sqrt(2 / 9 / 3000)


def test_the_key_decides() -> None:
    fold = fold_of(ROWS[:80])
    for balanced in (False, True):
        one, same, other = (epoch(seed, fold, balanced) for seed in (7, 7, 8))
        assert np.array_equal(one, same)
        assert not np.array_equal(one, other)


@pytest.mark.parametrize("balanced", [False, True])
def test_padding_makes_no_difference(balanced: bool) -> None:
    """Neither how much there is nor which row it holds."""
    alone = epoch(3, fold_of(ROWS[:80]), balanced)
    for longest in (81, 99):
        padded = fold_of(ROWS[:80], longest)
        assert np.array_equal(epoch(3, padded, balanced)[:80], alone)
        poisoned = padded.replace(train=jnp.where(jnp.arange(longest) < 80, padded.train, ROWS[99]))  # type: ignore[attr-defined]
        assert np.array_equal(epoch(3, poisoned, balanced)[:80], alone)


def test_a_class_without_training_rows_is_not_drawn() -> None:
    rows = np.flatnonzero(LABELS != 1)[:50]
    found = epoch(0, fold_of(rows, 60), balanced=True)[:50]
    assert set(found) <= set(rows)
    assert np.bincount(LABELS[found], minlength=3)[[0, 2]].tolist() == [25, 25]


def test_cells_without_labels_make_an_order_too() -> None:
    """Predictions need none, but are fed like training."""
    found = epoch(0, fold_of(ROWS[:50]), balanced=True, labels=np.full(100, -1, np.int32))
    assert set(found) <= set(ROWS[:50])
