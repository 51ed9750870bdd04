"""Head runs: exact against a plain loop, bit-identical, prefixes of one another, every cell counted."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from alljax.config import default_config
from alljax.data.splits import Split
from alljax.models.head import Head
from alljax.training import head_training, optimizers
from alljax.training.sampling import make_fold_rows, steps_per_epoch

CLASSES, WIDTH = 3, 20


@pytest.fixture
def config() -> ConfigDict:
    config = default_config()
    config.model.hidden = 16
    config.train.update(epochs=3, batch_size=32, learning_rate=1e-2)
    return config


def rows(count: int = 150) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    labels = generator.integers(0, CLASSES, count).astype(np.int32)
    centers = generator.standard_normal((CLASSES, WIDTH))
    return (centers[labels] + generator.standard_normal((count, WIDTH))).astype(np.float32), labels


def splits() -> list[Split]:
    everything = np.arange(150)
    return [Split(0, 0, everything[:107], everything[107:]), Split(0, 1, everything[20:], everything[:20])]


def run(config: ConfigDict, split: int = 0, seeds: int = 2) -> head_training.HeadRuns:
    features, labels = rows()
    fold = make_fold_rows(config, labels, CLASSES, splits())[split]
    keys = jnp.stack([jax.random.key(seed) for seed in range(seeds)])
    return jax.device_get(
        head_training.make_train(config, CLASSES)(keys, jnp.asarray(features), jnp.asarray(labels), fold)
    )


def identical(first: object, second: object) -> bool:
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, first, second)))


def plain_loop(config: ConfigDict, split: int, seed: int) -> tuple[object, list, list, list]:
    """The same run as anyone would write it, batch by batch, without masks or padding."""
    features, labels = rows()
    fold = make_fold_rows(config, labels, CLASSES, splits())[split]
    chosen = splits()[split]
    head, optimizer = Head(config.model.hidden, CLASSES), optimizers.make_optimizer(config, 1000)
    key = jax.random.key(seed)
    params = head.init(jax.random.fold_in(key, 0), jnp.asarray(features[:1]))["params"]
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, inputs, targets):
        def loss(params):
            each = optax.softmax_cross_entropy_with_integer_labels(head.apply({"params": params}, inputs), targets)
            return jnp.mean(each * fold.class_weights[targets])

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    losses, accuracies, learned = [], [], []
    for epoch in range(config.train.epochs):
        draws = jax.random.uniform(jax.random.fold_in(jax.random.fold_in(key, 1), epoch), (len(fold.train),))
        order = chosen.train[np.argsort(np.asarray(draws)[: len(chosen.train)])]
        hits, total = 0, 0.0
        for start in range(0, len(order), config.train.batch_size):
            batch = order[start : start + config.train.batch_size]
            before = head.apply({"params": params}, features[batch])
            hits += int((before.argmax(-1) == labels[batch]).sum())
            total += float(optax.softmax_cross_entropy_with_integer_labels(before, labels[batch]).sum())
            params, state = step(params, state, features[batch], labels[batch])
        learned.append((total / len(order), hits / len(order)))
        logits = head.apply({"params": params}, features[chosen.test])
        losses.append(optax.softmax_cross_entropy_with_integer_labels(logits, labels[chosen.test]).mean())
        accuracies.append((logits.argmax(-1) == labels[chosen.test]).mean())
    return params, learned, losses, accuracies


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
@pytest.mark.parametrize("split", [0, 1])
@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_equals_a_plain_loop(config: ConfigDict, optimizer: str, split: int, class_weights: str) -> None:
    config.train.update(optimizer=optimizer, class_weights=class_weights)
    runs = run(config, split)
    for seed in range(2):
        params, learned, losses, accuracies = plain_loop(config, split, seed)
        ours = jax.tree.map(lambda leaf, seed=seed: leaf[seed], runs.params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), ours, params)
        curves = np.stack([runs.curves.train_loss[:, seed], runs.curves.train_accuracy[:, seed]], 1)
        np.testing.assert_allclose(curves, learned, rtol=1e-4)
        np.testing.assert_allclose(runs.curves.val_loss[:, seed], losses, rtol=1e-4)
        np.testing.assert_allclose(runs.curves.val_accuracy[:, seed], accuracies, rtol=1e-6)


def test_same_seed_same_bits(config: ConfigDict) -> None:
    assert identical(run(config), run(config))


def test_other_seed_other_numbers(config: ConfigDict) -> None:
    probabilities = run(config).probabilities
    assert not np.array_equal(probabilities[0], probabilities[1])


def test_ten_epochs_are_the_first_ten_of_a_hundred(config: ConfigDict) -> None:
    short, long = config.copy_and_resolve_references(), config.copy_and_resolve_references()
    short.train.epochs, long.train.epochs = 10, 100
    first, all_of_it = run(short), run(long)
    assert identical(first.curves, jax.tree.map(lambda curve: curve[:10], all_of_it.curves))


def test_the_short_last_batch_counts() -> None:
    """The paper's 8,528 images at batch 32; that the last 16 are learned from, test_equals_a_plain_loop shows."""
    assert steps_per_epoch(8528, 32) == 267


