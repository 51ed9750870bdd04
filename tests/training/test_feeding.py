"""The batches of a run: the frozen mode's order, every cell once an epoch, from any step, on any devices."""

import itertools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import log_loss
from training.small_run import One

from alljax.config import default_config
from alljax.data.splits import Split
from alljax.training.feeding import Feed
from alljax.training.fine_tuning import Cells
from alljax.training.sampling import FoldRows, drawn, make_fold_rows, shuffled, steps_per_epoch
from alljax.training.sharding import JitMesh, PmapMesh
from alljax.training.step import ORDER

CLASSES, EPOCHS, KEY = 3, 3, jax.random.key(11)


class Numbered:
    """Images of one pixel that say their row."""

    def __init__(self, count: int) -> None:
        self.labels = (np.arange(count) * 7 % CLASSES).astype(np.int32)

    def take(self, rows: np.ndarray, mask: np.ndarray) -> np.ndarray:
        assert (rows >= 0).all()
        return np.where(mask, rows, 0).astype(np.uint8)[:, None, None, None] * np.ones((1, 1, 1, 3), np.uint8)


class Host(One):
    """Leaves batches where they are; `count` devices a process."""

    def __init__(self, count: int = 1) -> None:
        self.count = count

    def spread(self, tree: Any) -> Any:
        return tree


def feed_of(
    count: int, batch: int, devices: Any, accumulate: int = 1, validation: int = 4, sampling: str = "each"
) -> tuple[Feed, FoldRows]:
    """Returns the batches of `count` cells learned from, and the fold."""
    config = default_config()
    config.train.update(epochs=EPOCHS, batch_size=batch, accumulation_steps=accumulate, sampling=sampling)
    rows = np.random.default_rng(0).permutation(count + 10)
    aside = rows[count : count + validation]
    split = Split(0, 0, rows[:count], rows[count + validation :], validation=aside)
    longer = Split(0, 1, rows[: count + 3], rows[count + 3 :])  # another fold of the study, to which this one is padded
    source = Numbered(count + 10)
    fold = make_fold_rows(config, source.labels, CLASSES, [split, longer])[0]
    return Feed(config, source, fold, KEY, devices), fold


def rows_of(batches: Iterator[Cells]) -> list[list[int]]:
    """Returns the rows of each batch; looks at padding, places and labels as well."""
    read = []
    for cells in batches:
        images, labels, mask, positions = (
            np.asarray(each).reshape(-1, *np.shape(each)[each.ndim - rank + 1 :])
            for each, rank in ((cells.images, 4), (cells.labels, 1), (cells.mask, 1), (cells.positions, 1))
        )
        real = int(mask.sum())
        assert (mask == (np.arange(len(mask)) < real)).all()
        assert not images[real:].any()
        assert not labels[real:].any()
        assert (positions == np.arange(len(mask))).all()
        rows = images[:real, 0, 0, 0].astype(int)
        assert (labels[:real] == rows * 7 % CLASSES).all()
        read.append(rows.tolist())
    return read


@pytest.mark.parametrize(("count", "batch"), [(21, 8), (16, 8), (17, 8), (5, 8), (8, 8), (7, 1)])
def test_the_order_is_the_frozen_regimes(count: int, batch: int) -> None:
    """And every cell is learned from once an epoch."""
    feed, fold = feed_of(count, batch, Host())
    read = rows_of(feed.training(0))
    size = min(batch, count + 3)
    assert feed.steps_per_epoch == steps_per_epoch(count, size)
    assert len(read) == EPOCHS * feed.steps_per_epoch
    for epoch in range(EPOCHS):
        key = jax.random.fold_in(jax.random.fold_in(KEY, ORDER), epoch)
        order = np.asarray(shuffled(key, fold))[:count].tolist()
        expected = [order[start : start + size] for start in range(0, count, size)]
        assert read[epoch * feed.steps_per_epoch : (epoch + 1) * feed.steps_per_epoch] == expected
        assert sorted(order) == sorted(np.asarray(fold.train)[:count].tolist())


def test_from_any_step_on() -> None:
    feed, _ = feed_of(21, 8, Host())
    whole = rows_of(feed.training(0))
    for step in range(len(whole) + 1):
        assert rows_of(feed.training(step)) == whole[step:]


