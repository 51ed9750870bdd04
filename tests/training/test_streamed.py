"""Features on disk: the same numbers as in memory, block by block, never all at once."""

from pathlib import Path

import jax
import numpy as np
import pytest

from alljax.config import default_config
from alljax.data.splits import Split
from alljax.training import head_training, optimizers, streamed
from alljax.training.sampling import make_fold_rows

CELLS, WIDTH, BUDGETS = 50, 24, (2, 4)


@pytest.fixture
def on_disk(tmp_path: Path) -> np.memmap:
    path = tmp_path / "features.npy"
    np.save(path, np.random.default_rng(0).normal(size=(CELLS, 2, WIDTH)).astype(np.float32))
    return np.load(path, mmap_mode="r")


def runs(make, features, **settings: float) -> list[head_training.HeadRuns]:
    config = default_config()
    config.model.hidden = 16
    config.model.dropout = 0.1
    config.train.update(batch_size=8, learning_rate=1e-2, **settings)
    labels = np.arange(CELLS, dtype=np.int32) % 2
    splits = [Split(0, number, np.arange(37 + 3 * number), np.arange(40, 50)) for number in range(2)]
    folds = make_fold_rows(config, labels, 2, splits)  # the second is longer, so the first is padded
    keys = jax.vmap(jax.random.key)(np.arange(2))
    numbers = optimizers.stack([optimizers.numbers(config) | {"learning_rate": rate} for rate in (1e-2, 3e-3)])
    heads = make(config, 2)
    return [
        jax.device_get(run)
        for run in head_training.train_heads(heads, BUDGETS, keys, numbers, features, labels, folds[0])
    ]


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_from_disk_and_from_memory_give_the_same(on_disk: np.memmap, optimizer: str) -> None:
    flat = on_disk.reshape(-1, WIDTH)
    in_memory = runs(head_training.make_heads, jax.device_put(np.asarray(flat)), optimizer=optimizer)

    def make(config, classes):
        return streamed.make_heads(config, classes, block=3 * 8 * WIDTH * 4)  # three steps at once, two left over

    from_disk = runs(make, flat, optimizer=optimizer)
    for one, other in zip(in_memory, from_disk, strict=True):
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, atol=2e-5)
    assert not np.allclose(in_memory[0].probabilities[0], in_memory[0].probabilities[1])  # two learning rates


def test_a_longer_budget_does_not_change_what_a_shorter_one_gave(on_disk: np.memmap) -> None:
    one, other = runs(streamed.make_heads, on_disk.reshape(-1, WIDTH))
    assert one.curves.train_loss.shape == (2, 2)
    assert other.curves.train_loss.shape == (4, 2)
    assert np.array_equal(one.curves.train_loss, other.curves.train_loss[:2])
    assert not np.array_equal(one.params["dense"]["kernel"], other.params["dense"]["kernel"])  # a copy, not donated
