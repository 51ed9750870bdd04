"""Which cells an epoch is made of, and in which order: the same in the frozen and the fine-tuned mode."""

import jax
import jax.numpy as jnp

from alljax.training.fold import Fold


def epoch_order(key: jax.Array, fold: Fold, labels: jax.Array, balanced: bool) -> jax.Array:
    """Returns the rows of one epoch in their order.

    Args:
        key: of the run and epoch.
        fold: the training rows.
        labels: int32 (N,), of all cells.
        balanced: False for every training row once (`shuffled`), True for all classes equally often (`drawn`).

    Returns:
        int32 (T,), of which the first `fold.train_count` entries are learned from; the others are padding.
    """
    return drawn(key, fold, labels) if balanced else shuffled(key, fold)


def shuffled(key: jax.Array, fold: Fold) -> jax.Array:
    """Returns the training rows in a random order, padding last."""
    length = len(fold.train)
    draws = jax.random.uniform(key, (length,))
    return fold.train[jnp.argsort(jnp.where(jnp.arange(length) < fold.train_count, draws, 2.0))]


def drawn(key: jax.Array, fold: Fold, labels: jax.Array) -> jax.Array:
    """Returns as many draws as there are training rows, every class equally often, padding last.

    Of n draws each of C classes has n // C or one more, not a number of chance; who has one more is drawn.
    Which rows of its class stand in these places is drawn with replacement, so that an epoch shows the cells
    of a large class in part and those of a small one several times.
    """
    length, classes = len(fold.train), len(fold.class_weights)
    place_key, first_key, row_key = jax.random.split(key, 3)
    place = jnp.arange(length)
    real = place < fold.train_count
    of_row = jnp.where(real, labels[fold.train], classes)
    by_class = fold.train[jnp.argsort(of_row)]  # stable, padding last
    counts = jnp.sum(of_row[:, None] == jnp.arange(classes)[None], axis=0)
    there = jnp.argsort(counts == 0)  # classes that have rows first: only they can be drawn
    kinds = jnp.sum(counts > 0)
    # The places in a random order take the classes in turn, from a random one on.
    rank = jnp.argsort(jnp.argsort(jnp.where(real, jax.random.uniform(place_key, (length,)), 2.0)))
    of_place = there[(rank + jax.random.randint(first_key, (), 0, kinds)) % kinds]
    within = jax.random.randint(row_key, (length,), 0, counts[of_place])
    rows = by_class[jnp.cumsum(counts)[of_place] - counts[of_place] + within]
    return jnp.where(real, rows, fold.train)
