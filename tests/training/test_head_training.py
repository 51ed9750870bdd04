"""Head training: equal to a plain loop, reproducible, prefixes of each other, compiled once, from memory and disk."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from alljax.config import default_config
from alljax.data import decoded_cache
from alljax.data.splits import Fold
from alljax.models.head import Head
from alljax.training import head_streaming
from alljax.training.head_streaming import StreamingHeadTrainer
from alljax.training.head_training import FoldData, HeadTrainer, make_runs
from alljax.training.optimizers import Hyperparameters, make_optimizer
from alljax.training.sampling import make_fold_rows
from alljax.training.step import FoldOutcome

CLASSES, WIDTH, COUNT = 3, 20, 150
ROWS = np.arange(COUNT)
FOLDS = [Fold(0, 0, ROWS[:107], ROWS[107:]), Fold(0, 1, ROWS[20:], ROWS[:20])]


@pytest.fixture
def config() -> ConfigDict:
    config = default_config()
    config.model.hidden = 16
    config.train.update(epochs=3, batch_size=32, learning_rate=1e-2)
    return config


def make_features(views: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Returns features (N, V, D) that depend on the class, and labels."""
    generator = np.random.default_rng(3)
    labels = generator.integers(0, CLASSES, COUNT).astype(np.int32)
    centers = generator.standard_normal((CLASSES, WIDTH))
    return (centers[labels][:, None] + generator.standard_normal((COUNT, views, WIDTH))).astype(np.float32), labels


def train(config: ConfigDict, fold: int = 0, seeds: int = 2, **options: Any) -> list[FoldOutcome]:
    """Trains heads; `epochs`, `features`, `folds`, `rates` (per seed), `trainer` and `update` are options."""
    features, labels = options.get("features", make_features())
    rows = make_fold_rows(config, labels, CLASSES, options.get("folds", FOLDS))[fold]
    trials = [config.copy_and_resolve_references() for _ in range(seeds)]
    for trial, rate in zip(trials, options.get("rates", ()), strict=False):
        trial.train.learning_rate = rate
    runs = make_runs(jax.vmap(jax.random.key)(jnp.arange(seeds)), trials, rows)
    trainer = options.get("trainer", HeadTrainer)
    data = FoldData(jax.device_put(features) if trainer is HeadTrainer else features, labels, rows)
    update = options.get("update", lambda epochs, note: None)
    epochs = options.get("epochs", (config.train.epochs,))
    return trainer(config, CLASSES, features.shape[2]).train(epochs, runs, data, update=update)


def assert_same(first: Any, second: Any, atol: float = 0) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol), first, second)


def plain_loop(config: ConfigDict, fold: int, seed: int) -> tuple[Any, list, list]:
    """The same training without masks or padding: parameters, (loss, accuracy) per epoch in training and test."""
    features, labels = make_features()
    features, rows = features[:, 0], make_fold_rows(config, labels, CLASSES, FOLDS)[fold]
    head, optimizer = Head(config.model.hidden, CLASSES), make_optimizer(config, Hyperparameters.of(config, 1000))
    key = jax.random.key(seed)
    params = head.init(jax.random.fold_in(key, 0), jnp.asarray(features[:1]))["params"]
    state = optimizer.init(params)

    @jax.jit
    def step(params: Any, state: Any, inputs: jax.Array, targets: jax.Array) -> Any:
        def loss(params: Any) -> Any:
            losses = optax.softmax_cross_entropy_with_integer_labels(head.apply({"params": params}, inputs), targets)
            return jnp.mean(losses * jnp.asarray(rows.class_weights)[targets])

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    def evaluate(params: Any, chosen: np.ndarray) -> np.ndarray:
        logits = head.apply({"params": params}, features[chosen])
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels[chosen])
        return np.array([losses.sum(), (logits.argmax(-1) == labels[chosen]).sum()])

    learned, tested = [], []
    for epoch in range(config.train.epochs):
        random = jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, 1), epoch), (len(rows.train),))
        order = FOLDS[fold].train[np.argsort(np.asarray(random)[: len(FOLDS[fold].train)])]
        total = np.zeros(2)
        for start in range(0, len(order), config.train.batch_size):
            batch = order[start : start + config.train.batch_size]
            total += evaluate(params, batch)
            params, state = step(params, state, features[batch], labels[batch])
        learned.append(total / len(order))
        tested.append(evaluate(params, FOLDS[fold].test) / len(FOLDS[fold].test))
    return params, learned, tested


