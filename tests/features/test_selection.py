"""Steps of selection beside scikit-learn and plain loops."""

from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, f_classif
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.preprocessing import StandardScaler

from alljax.config import default_config, vary
from alljax.data.protocols import balanced_folds
from alljax.errors import ConfigError, DataError
from alljax.features import selection
from alljax.features.selection import Selection

LABELS = np.arange(90) % 3
GROUPS = np.arange(90) % 18  # each with images of a single class


def make_features(size: int = 40) -> np.ndarray:
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(90, size)) @ rng.normal(size=(size, size)) + LABELS[:, None] * rng.normal(size=size)
    mixed[:, 5], mixed[:, 7] = 3.0, 2 * mixed[:, 6]
    return (100 + rng.uniform(0.1, 9, size) * mixed).astype(np.float32)


def fit(features: np.ndarray, *steps: str, **settings: Any) -> Selection:
    config = vary(default_config(), {f"features.{key}": value for key, value in settings.items()})
    config.features.select = steps
    return selection.fit(features, LABELS, GROUPS, config.features, seed=3)


def columns(fitted: Selection) -> list[int]:
    (array,) = fitted.arrays.values()
    return array.tolist()


def test_standardize_and_pca_are_those_of_scikit_learn() -> None:
    features, unseen = make_features()[:, :30], make_features()[::2, :30]
    found = fit(features, "standardize").transform(unseen)
    assert found.dtype == np.float32
    assert found == pytest.approx(StandardScaler().fit(features).transform(unseen), abs=1e-4)
    scaled = StandardScaler().fit(features.astype(np.float64))
    reference = PCA(0.8).fit(scaled.transform(features)).transform(scaled.transform(unseen))
    found = fit(features, "standardize", "pca", variance=0.8).transform(unseen)
    assert np.abs(found) == pytest.approx(np.abs(reference), abs=1e-3)
    wide = np.random.default_rng(0).normal(size=(90, 400)).astype(np.float32)
    assert fit(wide, "pca", variance=0.9999).transform(wide).shape == (90, 89)  # never more than images


@pytest.mark.filterwarnings("ignore")  # scikit-learn warns about the constant feature
def test_anova_is_that_of_scikit_learn_and_its_control_is_random() -> None:
    features = make_features()
    reference = SelectKBest(f_classif, k=6).fit(features.astype(np.float64), LABELS)
    assert columns(fit(features, "anova", keep=6)) == reference.get_support(indices=True).tolist()
    assert len(columns(fit(features, "anova"))) == 40  # fewer than features.keep
    found = columns(fit(features, "random", keep=9))
    assert found == columns(fit(1 + features[::-1], "random", keep=9)), "random features depend on the seed only"
    assert len({*found}) == 9


@pytest.mark.parametrize("limit", [0.1, 0.3, 0.9])
def test_correlation_is_that_of_a_loop(limit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "BLOCK", 7)
    features = make_features()
    varied = np.delete(features.astype(np.float64), 5, axis=1)
    names = np.delete(np.arange(40), 5)
    correlations = np.corrcoef(varied.T)
    kept: list[int] = []
    for column in np.argsort(-f_classif(varied, LABELS)[0], kind="stable"):
        if all(abs(correlations[column, other]) <= limit for other in kept):
            kept.append(column)
    found = columns(fit(features, "correlation", max_correlation=limit))
    assert sorted(names[kept]) == [column for column in found if column != 5]
    assert not {6, 7} <= {*found}


@pytest.mark.parametrize("size", [40, 200])
def test_the_error_of_the_salp_swarm_is_that_of_a_ridge_classifier(size: int) -> None:
    """With Gram matrices, and in the dual where there are more features than images."""
    features = StandardScaler().fit_transform(make_features(size).astype(np.float64)).astype(np.float32)
    folds = balanced_folds(LABELS, GROUPS, 5, seed=1)
    error = selection.ridge_error(features, LABELS, folds)
    for seed in range(3):
        kept = np.random.default_rng(seed).random(size) > 0.8
        predicted = cross_val_predict(RidgeClassifier(), features[:, kept], LABELS, cv=PredefinedSplit(folds))
        assert error(kept) == np.mean(predicted != LABELS)


def test_the_swarm_moves_as_published() -> None:
    """Equations 3.1 to 3.4 in loops over salps and dimensions, with the same random numbers; 3 iterations."""

    def fitness(kept: np.ndarray) -> float:
        seen.append(kept.tolist())
        return float(abs(kept[:6].sum() - 5) + kept[6:].sum())

    seen: list[list[bool]] = []
    best = selection.swarm(fitness, 12, salps=4, iterations=3, seed=5)
    found, seen = seen, []
    rng = np.random.default_rng(5)
    salps = rng.random((4, 12))
    values = [fitness(salp > 0.5) for salp in salps]
    food, lowest = salps[np.argmin(values)].copy(), min(values)
    for iteration in (2, 3):
        c1 = 2 * np.exp(-((4 * iteration / 3) ** 2))
        c2, c3 = rng.random(12), rng.random(12)
        for j in range(12):
            salps[0, j] = food[j] + c1 * c2[j] if c3[j] >= 0.5 else food[j] - c1 * c2[j]
            for i in range(1, 4):
                salps[i, j] = (salps[i, j] + salps[i - 1, j]) / 2
        salps = np.clip(salps, 0, 1)
        for salp in salps:
            if fitness(salp > 0.5) < lowest:
                food, lowest = salp.copy(), fitness(salp > 0.5)
                seen.pop()
    assert found == seen
    assert best.tolist() == (food > 0.5).tolist()


def test_salp_swarm_finds_the_same_good_selection_again() -> None:
    features, notes = make_features(), list[str]()
    settings = vary(default_config(), {"features.select": ("salp_swarm",), "features.iterations": 20}).features
    first, second = (columns(selection.fit(features, LABELS, GROUPS, settings, 3, notes.append)) for _ in range(2))
    assert first == second
    assert notes[199] == "salp swarm 200 of 200"
    scaled = fit(features, "standardize").transform(features)
    error = selection.ridge_error(scaled, LABELS, balanced_folds(LABELS, GROUPS, 5, seed=3))
    assert error(np.isin(np.arange(40), first)) < error(np.ones(40, bool))


def test_selections_that_are_impossible() -> None:
    with pytest.raises(DataError, match=r"^features.select: before anova all features .* are constant; choose another"):
        fit(np.ones((90, 3), np.float32), "anova")
    with pytest.raises(ConfigError, match=r"the salp swarm kept no feature; set features.salps=1 to 10 or more"):
        fit(make_features()[:, :1], "salp_swarm", salps=1, iterations=1)
    settings = vary(default_config(), {"features.select": ("salp_swarm",)}).features
    with pytest.raises(ConfigError, match="needs two training subjects per class in each fold; use anova"):
        selection.fit(make_features(), LABELS, LABELS, settings, 0)