def test_padding_never_reaches_the_loss(config: ConfigDict) -> None:
    """A fold padded to a longer one's shape gives the same numbers as alone."""
    features, labels = rows()
    alone = make_fold_rows(config, labels, CLASSES, splits()[:1])[0]
    padded = make_fold_rows(config, labels, CLASSES, splits())[0]
    assert len(padded.train) > len(alone.train)
    poisoned = dataclasses.replace(padded, train=np.where(np.arange(len(padded.train)) < 107, padded.train, 149))
    keys = jax.random.key(5)[None]
    train = head_training.make_train(config, CLASSES)
    first = train(keys, jnp.asarray(features), jnp.asarray(labels), padded)
    second = train(keys, jnp.asarray(features), jnp.asarray(labels), poisoned)
    assert identical(first, second)


def test_validation_curves_are_of_the_rows_set_aside(config: ConfigDict) -> None:
    """They differ in number between folds; the probabilities stay those of the test rows."""
    features, labels = rows()
    everything = np.arange(150)
    aside = [
        Split(0, 0, everything[:90], everything[107:], validation=everything[90:107]),
        Split(0, 1, everything[55:], everything[:20], validation=everything[20:55]),
    ]
    train = head_training.make_train(config, CLASSES)
    keys = jnp.stack([jax.random.key(seed) for seed in range(2)])
    for split, fold in zip(aside, make_fold_rows(config, labels, CLASSES, aside), strict=True):
        runs = jax.device_get(train(keys, jnp.asarray(features), jnp.asarray(labels), fold))
        for seed in range(2):
            params = jax.tree.map(lambda leaf, seed=seed: leaf[seed], runs.params)
            logits = Head(config.model.hidden, CLASSES).apply({"params": params}, features)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            np.testing.assert_allclose(runs.curves.val_loss[-1, seed], losses[split.validation].mean(), rtol=1e-4)
            right = (logits.argmax(-1) == labels)[split.validation]
            np.testing.assert_allclose(runs.curves.val_accuracy[-1, seed], right.mean(), rtol=1e-6)
            tested = runs.probabilities[seed, : len(split.test)]
            np.testing.assert_allclose(tested, jax.nn.softmax(logits[split.test]), atol=1e-6)


def test_budgets_are_told_of_stride_by_stride_and_the_first_epochs_of_a_long_run_are_a_short_one(
    config: ConfigDict,
) -> None:
    features, labels = rows()
    fold = make_fold_rows(config, labels, CLASSES, splits())[0]
    keys = jnp.stack([jax.random.key(seed) for seed in range(2)])
    numbers = optimizers.stack([optimizers.numbers(config)] * 2)
    arguments = keys, numbers, jnp.asarray(features), jnp.asarray(labels), fold
    told: list[int] = []
    heads = head_training.make_heads(config, CLASSES)

    def train(budgets: tuple[int, ...]) -> list[head_training.HeadRuns]:
        watch = lambda curves: told.append(len(curves.train_loss))  # noqa: E731
        return [jax.device_get(run) for run in head_training.train_heads(heads, budgets, *arguments, watch)]

    short, long = train((14, 28))
    assert told == [7] * 4, "the longest stride of at most ten epochs that divides both"
    assert long.curves.train_loss.shape == (28, 2)
    assert np.array_equal(long.curves.train_loss[:14], short.curves.train_loss)
    (alone,) = train((14,))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, alone, short)))
    (otherwise,) = train((13,))
    assert told[-13:] == [1] * 13
    assert np.array_equal(otherwise.curves.train_loss, short.curves.train_loss[:13])


def test_a_seed_alone_is_the_seed_among_others(config: ConfigDict) -> None:
    assert np.array_equal(run(config, seeds=1).probabilities[0], run(config, seeds=3).probabilities[0])


def test_seeds_together_as_on_an_accelerator(config: ConfigDict, monkeypatch: pytest.MonkeyPatch) -> None:
    in_turn = run(config)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    together = run(config)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), in_turn, together)
