"""scikit-learn's classifiers: unchanged, with calibrated probabilities, stored without pickle."""

import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import skops.io
from ml_collections import ConfigDict
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from alljax.config import default_config, vary
from alljax.errors import ConfigError, WorkdirError
from alljax.training import classifiers
from alljax.training.classifiers import Classifier

SAME = {
    "logistic": LogisticRegression(C=0.5, random_state=3),
    "svm": SVC(C=0.5, gamma=0.2, random_state=3),
    "knn": KNeighborsClassifier(4),
    "random_forest": RandomForestClassifier(7, random_state=3),
}


def make(name: str, **settings: float) -> ConfigDict:
    changes = {"name": name, "C": 0.5, "gamma": 0.2, "n_neighbors": 4, "n_estimators": 7} | settings
    return vary(default_config(), {f"classifier.{key}": value for key, value in changes.items()})


def clusters(classes: int, distance: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(90) % classes
    noise = np.random.default_rng(seed).normal(size=(90, 6))
    return (noise + distance * labels[:, None]).astype(np.float32), labels


def test_regularization_of_dinobloom() -> None:
    """Its code has C = features · classes / 100."""
    features, labels = clusters(3)
    ours, theirs = classifiers.fit(make("logistic", C=0.0), features, labels, 0), LogisticRegression(C=6 * 3 / 100)
    assert np.array_equal(ours.coef_, theirs.fit(features, labels).coef_)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", SAME)
def test_estimators_are_those_of_scikit_learn_also_after_storage(name: str, classes: int, tmp_path: Path) -> None:
    (features, labels), (unseen, truth) = clusters(classes), clusters(classes, seed=1)
    estimator = classifiers.fit(make(name), features, labels, seed=3)
    reference = SAME[name].fit(features, labels)
    found = classifiers.scores(estimator, unseen)
    assert found.shape == (90, classes)
    if name == "svm":
        decisions = reference.decision_function(unseen)
        assert np.array_equal(found[:, 1] - found[:, 0] if classes == 2 else found, decisions)
        fitted = Classifier(estimator, classifiers.fit_calibration(found, truth))
        assert np.allclose(fitted.probabilities(unseen).sum(1), 1)
    else:
        fitted = Classifier(estimator)
        assert np.allclose(fitted.probabilities(unseen), reference.predict_proba(unseen), rtol=1e-6)
    file = tmp_path / "trials/svm/checkpoint/classifiers.skops"
    classifiers.save(file, [fitted, fitted])
    loaded = classifiers.load(file)
    assert [np.array_equal(each.probabilities(unseen), fitted.probabilities(unseen)) for each in loaded] == [True] * 2


def test_calibration_is_the_regression_of_platt() -> None:
    """Minimized here by scipy, from the formulas of the paper; close to the true odds; finite if separable."""
    rng = np.random.default_rng(0)
    decisions = rng.normal(size=2000)
    labels = (rng.random(2000) < expit(3 * decisions - 1)).astype(int)
    scores = np.stack([-decisions / 2, decisions / 2], 1)
    fitted = classifiers.fit_calibration(scores, labels)
    positive, negative = np.sum(labels == 1), np.sum(labels == 0)
    targets = np.where(labels == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def loss(line: np.ndarray) -> float:
        odds = line[0] * decisions + line[1]
        return float(np.sum(np.logaddexp(0, odds) - targets * odds))

    found = [fitted.coef_.item(), fitted.intercept_.item()]
    assert found == pytest.approx(minimize(loss, [0.0, 0.0], tol=1e-10).x, abs=1e-4)
    assert found == pytest.approx([3, -1], abs=0.3)
    reversed_order = classifiers.fit_calibration(-scores, labels).predict_proba(np.sort(decisions)[:, None])[:, 1]
    assert (np.diff(reversed_order) >= 0).all()
    assert reversed_order.mean() == pytest.approx(labels.mean(), abs=0.01)
    for classes in (2, 3):
        truth = np.arange(60) % classes
        separated = classifiers.fit_calibration(9 * np.eye(classes)[truth], truth)
        assert np.isfinite(separated.coef_).all()
        assert (separated.predict_proba((9 * np.eye(classes))[:, 1:] - [[9], [0], [0]][:classes]).max(1) > 0.9).all()


def test_more_neighbors_than_images() -> None:
    with pytest.raises(ConfigError, match="n_neighbors=91, but a fold has 90 training images; set it to this or less"):
        classifiers.fit(make("knn", n_neighbors=91), *clusters(2), seed=0)


def test_files_of_other_versions_with_foreign_types_or_damage_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "trials/svm/checkpoint/classifiers.skops"
    fitted = Classifier(classifiers.fit(make("svm"), *clusters(2), seed=0))
    classifiers.save(file, [fitted])
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(tmp_path / "other", "w") as other:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "schema.json":
                pattern = rb'("_sklearn_version": \{[^}]*"content": "\\")[\d.]+'
                content, count = re.subn(pattern, rb"\g<1>1.5.2", content)
                assert count == 1
            other.writestr(name, content)
    shutil.copy(tmp_path / "other", file)
    with pytest.raises(WorkdirError, match=r"is of scikit-learn 1.5.2, not .*; pip install scikit-learn==1.5.2, or"):
        classifiers.load(file)
    skops.io.dump([(ConfigDict, None)], file)
    with pytest.raises(WorkdirError, match="is not from alljax: .*ConfigDict.* run the study again"):
        classifiers.load(file)
    file.write_bytes(b"PK")
    with pytest.raises(WorkdirError, match="is damaged; remove .*svm and run the study again"):
        classifiers.load(file)
