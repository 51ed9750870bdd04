"""Training, validation and test rows of a fold, and the order in which an epoch visits the training rows."""

import math
from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from alljax.data.splits import Fold
from alljax.errors import ConfigError


@flax.struct.dataclass
class FoldRows:
    """Rows of one fold, int32, padded so that all folds of a study have the same shapes, and how many they are."""

    train: Any
    train_count: Any
    test: Any
    test_count: Any
    validation: Any  # the test rows if the fold has no validation rows: then the curves are theirs, as in the paper
    validation_count: Any  # 0 for an inner fold, which has no curves
    class_weights: Any  # float32 (C,)
    repeat: Any  # from 0, as is fold
    fold: Any
    sample_weights: Any = None  # float32 (N,), of the losses of all rows, where features are on the device; None: ones


def make_fold_rows(config: ConfigDict, labels: np.ndarray, num_classes: int, splits: Sequence[Fold]) -> list[FoldRows]:
    """Returns the rows of each fold as NumPy arrays; labels are int (N,)."""
    sides = [(split.train, split.test, split.validation if len(split.validation) else split.test) for split in splits]
    longest = np.max([[len(rows) for rows in of_fold] for of_fold in sides], axis=0)
    folds = []
    for split, of_fold in zip(splits, sides, strict=True):
        fields: list[Any] = []
        for rows, length in zip(of_fold, longest, strict=True):
            fields += [np.pad(rows.astype(np.int32), (0, length - len(rows))), np.int32(len(rows))]
        weights = _class_weights(config, labels[split.train], num_classes)
        fields += [weights, np.int32(split.repeat), np.int32(split.fold)]
        folds.append(FoldRows(*fields))
    return folds


def _class_weights(config: ConfigDict, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns float32 (C,): ones, or n / (classes · count) as scikit-learn's ``balanced``."""
    if config.train.class_weights == "none":
        return np.ones(num_classes, np.float32)
    counts = np.bincount(labels, minlength=num_classes)
    if not counts.all():
        without = f"but a fold has no training image of class {counts.argmin()}"
        raise ConfigError(f"train.class_weights=balanced, {without}; set it to none")
    return (len(labels) / (num_classes * counts)).astype(np.float32)


def fold_keys(config: ConfigDict, fold: FoldRows) -> jax.Array:
    """Returns the key of each seed on a fold, (S,)."""
    return _fold_in(np.arange(config.seed, config.seed + config.study.seeds), np.array([fold.repeat, fold.fold]))


@jax.jit
def _fold_in(seeds: jax.Array, numbers: jax.Array) -> jax.Array:
    keys = jax.vmap(jax.random.key)(seeds)
    for number in numbers:
        keys = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
    return keys


def batch_size(config: ConfigDict, fold: FoldRows) -> int:
    """Returns the batch size, at most the number of training rows."""
    return min(config.train.batch_size, len(fold.train))


def steps_per_epoch(config: ConfigDict, fold: FoldRows) -> int:
    """Returns the optimizer steps of an epoch; the last, smaller batch is one of them."""
    return math.ceil(fold.train_count / batch_size(config, fold))


def epoch_order(key: jax.Array, fold: FoldRows, labels: jax.Array, balanced: bool) -> jax.Array:
    """Returns the training rows of an epoch in order, int32 (T,), padding last; the key is that of run and epoch."""
    if balanced:
        return _balanced(key, fold, labels)
    length = len(fold.train)
    random = jax.random.uniform(key, (length,))
    return jnp.asarray(fold.train)[jnp.argsort(jnp.where(jnp.arange(length) < fold.train_count, random, 2.0))]


def _balanced(key: jax.Array, fold: FoldRows, labels: jax.Array) -> jax.Array:
    """Samples as many rows as there are training rows, with replacement, classes equally often, give or take one."""
    length, num_classes, train = len(fold.train), len(fold.class_weights), jnp.asarray(fold.train)
    position_key, first_key, row_key = jax.random.split(key, 3)
    valid = jnp.arange(length) < fold.train_count
    row_labels = jnp.where(valid, labels[train], num_classes)
    by_class = train[jnp.argsort(row_labels)]  # stable, padding last
    counts = jnp.sum(row_labels[:, None] == jnp.arange(num_classes)[None], axis=0)
    classes = jnp.argsort(counts == 0)  # classes with training rows first
    present = jnp.sum(counts > 0)
    # Positions in random order get the classes in turn, starting with a random class.
    rank = jnp.argsort(jnp.argsort(jnp.where(valid, jax.random.uniform(position_key, (length,)), 2.0)))
    sampled = classes[(rank + jax.random.randint(first_key, (), 0, present)) % present]
    within = jax.random.randint(row_key, (length,), 0, counts[sampled])
    return jnp.where(valid, by_class[jnp.cumsum(counts)[sampled] - counts[sampled] + within], train)
