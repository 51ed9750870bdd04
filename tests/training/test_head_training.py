"""Head training: equal to a plain loop, reproducible, prefixes of each other, compiled once, from memory and disk."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from alljax import files
from alljax.config import default_config
from alljax.data.splits import Fold
from alljax.models.head import Head
from alljax.training import head_training
from alljax.training.head_training import FoldOutcome, HeadTrainer, make_runs
from alljax.training.optimizers import hyperparameters_of, make_optimizer
from alljax.training.sampling import make_fold_rows
from alljax.training.step import INIT, SHUFFLE

CLASSES, WIDTH, HIDDEN, COUNT = 3, 20, 16, 150
ROWS = np.arange(COUNT)
FOLDS = [Fold(0, 0, ROWS[:107], ROWS[107:]), Fold(0, 1, ROWS[20:], ROWS[:20])]


@pytest.fixture
def config() -> ConfigDict:
    config = default_config()
    config.model.hidden = HIDDEN
    config.train.update(epochs=3, batch_size=32, learning_rate=1e-2)
    return config


def make_features() -> tuple[np.ndarray, np.ndarray]:
    """Returns features (N, D) that depend on the class, and labels."""
    generator = np.random.default_rng(3)
    labels = generator.integers(0, CLASSES, COUNT).astype(np.int32)
    centers = generator.standard_normal((CLASSES, WIDTH))
    return (centers[labels] + generator.standard_normal((COUNT, WIDTH))).astype(np.float32), labels


def train(config: ConfigDict, fold: int = 0, seeds: int = 2, **options: Any) -> list[FoldOutcome]:
    """Trains heads; `epochs`, `features`, `on_device`, `folds` and `update` are options."""
    features, labels = options.get("features", make_features())
    rows = make_fold_rows(config, labels, CLASSES, options.get("folds", FOLDS))[fold]
    runs = make_runs(jax.vmap(jax.random.key)(jnp.arange(seeds)), config, rows)
    features = jax.device_put(features) if options.get("on_device", True) else features
    epochs, update = options.get("epochs", (config.train.epochs,)), options.get("update", lambda epochs, accuracy: None)
    return HeadTrainer(config, CLASSES, WIDTH).train(epochs, runs, features, labels, rows, update)


def assert_same(first: Any, second: Any, atol: float = 0) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol), first, second)


def plain_loop(config: ConfigDict, fold: int, seed: int) -> tuple[Any, list[np.ndarray]]:
    """The same training without masks or padding: parameters, and the numbers of `History` per epoch."""
    features, labels = make_features()
    weights = make_fold_rows(config, labels, CLASSES, FOLDS)[fold].class_weights
    head, numbers = Head(HIDDEN, CLASSES), hyperparameters_of(config, 1000)
    key, history = jax.random.key(seed), []
    params = head.init(jax.random.fold_in(key, INIT), features[:1])["params"]
    state, step = make_optimizer(config, numbers, 0).init(params), 0
    update = jax.jit(lambda step, *arguments: make_optimizer(config, numbers, step).update(*arguments))

    def metrics(params: Any, inputs: Any, targets: Any) -> tuple[jax.Array, jax.Array]:
        logits: Any = head.apply({"params": params}, inputs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets), logits.argmax(-1) == targets

    gradient = jax.jit(jax.grad(lambda *args: jnp.mean(metrics(*args)[0] * jnp.asarray(weights)[args[2]])))
    train, test = FOLDS[fold].train, FOLDS[fold].test
    for epoch in range(config.train.epochs):
        random = jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, SHUFFLE), epoch), (130,))
        order, learned = train[np.argsort(random[: len(train)])], []
        for rows in np.split(order, range(config.train.batch_size, len(order), config.train.batch_size)):
            learned.append(np.array(metrics(params, features[rows], labels[rows])))
            updates, state = update(step, gradient(params, features[rows], labels[rows]), state, params)
            params, step = optax.apply_updates(params, updates), step + 1
        tested = np.array(metrics(params, features[test], labels[test]))
        history.append(np.concatenate([np.concatenate(learned, 1).mean(1), tested.mean(1)]))
    return params, history


@pytest.mark.parametrize(("optimizer", "fold", "class_weights"), [("adam", 0, "balanced"), ("rmsprop", 1, "none")])
def test_equals_a_plain_loop(config: ConfigDict, optimizer: str, fold: int, class_weights: str) -> None:
    config.train.update(optimizer=optimizer, class_weights=class_weights)
    (outcome,) = train(config, fold)
    for seed in range(2):
        params, history = plain_loop(config, fold, seed)
        assert_same(jax.tree.map(lambda leaf, seed=seed: leaf[seed], outcome.params), params, 2e-5)
        np.testing.assert_allclose(np.stack(outcome.history[1:])[:, seed].T, history, rtol=1e-4)


def test_same_seed_same_bits(config: ConfigDict) -> None:
    first, second = train(config), train(config)
    assert_same(first, second)
    assert not np.array_equal(first[0].probabilities[0], first[0].probabilities[1])
    assert_same(train(config, seeds=1)[0].probabilities[0], first[0].probabilities[0])


def test_short_training_is_the_beginning_of_a_long_one(config: ConfigDict) -> None:
    calls: list[int] = []
    short, long = train(config, epochs=(3, 5), update=lambda epochs, accuracy: calls.append(epochs))
    assert calls == [1] * 10, "one epoch of one run each"
    assert long.history.train_loss.shape == (2, 5)
    assert_same(long.history.train_loss[:, :3], short.history.train_loss)
    assert_same(train(config, epochs=(3,)), [short])


def test_accumulation_and_moving_average(config: ConfigDict) -> None:
    (expected,) = train(config)
    config.train.accumulation_steps = 5  # pads batches of 32 to 35
    assert_same(train(config), [expected], 2e-5)
    config.train.update(accumulation_steps=1, ema_decay=0.9)
    (average,) = train(config)
    assert_same(average.history.train_loss, expected.history.train_loss, 2e-5)
    assert not np.allclose(average.params["dense"]["kernel"], expected.params["dense"]["kernel"], atol=1e-4)


def test_runs_side_by_side_as_on_an_accelerator(config: ConfigDict, monkeypatch: pytest.MonkeyPatch) -> None:
    in_sequence = train(config, epochs=(2, 4))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert_same(train(config, epochs=(2, 4)), in_sequence, 2e-5)


def test_only_as_many_runs_as_fit_into_memory(config: ConfigDict, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"seeds": 3, "epochs": (1, 2)}
    expected = train(config, **options)
    size = 16 * ((WIDTH + 1) * HIDDEN + (HIDDEN + 1) * CLASSES)
    monkeypatch.setattr(files, "host_memory", lambda: 2 * size + 1)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    lengths: list[int] = []
    grouped = train(config, **options, update=lambda runs, note: lengths.append(runs))
    assert lengths == [2, 2, 1, 1]
    assert_same(grouped, expected, 2e-5)


@pytest.mark.parametrize("on_device", [True, False])
def test_folds_and_numbers_do_not_compile_again(
    config: ConfigDict, compilations: list[str], monkeypatch: pytest.MonkeyPatch, on_device: bool
) -> None:
    """Two folds compile everything; five folds, other learning rates and other numbers of epochs nothing."""
    monkeypatch.setattr(head_training, "BLOCK", 2 * 2 * 32 * WIDTH * 4)  # two steps of two runs, 256 rows
    folds = [Fold(0, number, np.delete(ROWS, ROWS[number::5]), ROWS[number::5]) for number in range(4)]
    folds.append(Fold(0, 4, ROWS[:70], ROWS[-30:]))
    jax.clear_caches()
    for number in range(2):
        train(config, number, folds=folds, epochs=(2, 4), on_device=on_device)
    programs = ["jit(_evaluate)", "jit(_first_states)", "jit(_init)", "jit(_orders)", "jit(_train_steps)"]
    assert [name for name in sorted(compilations) if name in programs] == programs
    before = len(compilations)
    for number in range(5):
        config.train.learning_rate = 10.0**-number
        train(config, number, folds=folds, epochs=(2, 4, 6), on_device=on_device)
    assert compilations[before:] == []


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_from_disk_and_from_memory(
    config: ConfigDict, optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout, a padded fold, blocks of three steps and of seven rows."""
    config.train.update(optimizer=optimizer, batch_size=8)
    config.model.dropout = 0.1
    features, labels = make_features()
    np.save(tmp_path / "features.npy", features)
    on_disk = np.load(tmp_path / "features.npy", mmap_mode="r")
    expected = train(config, features=(features, labels), epochs=(2, 4))
    monkeypatch.setattr(head_training, "BLOCK", 3 * 2 * 8 * WIDTH * 4)
    streamed = train(config, features=(on_disk, labels), on_device=False, epochs=(2, 4))
    assert_same(streamed, expected, 2e-5)
    assert not np.array_equal(streamed[0].params["dense"]["kernel"], streamed[1].params["dense"]["kernel"])
