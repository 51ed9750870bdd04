"""`HeadClassifier`: the conventions of scikit-learn, the numbers of a study, and programs that are compiled once."""

import pickle
from typing import Any

import jax
import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from alljax import HeadClassifier
from alljax.config import default_config
from alljax.data.splits import Fold
from alljax.errors import ConfigError
from alljax.study.sweep import Job, Trial
from alljax.study.trials import make_heads
from alljax.training.sampling import make_fold_rows

SMALL = HeadClassifier(hidden=8, epochs=10, learning_rate=0.03)
EXCEPTIONS = {"check_sample_weight_equivalence_on_dense_data": "a row of weight 2 takes one place in a batch"}
CHECKS = [*estimator_checks_generator(SMALL, expected_failed_checks=EXCEPTIONS, mark="xfail")]


def clusters(rows: int = 90, classes: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns features (N, 6), names of the classes and subjects, each of one class."""
    generator = np.random.default_rng(2)
    subjects = generator.integers(4 * classes, size=rows)
    centers = generator.normal(scale=2, size=(classes, 6))
    labels = np.array(["normal", "blast", "other"])[:classes]
    return generator.normal(size=(rows, 6)) + centers[subjects % classes], labels[subjects % classes], subjects


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("estimator", "check"), CHECKS, ids=lambda value: getattr(value, "func", str).__name__)
def test_conventions_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def test_numbers_of_a_frozen_trial() -> None:
    """On the first of two folds of unequal sizes, with dropout and decay, as `study.trials` trains it."""
    features, labels, _ = clusters()
    classes, index = np.unique(labels, return_inverse=True)
    config = default_config()
    config.seed = 5
    config.model.update(hidden=8, dropout=0.2)
    config.train.update(optimizer="rmsprop", epochs=4, learning_rate=0.01, decay_steps=3, weight_decay=0.01,
                        class_weights="balanced")  # fmt: skip
    rows = np.arange(90)
    folds = [Fold(0, 0, rows[:59], rows[59:]), Fold(0, 1, rows[20:], rows[:20])]
    job, features = Job((Trial("trial", config, ""),)), features.astype(np.float32)
    fold, _ = make_fold_rows(config, index, 3, folds)
    trainer, runs = make_heads(job, fold, 6, None)
    (outcome,) = trainer.train([4], runs, jax.device_put(features), index.astype(np.int32), fold, lambda *done: None)
    head = HeadClassifier(8, "rmsprop", 4, learning_rate=0.01, decay_steps=3, weight_decay=0.01, dropout=0.2,
                          class_weight="balanced", random_state=5).fit(features[:59], labels[:59])  # fmt: skip
    assert head.classes_.tolist() == classes.tolist()
    np.testing.assert_allclose(head.predict_proba(features[59:]), outcome.probabilities[0, :31], rtol=1e-5)
    np.testing.assert_allclose(head.loss_curve_, outcome.history.train_loss[0], rtol=1e-5)
    np.testing.assert_allclose(head.params_["dense/kernel"], outcome.params["dense"]["kernel"][0], rtol=1e-4, atol=1e-6)


def test_weights_of_rows_multiply_the_loss() -> None:
    """Weights equal to those of the classes have the effect of class weights; a row of weight 0 has none."""
    features, labels, _ = clusters()
    weight = {"normal": 0.5, "blast": 1.0, "other": 2.0}
    of_rows = np.array([weight[label] for label in labels])
    by_class = clone(SMALL).set_params(class_weight=weight).fit(features, labels)
    by_row = clone(SMALL).fit(features, labels, of_rows)
    np.testing.assert_allclose(by_row.predict_proba(features), by_class.predict_proba(features), rtol=1e-5)
    changed = np.where(np.arange(90) == 7, "blast", labels)
    of_rows[7] = 0
    expected = clone(SMALL).fit(features, labels, of_rows).predict_proba(features)
    assert np.array_equal(clone(SMALL).fit(features, changed, of_rows).predict_proba(features), expected)


def test_selection_with_groups_in_a_pipeline_compiles_nothing_new(compilations: list[str]) -> None:
    features, labels, subjects = clusters()
    for rows in (60, 90):
        clone(SMALL).fit(features[:rows], labels[:rows]).predict(features[:10])
    before = len(compilations)
    pipeline = make_pipeline(StandardScaler(), SMALL)
    grid = {"headclassifier__learning_rate": np.logspace(-4, -1, 3), "headclassifier__epochs": np.array([2, 3])}
    search = GridSearchCV(pipeline, grid, cv=StratifiedGroupKFold(3), scoring="neg_log_loss")
    search.fit(features, labels, groups=subjects)
    assert search.best_params_ == {"headclassifier__learning_rate": 0.1, "headclassifier__epochs": 3}
    held_out = cross_val_predict(pipeline, features, labels, groups=subjects, cv=search.cv, method="predict_proba")
    assert np.mean(search.classes_[held_out.argmax(1)] == labels) > 0.8
    assert compilations[before:] == []


def test_copies_and_seeds() -> None:
    features, labels, _ = clusters()
    first = clone(SMALL).fit(features, labels)
    expected = first.predict_proba(features)
    loaded = pickle.loads(pickle.dumps(first.set_params(hidden=3)))
    assert np.array_equal(loaded.predict_proba(features), expected), "parameters that are set later do not matter"
    random = [clone(SMALL).set_params(random_state=state).fit(features, labels).predict_proba(features)
              for state in (0, np.random.RandomState(1), np.random.RandomState(1), None, None)]  # fmt: skip
    assert np.array_equal(random[0], expected)
    assert np.array_equal(random[1], random[2])
    assert not np.array_equal(random[3], random[4])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"optimizer": "adan"},
            "train.optimizer='adan' is not one of the choices 'adam', 'rmsprop', 'adamw'",
        ),
        ({"dropout": 1.0}, "model.dropout=1.0 is out of range; it must be at least 0 and below 1"),
        ({"epochs": 2.5}, "train.epochs=2.5 has the wrong type; it takes an integer"),
        ({"learning_rate": 1e30}, r"the loss became NaN; lower learning_rate=1e\+30"),
    ],
)
def test_invalid_parameters(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SMALL.__class__(**SMALL.get_params() | parameters).fit(*clusters()[:2])
