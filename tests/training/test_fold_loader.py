"""FoldLoader: the order of the frozen mode, resumable at any step, the same batches on any devices."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss
from training.small_run import ONE

from alljax.config import default_config
from alljax.data.splits import Fold
from alljax.training.loop import FoldLoader
from alljax.training.sampling import FoldRows, epoch_order, make_fold_rows
from alljax.training.sharding import Mesh, PmapMesh
from alljax.training.step import SHUFFLE, Batch

CLASSES, EPOCHS, KEY = 3, 3, jax.random.key(11)


class NumberedImages:
    """Images of one pixel whose value is their row."""

    cached = None

    def __init__(self, count: int) -> None:
        self.labels = (np.arange(count) * 7 % CLASSES).astype(np.int32)

    def take(self, rows: np.ndarray, mask: np.ndarray) -> np.ndarray:
        assert (rows >= 0).all()
        return np.where(mask, rows, 0).astype(np.uint8)[:, None, None, None] * np.ones((1, 1, 1, 3), np.uint8)


def loader_of(count: int, mesh: Any, validation: int = 4, **train: Any) -> tuple[FoldLoader, FoldRows]:
    """Returns the loader of a fold with `count` training images, and the fold."""
    config = default_config()
    config.train.update(**{"epochs": EPOCHS, "batch_size": 8} | train)
    rows = np.random.default_rng(0).permutation(count + 10)
    fold = Fold(0, 0, rows[:count], rows[count + validation :], validation=rows[count : count + validation])
    longer = Fold(0, 1, rows[: count + 3], rows[count + 3 :])  # the first fold is padded to the size of this one
    images = NumberedImages(count + 10)
    fold_rows = make_fold_rows(config, images.labels, CLASSES, [fold, longer])[0]
    return FoldLoader(config, images, fold_rows, KEY, mesh), fold_rows


def rows_of(batches: Iterator[Batch]) -> list[list[int]]:
    """Returns the rows of each batch; checks padding, positions and labels."""
    read = []
    for batch in batches:
        flat = jax.tree.map(np.asarray, batch)
        images, mask = flat.inputs.reshape(-1, 3), flat.mask.reshape(-1)
        labels, positions, count = flat.labels.reshape(-1), flat.positions.reshape(-1), int(mask.sum())
        assert (mask == (np.arange(len(mask)) < count)).all()
        assert not images[count:].any()
        assert not labels[count:].any()
        assert (positions == np.arange(len(mask))).all()
        rows = images[:count, 0].astype(int)
        assert (labels[:count] == rows * 7 % CLASSES).all()
        read.append(rows.tolist())
    return read


@pytest.mark.parametrize(("count", "batch_size"), [(21, 8), (16, 8), (5, 8), (7, 1)])
@pytest.mark.parametrize("sampling", ["each", "balanced"])
def test_order_is_that_of_the_frozen_mode_from_any_step_on(sampling: str, count: int, batch_size: int) -> None:
    loader, fold = loader_of(count, ONE, batch_size=batch_size, sampling=sampling)
    size, labels = min(batch_size, count + 3), jnp.asarray(NumberedImages(count + 10).labels)
    expected = []
    for epoch in range(EPOCHS):
        key = jax.random.fold_in(jax.random.fold_in(KEY, SHUFFLE), epoch)
        order = np.asarray(epoch_order(key, fold, labels, sampling == "balanced"))[:count].tolist()
        expected += [order[start : start + size] for start in range(0, count, size)]
    assert loader.steps_per_epoch == -(-count // size)
    for step in (0, 2):
        assert rows_of(loader.train(step)) == expected[step:]


@pytest.mark.parametrize("mesh", [Mesh, lambda: Mesh(2), PmapMesh], ids=["jit", "fsdp", "pmap"])
@pytest.mark.parametrize("parts", [1, 3])
def test_batches_are_the_same_on_eight_devices(mesh: Any, parts: int) -> None:
    """They are padded to a multiple of devices and accumulation steps."""
    eight, _ = loader_of(21, mesh(), accumulation_steps=parts)
    one, _ = loader_of(21, ONE, accumulation_steps=parts)
    assert rows_of(eight.train(2)) == rows_of(one.train(2))
    batch = next(eight.train(0))
    assert batch.mask.size == {1: 8, 3: 24}[parts]
    assert len({shard.device for shard in batch.inputs.addressable_shards}) == 8


def logits_of(rows: Any) -> np.ndarray:
    column = np.asarray(rows, np.float32)[:, None]
    return np.concatenate([np.sin(column), np.cos(column), column % 2], axis=1)


@pytest.mark.parametrize("validation", [4, 0])
@pytest.mark.parametrize("batch_size", [3, 8])
def test_evaluation_is_in_the_order_of_the_rows(validation: int, batch_size: int) -> None:
    """Without validation rows the test rows are used."""
    loader, fold = loader_of(21, Mesh(), validation=validation, batch_size=batch_size)
    assert loader.has_validation == bool(validation)

    def logits(batch: Batch) -> np.ndarray:
        return logits_of(np.asarray(batch.inputs)[:, 0, 0, 0])

    test = fold.test[: 10 - validation]
    np.testing.assert_array_equal(loader.predict(logits, loader.test), logits_of(test))
    rows = fold.validation[:validation] if validation else test
    p, labels = softmax(logits_of(rows).astype(np.float64), axis=1), rows * 7 % CLASSES
    loss, accuracy = loader.validate(logits)
    assert loss == pytest.approx(log_loss(labels, p, labels=range(CLASSES)), rel=1e-6)
    assert accuracy == pytest.approx((p.argmax(1) == labels).mean())
