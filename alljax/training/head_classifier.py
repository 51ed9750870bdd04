"""The head of a frozen trial as an estimator of scikit-learn."""

import numbers
from dataclasses import replace
from typing import Any, Self

import jax
import numpy as np
from ml_collections import ConfigDict
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from alljax.config import default_config, load_config
from alljax.data.splits import Fold
from alljax.errors import ConfigError
from alljax.training.head_training import HeadTrainer, make_runs
from alljax.training.sampling import fold_keys, make_fold_rows

DEFAULTS = default_config()


class HeadClassifier(ClassifierMixin, BaseEstimator):
    """The head that a study trains on features of a frozen network, as an estimator of scikit-learn.

    Hidden units with ReLU, dropout, and a softmax over the classes, trained as in a frozen trial: the same parameters,
    rows and `random_state` give the same numbers as fold 0 of a study. Defaults and valid values are those of the
    settings with these names. Fits to about equally many rows, or with other numbers such as `learning_rate` and
    `epochs`, share their compiled programs.

    It passes scikit-learn's `check_estimator` but for ``check_sample_weight_equivalence_on_dense_data``: a row with
    weight 2 counts as two rows in the loss, but takes one place in a batch.

    Args:
        hidden: Number of hidden units.
        optimizer: ``adam``, ``rmsprop``, ``sgd`` (with momentum), as Keras computes them, or ``adamw``.
        epochs: Number of passes over the rows.
        batch_size: Rows per step; the last batch of an epoch may be smaller.
        learning_rate: Of the first step; in step s it is ``learning_rate · decay_rate ** (s / decay_steps)``.
        decay_steps: See `learning_rate`.
        decay_rate: See `learning_rate`; 1 keeps it constant.
        weight_decay: Decoupled from the gradient, multiplied by the learning rate.
        dropout: Fraction of the hidden units that are dropped during training.
        class_weight: ``balanced``, a weight per class, or None; the loss of a row is multiplied by that of its class.
        random_state: An int, a `numpy.random.RandomState`, or None for other numbers in each fit.

    Attributes:
        classes_: The classes in the order of the probabilities, (C,).
        n_features_in_: The number of features.
        params_: The parameters by their path, such as ``dense/kernel``.
        loss_curve_: Mean cross-entropy (nats) of the rows, without weights, during each epoch.

    >>> features = np.random.default_rng(0).normal(size=(60, 8))
    >>> labels = np.where(features[:, 0] > 0, "blast", "normal")
    >>> head = alljax.HeadClassifier(hidden=16, learning_rate=0.01, random_state=1).fit(features, labels)
    >>> head.predict_proba(features).shape, head.classes_.tolist()
    ((60, 2), ['blast', 'normal'])
    >>> bool(head.score(features, labels) > 0.9)
    True
    """

    def __init__(
        self, hidden: int = DEFAULTS.model.hidden, optimizer: str = DEFAULTS.train.optimizer,
        epochs: int = DEFAULTS.train.epochs, *, batch_size: int = DEFAULTS.train.batch_size,
        learning_rate: float = DEFAULTS.train.learning_rate, decay_steps: int = DEFAULTS.train.decay_steps,
        decay_rate: float = DEFAULTS.train.decay_rate, weight_decay: float = DEFAULTS.train.weight_decay,
        dropout: float = DEFAULTS.model.dropout, class_weight: Any = None, random_state: Any = DEFAULTS.seed,
    ) -> None:  # fmt: skip
        self.hidden, self.optimizer, self.epochs, self.batch_size = hidden, optimizer, epochs, batch_size
        self.learning_rate, self.decay_steps, self.decay_rate = learning_rate, decay_steps, decay_rate
        self.weight_decay, self.dropout = weight_decay, dropout
        self.class_weight, self.random_state = class_weight, random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """Trains the head on features (N, D) and labels (N,); weights (N,) multiply the losses of the rows.

        `ConfigError`: an invalid parameter, or the loss became NaN.
        """
        config = self._resolve()
        features, labels = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(labels)
        self.classes_, index = np.unique(labels, return_inverse=True)
        class_weights = compute_class_weight(self.class_weight, classes=self.classes_, y=labels).astype(np.float32)
        weights = _pad(_check_sample_weight(sample_weight, features, dtype=np.float32))
        split = Fold(0, 0, train=np.arange(len(index)), test=np.arange(1))
        fold = make_fold_rows(config, index, len(self.classes_), [split])[0]
        fold = replace(fold, train=_pad(fold.train), class_weights=class_weights, sample_weights=weights)
        self._config, trainer = config, HeadTrainer(config, len(self.classes_), features.shape[1])
        runs, losses = make_runs(fold_keys(config, fold), config, fold), []
        state = trainer.init(runs.key)
        features, targets = jax.device_put((_pad(features), _pad(index.astype(np.int32))))
        for epoch in range(config.train.epochs):
            state = trainer.train_epoch(state, runs, features, targets, fold, epoch)
            losses.append(state.metrics.means[0])
        params, losses = jax.device_get((state.eval_params, losses))
        if not np.isfinite(losses[-1]):
            raise ConfigError(f"the loss became NaN; lower learning_rate={self.learning_rate:g}")
        self.params_ = {path: leaf[0] for path, leaf in params.items()}
        self.loss_curve_ = np.concatenate(losses)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Returns the probability of each of `classes_` for features (N, D), float32 (N, C)."""
        check_is_fitted(self)
        features = validate_data(self, X, dtype=np.float32, reset=False)
        trainer = HeadTrainer(self._config, len(self.classes_), features.shape[1])
        params = {path: leaf[None] for path, leaf in self.params_.items()}
        padded = jax.device_put(_pad(features))
        _, (probabilities,) = trainer.evaluate(params, padded, np.zeros(len(padded), np.int32), np.arange(len(padded)))
        return probabilities[: len(features)]

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Returns the most probable of `classes_` for features (N, D), (N,)."""
        index = self.predict_proba(X).argmax(1)  # first: it raises an error before `fit`
        return self.classes_[index]

    def _resolve(self) -> ConfigDict:
        """Returns the config of a trial with these parameters."""
        given = isinstance(self.random_state, numbers.Integral)
        seed = self.random_state if given else check_random_state(self.random_state).randint(10**9)
        values = {"model.hidden": self.hidden, "model.dropout": self.dropout, "seed": seed}
        for name in ("optimizer", "epochs", "batch_size", "learning_rate", "decay_steps", "decay_rate", "weight_decay"):
            values[f"train.{name}"] = getattr(self, name)
        # A grid may be of NumPy's numbers.
        plain = {key: value.item() if isinstance(value, np.generic) else value for key, value in values.items()}
        return load_config(**plain)


def _pad(array: np.ndarray) -> np.ndarray:
    """Returns an array (N, …) padded to a power of two rows, at least 64: each number of rows is compiled once."""
    size = max(64, 1 << (len(array) - 1).bit_length())
    return np.pad(array, [(0, size - len(array)), *[(0, 0)] * (array.ndim - 1)])
