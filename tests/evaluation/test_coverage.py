"""How often intervals contain the true value, in simulations with the numbers of images per subject of real data.

The score of an image is normal around the mean of its class, shifted by a normal deviation of its subject. A standard
deviation of 0.8 makes subjects as different as in published results on C-NMC (accuracy 0.8, worst of 28 subjects 0.26;
J. Prellberg and O. Kramer, 2019). `python tests/evaluation/test_coverage.py` prints the table of
docs/explanation/intervals.md.
"""

import itertools
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from alljax.evaluation.intervals import HeldOut, summarize

ALL = (
    1053, 402, 352, 278, 268, 267, 253, 250, 246, 212, 201, 197, 197, 190, 181, 178, 178, 161, 155, 146, 145, 142, 113,
    112, 111, 103, 99, 97, 92, 92, 89, 85, 84, 74, 74, 73, 58, 53, 35, 31, 19, 14, 11, 9,
)  # fmt: skip
HEM = (435, 404, 385, 373, 327, 185, 162, 161, 140, 137, 119, 108, 100, 69, 50, 47, 46, 32, 30, 29, 20, 18)
DESIGNS = {
    "44 + 22": (HEM, ALL),
    "15 + 9": (HEM[:18:2], ALL[::3]),
    "512 cells": (
        (14, 11, 6, 5, 5, 4, 3, 3, *[2] * 5, *[1] * 3),
        (113, 112, 84, 61, 19, 11, 4, 4, *[3] * 6, *[2] * 5, *[1] * 12),
    ),
}
"""Images of each subject of HEM and of ALL: C-NMC's 66 subjects, a part of them, the 512 cells of other tests."""

CONDITIONS = {
    "usual": (0.8, (1.0, 1.3)),
    "alike": (0.0, (1.0, 1.3)),
    "unlike": (1.5, (1.4, 1.8)),
    "accurate": (0.8, (2.0, 2.5)),
}
"""Standard deviation over subjects, and distances of the means of HEM and ALL to the threshold."""

METRICS = ("accuracy", "recall_1", "recall_0", "macro_recall", "auc")


def simulate(generator: np.random.Generator, design: str, deviation: float, means: tuple[float, float]) -> HeldOut:
    """Returns predictions of five folds over subjects with balanced classes."""
    sizes = DESIGNS[design]
    images = np.concatenate(sizes)
    owner = np.repeat(np.arange(len(images)), images)
    labels = np.repeat([0, 1], [sum(of_class) for of_class in sizes])
    folds = np.concatenate([generator.permutation(np.arange(len(of_class)) % 5) for of_class in sizes])
    score = np.where(labels == 1, means[1], -means[0]) + generator.normal(size=len(labels))
    positive = 1 / (1 + np.exp(-score - generator.normal(scale=deviation, size=len(images))[owner]))
    return HeldOut(labels, np.stack([1 - positive, positive], -1)[None], owner, folds[owner])


def true_values(design: str, deviation: float, means: tuple[float, float]) -> dict[str, float]:
    """Returns the expectation of each metric."""
    scale = math.sqrt(1 + deviation**2)
    specificity, sensitivity = (float(norm.cdf(mean / scale)) for mean in means)
    negative, positive = map(sum, DESIGNS[design])
    return {
        "accuracy": (negative * specificity + positive * sensitivity) / (negative + positive),
        "recall_0": specificity,
        "recall_1": sensitivity,
        "macro_recall": (specificity + sensitivity) / 2,
        "auc": float(norm.cdf(sum(means) / scale / math.sqrt(2))),
    }


def coverage(design: str, condition: str, rounds: int = 2000) -> Mapping[str, float]:
    """Returns the share of 95 % intervals that contain the true value."""
    truth, generator = true_values(design, *CONDITIONS[condition]), np.random.default_rng(0)
    covered = dict.fromkeys(METRICS, 0)
    for _ in range(rounds):
        test = simulate(generator, design, *CONDITIONS[condition])
        for name, (low, high) in summarize(test, 0.95, METRICS)["intervals"].items():
            covered[name] += low <= truth[name] <= high
    return {name: count / rounds for name, count in covered.items()}


@pytest.mark.long
@pytest.mark.parametrize("condition", ["usual", "alike"])
@pytest.mark.parametrize("design", DESIGNS)
def test_intervals_contain_the_true_value_as_often_as_stated(design: str, condition: str) -> None:
    found = [*coverage(design, condition).values()]
    assert all(0.9 <= share <= 0.98 for share in found), found
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "intervals.md").read_text()
    rows = re.findall(r"^\|.*?\| (.*) \|((?: \**\.\d{3}\** \|){5})$", page, re.MULTILINE)
    stated = dict(zip(itertools.product(CONDITIONS, DESIGNS), rows, strict=True))[condition, design]
    assert stated[0] == design
    # Other machines round otherwise.
    assert [*map(float, re.findall(r"\.\d+", stated[1]))] == pytest.approx(found, abs=0.0021)


if __name__ == "__main__":
    for condition in CONDITIONS:
        for design in DESIGNS:
            shares = [f"{share:.3f}".lstrip("0") for share in coverage(design, condition).values()]
            print("|", " | ".join([condition, design, *shares]), "|", flush=True)
