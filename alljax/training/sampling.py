"""Training, validation and test rows of a fold, and the order in which an epoch visits the training rows."""

from collections.abc import Iterator, Sequence
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
    """Rows of one fold, padded so that all folds of a study have the same shapes.

    Attributes:
        train: int32 (T,), the first `train_count` entries are training rows.
        train_count: int32 ().
        test: int32 (U,), likewise.
        test_count: int32 ().
        validation: int32 (V,), likewise: the validation rows, or the test rows if the fold has none.
        validation_count: int32 ().
        class_weights: float32 (C,).
        repeat: int32 (), number of the repeat, from 0.
        fold: int32 (), number of the fold, from 0.
    """

    train: Any
    train_count: Any
    test: Any
    test_count: Any
    validation: Any
    validation_count: Any
    class_weights: Any
    repeat: Any
    fold: Any


def make_fold_rows(config: ConfigDict, labels: np.ndarray, num_classes: int, splits: Sequence[Fold]) -> list[FoldRows]:
    """Returns the rows of each fold as NumPy arrays.

    Args:
        config: ``train.class_weights`` is read.
        labels: int (N,).
        num_classes: C.
        splits: the folds; without validation rows the validation curves are of the test rows, as in the paper.
    """

    def padded(sides: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.int32]]:
        longest = max(map(len, sides))
        for rows in sides:
            yield np.pad(rows.astype(np.int32), (0, longest - len(rows))), np.int32(len(rows))

    train, test = padded([split.train for split in splits]), padded([split.test for split in splits])
    validation = padded([split.validation if len(split.validation) else split.test for split in splits])
    return [
        FoldRows(
            *rows,
            *test_rows,
            *validation_rows,
            class_weights=_class_weights(config, labels[split.train], num_classes),
            repeat=np.int32(split.repeat),
            fold=np.int32(split.fold),
        )
        for split, rows, test_rows, validation_rows in zip(splits, train, test, validation, strict=True)
    ]


def _class_weights(config: ConfigDict, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns float32 (C,): ones, or scikit-learn's ``balanced``, n / (classes · count)."""
    if config.train.class_weights == "none":
        return np.ones(num_classes, np.float32)
    if missing := set(range(num_classes)) - set(labels.tolist()):
        raise ConfigError(
            f"train.class_weights=balanced, but a fold has no training image of class {min(missing)}; set it to none"
        )
    from sklearn.utils.class_weight import compute_class_weight

    return compute_class_weight("balanced", classes=np.arange(num_classes), y=labels).astype(np.float32)


def steps_per_epoch(count: Any, batch_size: int) -> Any:
    """Returns the optimizer steps in one pass over `count` images; the last, smaller batch is one of them."""
    return -(-count // batch_size)


def epoch_order(key: jax.Array, fold: FoldRows, labels: jax.Array, balanced: bool) -> jax.Array:
    """Returns the training rows of one epoch in order, the same in both modes.

    Args:
        key: of the run and epoch.
        fold: the training rows.
        labels: int32 (N,), of all images.
        balanced: False for every training row once, True for ``train.sampling=balanced``.

    Returns:
        int32 (T,), of which the first `fold.train_count` entries are used; the others are padding.
    """
    if balanced:
        return _balanced(key, fold, labels)
    length = len(fold.train)
    random = jax.random.uniform(key, (length,))
    return jnp.asarray(fold.train)[jnp.argsort(jnp.where(jnp.arange(length) < fold.train_count, random, 2.0))]


def _balanced(key: jax.Array, fold: FoldRows, labels: jax.Array) -> jax.Array:
    """Samples as many rows as there are training rows, every class equally often, padding last.

    Of n samples each of C classes has n // C or one more; which classes have one more is random.  The rows of a class
    are sampled with replacement, so an epoch shows part of a large class and repeats rows of a small one.
    """
    length, num_classes = len(fold.train), len(fold.class_weights)
    train = jnp.asarray(fold.train)
    position_key, first_key, row_key = jax.random.split(key, 3)
    valid = jnp.arange(length) < fold.train_count
    row_labels = jnp.where(valid, labels[train], num_classes)
    by_class = train[jnp.argsort(row_labels)]  # stable, padding last
    counts = jnp.sum(row_labels[:, None] == jnp.arange(num_classes)[None], axis=0)
    classes = jnp.argsort(counts == 0)  # classes with training rows first
    num_present = jnp.sum(counts > 0)
    # Positions in random order get the classes in turn, starting with a random class.
    rank = jnp.argsort(jnp.argsort(jnp.where(valid, jax.random.uniform(position_key, (length,)), 2.0)))
    sampled = classes[(rank + jax.random.randint(first_key, (), 0, num_present)) % num_present]
    within = jax.random.randint(row_key, (length,), 0, counts[sampled])
    return jnp.where(valid, by_class[jnp.cumsum(counts)[sampled] - counts[sampled] + within], train)
