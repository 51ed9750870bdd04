from types import SimpleNamespace

import numpy as np
import pytest
from evaluation.conftest import point_estimates
from sklearn.metrics import roc_auc_score

from alljax.evaluation.comparison import Ranking, main_effect, signal_to_noise
from alljax.evaluation.intervals import HeldOut, summarize
from alljax.study.sweep import orthogonal_array

SETTINGS = {"evaluation.resamples": 400, "evaluation.level": 0.95, "seed": 0}
HONEST = {"s": {"protocol": {"leaky": False}}}


def predictions(generator: np.random.Generator, labels: np.ndarray, skill: float, prefix: str = "") -> SimpleNamespace:
    positive = 1 / (1 + np.exp(-generator.normal(size=len(labels)) - skill * (2 * labels - 1)))
    subjects = np.arange(len(labels)).astype(str)
    held_out = HeldOut(labels, np.stack([1 - positive, positive], -1)[None], subjects)
    return SimpleNamespace(paths=np.char.add(prefix, subjects), held_out=held_out)


def rank(tests: dict[str, SimpleNamespace]) -> Ranking:
    trials = {
        name: point_estimates(test.held_out.labels, test.held_out.probabilities[0]) for name, test in tests.items()
    }
    metrics = {"trials": {name: trial | {"split": "s"} for name, trial in trials.items()}, "splits": HONEST}
    return Ranking(metrics, lambda name: tests[name], SETTINGS)


@pytest.fixture
def labels() -> np.ndarray:
    return np.tile([0, 1], 60)


@pytest.mark.parametrize(
    ("aucs", "leaky", "metric", "order"),
    [
        ((0.6, 0.8, 0.9), "c", "auc", "bac"),
        ((0.6, 0.8, 0.9), "abc", "auc", "cba"),
        ((None, 0.8, 0.9), "", "macro_recall", "abc"),
    ],
)
def test_leaky_trials_come_last_unless_all_are(aucs: tuple[float, ...], leaky: str, metric: str, order: str) -> None:
    trials = {
        name: {"auc": auc, "split": "leaky" if name in leaky else "s"} for name, auc in zip("abc", aucs, strict=True)
    }
    for name, value in zip("abc", (0.9, 0.8, 0.7), strict=True):
        trials[name]["macro_recall"] = value
    splits = HONEST | {"leaky": {"protocol": {"leaky": True}}}
    ranking = Ranking({"trials": trials, "splits": splits}, {}.get, SETTINGS)
    assert (ranking.metric, "".join(ranking.order)) == (metric, order)


def test_differences_are_paired_and_simultaneous(labels: np.ndarray) -> None:
    generator = np.random.default_rng(1)
    tests = {
        f"trial{index}": predictions(generator, labels, skill) for index, skill in enumerate((0.2, 1, 1, 0.9, 1.1))
    }
    ranking = rank(tests)
    assert list(ranking.differences) == ranking.order[1:]
    best = tests[ranking.best].held_out
    for name, difference in ranking.differences.items():
        assert difference.interval is not None
        low, high = difference.interval
        assert low <= difference.value <= high
        single = summarize(tests[name].held_out, 0.95, ["auc"], minus=best)["intervals"]["auc"]
        assert high - low > single[1] - single[0], "wide enough for all pairs at once"
    assert ranking.differences["trial0"].below
    assert not ranking.differences[ranking.order[1]].below


def test_two_trials_have_the_interval_of_a_resampled_pair(labels: np.ndarray) -> None:
    generator, drawn = np.random.default_rng(4), []
    tests = {"a": predictions(generator, labels, 1.5), "b": predictions(generator, labels, 0.5)}
    low, high = rank(tests).differences["b"].interval or (0, 0)
    for _ in range(400):
        rows = np.concatenate([generator.choice(np.flatnonzero(labels == label), 60) for label in (0, 1)])
        areas = [roc_auc_score(labels[rows], test.held_out.probabilities[0, rows, 1]) for test in tests.values()]
        drawn.append(areas[1] - areas[0])
    assert high - low == pytest.approx(2 * 1.96 * np.std(drawn), rel=0.15)


def test_equal_trials_have_zero_difference(labels: np.ndarray) -> None:
    test = predictions(np.random.default_rng(2), labels, 1)
    difference = rank({"a": test, "b": test}).differences["b"]
    assert (difference.value, difference.interval, difference.below) == (0.0, (0.0, 0.0), False)


def test_trials_on_different_images_have_no_interval(labels: np.ndarray) -> None:
    generator = np.random.default_rng(3)
    tests = {"best": predictions(generator, labels, 2), "other": predictions(generator, labels, 0.1, prefix="x")}
    difference = rank(tests).differences["other"]
    assert difference.interval is None
    assert not difference.below


def test_effects_of_a_textbook() -> None:
    """M. S. Phadke, Quality Engineering Using Robust Design (1989), chapter 3: surface defects of polysilicon."""
    ratios = np.array([-20.0, -10, -30, -25, -45, -65, -45, -65, -70])
    effects, shares = zip(*(main_effect(of, ratios[:, None]) for of in np.array(orthogonal_array("L9")).T), strict=True)
    means = [[-20, -45, -60], [-30, -40, -55], [-50, -35, -40], [-45, -40, -40]]
    np.testing.assert_allclose(np.array(effects)[..., 0] + ratios.mean(), means)
    assert shares == pytest.approx([2450 / 3800, 950 / 3800, 350 / 3800, 50 / 3800])


def test_signal_to_noise_is_over_seeds_and_folds_without_each_subject() -> None:
    generator = np.random.default_rng(0)
    subjects = np.repeat([f"s{number:02}" for number in range(12)], 5)
    labels, folds = np.repeat([0, 0, 0, 1] * 3, 5), np.repeat(np.arange(12) // 4, 5)
    probabilities = generator.dirichlet((2, 2), (3, 60)) + 0.5 * np.eye(2)[labels]
    probabilities /= probabilities.sum(-1, keepdims=True)

    def expected(kept: np.ndarray) -> float:
        pairs = [(seed, kept & (folds == fold)) for seed in range(3) for fold in range(3)]
        values = [point_estimates(labels[rows], probabilities[seed, rows])["auc"] for seed, rows in pairs]
        return float(-10 * np.log10(np.mean([value**-2 for value in values if value is not None])))

    found = signal_to_noise(HeldOut(labels, probabilities, subjects, folds), "auc")
    assert found[0] == pytest.approx(expected(np.ones(60, bool)))
    assert found[1:] == pytest.approx([expected(subjects != name) for name in np.unique(subjects)])