@pytest.mark.parametrize("devices", [JitMesh, lambda: JitMesh(2), PmapMesh], ids=["jit", "fsdp", "pmap"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_same_batches_on_eight_devices(devices: Any, accumulate: int) -> None:
    """Padded to a multiple of devices and parts."""
    eight, _ = feed_of(21, 8, devices(), accumulate)
    one, _ = feed_of(21, 8, Host(), accumulate)
    assert rows_of(eight.training(2)) == rows_of(one.training(2))
    cells = next(eight.training(0))
    assert cells.mask.size == {1: 8, 3: 24}[accumulate]
    assert len({shard.device for shard in cells.images.addressable_shards}) == 8


def test_processes_share_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reads its own part only; together they are the batch of a single process."""
    whole = list(feed_of(21, 8, Host(4))[0].training(0))
    parts = []
    for index in range(2):
        monkeypatch.setattr(jax, "process_count", lambda: 2)
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        parts.append(list(feed_of(21, 8, Host(4))[0].training(0)))
    for cells, first, second in zip(whole, *parts, strict=True):
        joined = jax.tree.map(lambda a, b: np.concatenate([a, b]), first, second)
        assert jax.tree.all(jax.tree.map(np.array_equal, joined, cells))
        assert len(first.mask) == len(second.mask) == 4


class Told:
    """Stands for a learner; its logits follow from the row that an image says."""

    def logits(self, state: Any, cells: Cells) -> np.ndarray:
        row = np.asarray(cells.images)[:, 0, 0, :1].astype(np.float32)
        return np.concatenate([np.sin(row), np.cos(row), row % 2], axis=1)


def test_logits_come_in_the_order_of_the_rows() -> None:
    feed, _ = feed_of(21, 8, Host(4))
    rows = np.random.default_rng(1).permutation(31)[:19]
    found = feed.logits(Told(), None, rows)  # type: ignore[arg-type]
    expected = np.stack([np.sin(rows), np.cos(rows), rows % 2], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("validation", [4, 0])
def test_validation_is_of_the_rows_set_aside(validation: int) -> None:
    """Or of the tested ones where none are, which then never choose a checkpoint."""
    feed, fold = feed_of(21, 8, Host(), validation=validation)
    assert feed.set_aside == bool(validation)
    rows = np.asarray(fold.validation if validation else fold.test)[: validation or 10]
    assert sorted(feed.watched) == sorted(rows)
    logits = Told().logits(None, Cells(rows[:, None, None, None], *(np.empty(0),) * 3))  # type: ignore[arg-type]
    p = softmax(logits.astype(np.float64), axis=1)
    labels = rows * 7 % CLASSES
    loss, accuracy = feed.validate(Told(), None)  # type: ignore[arg-type]
    assert loss == pytest.approx(log_loss(labels, p, labels=range(CLASSES)), rel=1e-6)
    assert accuracy == pytest.approx((p.argmax(1) == labels).mean())


def test_nothing_is_left_open() -> None:
    """A run that ends early closes what reads ahead."""
    feed, _ = feed_of(21, 8, Host())
    batches = feed.training(0)
    list(itertools.islice(batches, 2))
    batches.close()
    assert list(batches) == []


def test_balanced_sampling_is_the_frozen_regimes() -> None:
    """As many batches as ever, of draws in which the classes are equally often, and other ones each epoch."""
    feed, fold = feed_of(21, 8, Host(), sampling="balanced")
    read = rows_of(feed.training(0))
    assert [len(rows) for rows in read] == [8, 8, 5] * EPOCHS
    labels = jax.numpy.asarray(np.arange(31, dtype=np.int32) * 7 % CLASSES)
    for epoch in range(EPOCHS):
        key = jax.random.fold_in(jax.random.fold_in(KEY, ORDER), epoch)
        rows = [row for batch in read[epoch * 3 : epoch * 3 + 3] for row in batch]
        assert rows == np.asarray(drawn(key, fold, labels))[:21].tolist()
        assert np.bincount(np.asarray(labels)[rows]).tolist() == [7, 7, 7]
    assert read[0] != read[3]