@pytest.mark.parametrize(("optimizer", "fold", "class_weights"), [("adam", 0, "balanced"), ("rmsprop", 1, "none")])
def test_equals_a_plain_loop(config: ConfigDict, optimizer: str, fold: int, class_weights: str) -> None:
    config.train.update(optimizer=optimizer, class_weights=class_weights)
    (outcome,) = train(config, fold)
    for seed in range(2):
        params, learned, tested = plain_loop(config, fold, seed)
        assert_same(outcome.select(slice(seed, seed + 1)).params, jax.tree.map(lambda leaf: leaf[None], params), 2e-5)
        history = jax.tree.map(lambda values, seed=seed: values[:, seed], outcome.history)
        np.testing.assert_allclose(np.stack([history.train_loss, history.train_accuracy], 1), learned, rtol=1e-4)
        np.testing.assert_allclose(np.stack([history.val_loss, history.val_accuracy], 1), tested, rtol=1e-4)


def test_same_seed_same_bits(config: ConfigDict) -> None:
    first, second = train(config), train(config)
    assert_same(first, second)
    assert not np.array_equal(first[0].probabilities[0], first[0].probabilities[1])
    assert_same(train(config, seeds=1)[0].probabilities[0], first[0].probabilities[0])


def test_short_training_is_the_beginning_of_a_long_one(config: ConfigDict) -> None:
    calls: list[int] = []
    short, long = train(config, epochs=(14, 28), update=lambda epochs, note: calls.append(epochs))
    assert calls == [2 * 7] * 4, "over two runs, the most epochs per call that divide both"
    assert long.history.train_loss.shape == (28, 2)
    assert_same(long.history.train_loss[:14], short.history.train_loss)
    assert_same(train(config, epochs=(14,)), [short])
    assert_same(train(config, epochs=(13,))[0].history.train_loss, short.history.train_loss[:13])


def test_accumulation_and_moving_average(config: ConfigDict) -> None:
    (expected,) = train(config)
    config.train.accumulation_steps = 5  # pads batches of 32 to 35
    assert_same(train(config), [expected], 2e-5)
    config.train.update(accumulation_steps=1, ema_decay=0.9)
    (average,) = train(config)
    assert_same(average.history.train_loss, expected.history.train_loss, 2e-5)
    assert not np.allclose(average.params["dense"]["kernel"], expected.params["dense"]["kernel"], atol=1e-4)


def test_validation_rows_differ_from_test_rows(config: ConfigDict) -> None:
    features, labels = make_features()
    fold = Fold(0, 0, ROWS[:90], ROWS[107:], validation=ROWS[90:107])
    (outcome,) = train(config, seeds=1, folds=[fold])
    params = jax.tree.map(lambda leaf: leaf[0], outcome.params)
    logits = Head(config.model.hidden, CLASSES).apply({"params": params}, features[:, 0])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    np.testing.assert_allclose(outcome.history.val_loss[-1, 0], losses[fold.validation].mean(), rtol=1e-4)
    np.testing.assert_allclose(outcome.probabilities[0], jax.nn.softmax(logits[fold.test]), atol=1e-6)


def test_runs_side_by_side_as_on_an_accelerator(config: ConfigDict, monkeypatch: pytest.MonkeyPatch) -> None:
    in_sequence = train(config, epochs=(2, 4))
    config.train.focal_gamma = 3.0  # has no effect, but trainers that are equal would share what is compiled
    config.train.label_smoothing = 1e-9
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert_same(train(config, epochs=(2, 4)), in_sequence, 2e-5)


