"""Which cells a run learns from, is watched on and is tested on, as rows that compiled functions take."""

from collections.abc import Iterator, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from sklearn.utils.class_weight import compute_class_weight

from alljax.data.splits import Fold as Split


@flax.struct.dataclass
class Fold:
    """Which rows are learned from and which are tested, padded so that folds share a shape.

    Attributes:
        train: int32 (T,), the first `train_count` entries are rows of the training side.
        train_count: int32 ().
        test: int32 (U,), likewise.
        test_count: int32 ().
        validation: int32 (V,), likewise: the rows set aside for the curves, or the test rows where none are.
        validation_count: int32 ().
        class_weights: float32 (C,).
    """

    train: jax.Array
    train_count: jax.Array
    test: jax.Array
    test_count: jax.Array
    validation: jax.Array
    validation_count: jax.Array
    class_weights: jax.Array


def make_folds(config: ConfigDict, labels: np.ndarray, classes: int, splits: Sequence[Split]) -> list[Fold]:
    """Returns one `Fold` a split, all of one shape.

    Args:
        config: ``train.class_weights`` is read.
        labels: int (N,).
        classes: number of classes.
        splits: rows learned from, tested, and set aside for validation; without these the validation curves are of
            the test rows, as in the paper.
    """
    watched = [split.validation if len(split.validation) else split.test for split in splits]
    trains, tests = [split.train for split in splits], [split.test for split in splits]

    def padded(sides: Sequence[np.ndarray]) -> Iterator[tuple[jax.Array, jax.Array]]:
        longest = max(map(len, sides))
        for rows in sides:
            yield jnp.asarray(np.pad(rows.astype(np.int32), (0, longest - len(rows)))), jnp.int32(len(rows))

    return [
        Fold(*train, *test, *validation, jnp.asarray(_class_weights(config, labels[split.train], classes)))
        for split, train, test, validation in zip(splits, padded(trains), padded(tests), padded(watched), strict=True)
    ]


def _class_weights(config: ConfigDict, labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns float32 (C,): ones, or scikit-learn's ``balanced``, n / (classes · count)."""
    if config.train.class_weights == "none":
        return np.ones(classes, np.float32)
    return compute_class_weight("balanced", classes=np.arange(classes), y=labels).astype(np.float32)


def steps_per_epoch(count: Any, batch_size: int) -> Any:
    """Returns the optimizer steps in one pass over `count` cells; a last, short batch is one of them."""
    return -(-count // batch_size)