def test_only_as_many_runs_as_fit_into_memory(config: ConfigDict, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = train(config, seeds=3, epochs=(1, 2), rates=(1e-2, 1e-3, 1e-1))
    size = 12 * HeadTrainer(config, CLASSES, WIDTH).num_parameters
    monkeypatch.setattr(decoded_cache, "host_memory", lambda: 2 * size + 1)
    lengths: list[int] = []
    grouped = train(
        config, seeds=3, epochs=(1, 2), rates=(1e-2, 1e-3, 1e-1), update=lambda runs, note: lengths.append(runs)
    )
    assert lengths == [2, 2, 1, 1]
    assert_same(grouped, expected)


def test_folds_and_numbers_do_not_compile_again(config: ConfigDict, compilations: list[str]) -> None:
    """Two folds compile everything; five folds, other learning rates and other numbers of epochs nothing."""
    folds = [Fold(0, number, np.delete(ROWS, ROWS[number::5]), ROWS[number::5]) for number in range(5)]
    config.train.optimizer = "lamb"
    for number in range(2):
        train(config, number, folds=folds, epochs=(2, 4))
    programs = ["jit(_predict)", "jit(init)", "jit(train_epochs)"]
    assert [name for name in sorted(compilations) if name in programs] == programs
    before = len(compilations)
    for number in range(5):
        config.train.learning_rate = 10.0**-number
        train(config, number, folds=folds, epochs=(2, 4, 6))
    assert compilations[before:] == []


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_from_disk_and_from_memory(
    config: ConfigDict, optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two views, dropout, two learning rates, a padded fold, blocks of three steps and of seven rows."""
    config.train.update(optimizer=optimizer, batch_size=8)
    config.model.dropout = 0.1
    features, labels = make_features(views=2)
    np.save(tmp_path / "features.npy", features)
    on_disk = np.load(tmp_path / "features.npy", mmap_mode="r")
    options = {"epochs": (2, 4), "rates": (1e-2, 3e-3)}
    expected = train(config, features=(features, labels), **options)
    monkeypatch.setattr(head_streaming, "BLOCK", 3 * 2 * 8 * WIDTH * 4)
    streamed = train(config, features=(on_disk, labels), trainer=StreamingHeadTrainer, **options)
    assert_same(streamed, expected, 2e-5)
    assert not np.array_equal(streamed[0].params["dense"]["kernel"], streamed[1].params["dense"]["kernel"])


def test_blocks_do_not_compile_again(
    config: ConfigDict, compilations: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_streaming, "BLOCK", 2 * 2 * 32 * WIDTH * 4)
    folds = [Fold(0, number, ROWS[: 70 + 15 * number], ROWS[-20 - number :]) for number in range(3)]
    train(config, 2, folds=folds, trainer=StreamingHeadTrainer)
    before = len(compilations)
    for number in range(3):
        train(config, number, folds=folds, trainer=StreamingHeadTrainer)
    assert compilations[before:] == []


def test_each_epoch_shows_a_random_view_of_each_image(config: ConfigDict) -> None:
    """With a learning rate of zero the loss of an epoch identifies the views."""
    config.train.update(epochs=120, learning_rate=0.0)
    features, labels = make_features(views=8)
    features[2, 1:] += 100  # of the test image only view 0 may be used
    folds = [Fold(0, 0, ROWS[:2], ROWS[2:3])]
    (outcome,) = train(config, seeds=1, features=(features, labels), folds=folds)
    params = jax.tree.map(lambda leaf: leaf[0], outcome.params)
    logits = Head(config.model.hidden, CLASSES).apply({"params": params}, features[:3])
    losses = -np.asarray(jax.nn.log_softmax(logits))[np.arange(3), :, labels[:3]]
    possible = (losses[0, :, None] + losses[1, None, :]) / 2
    distances = np.abs(outcome.history.train_loss[:, :, None] - possible)
    assert distances.min((1, 2)).max() < 1e-5
    shown = {np.unravel_index(each.argmin(), (8, 8)) for each in distances}
    assert {int(view) for view, _ in shown} == {int(view) for _, view in shown} == set(range(8))
    assert len(shown) > 30, "the views of two images are independent"
    np.testing.assert_allclose(outcome.history.val_loss, losses[2, 0], rtol=1e-4)
