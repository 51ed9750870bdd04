"""Predictions for images of subjects that resemble each other."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alljax.evaluation.intervals import HeldOut, describe


def point_estimates(
    labels: np.ndarray, probabilities: np.ndarray, scores: np.ndarray | None = None, folds: np.ndarray | None = None
) -> dict[str, Any]:
    """Returns the metrics of one seed from labels (N,), probabilities and scores (N, C), folds (N,)."""
    ranking = None if scores is None else np.asarray(scores)[None]
    return describe(HeldOut(labels, np.asarray(probabilities)[None], np.zeros(len(labels)), folds, ranking), 0)


def _clustered(generator: np.random.Generator, subjects: tuple[int, ...], seeds: int = 1, decimals: int = 2) -> HeldOut:
    """Images of subjects (per class) that have one class each and a deviation shared by all their images."""
    class_of = np.repeat(np.arange(len(subjects)), subjects)
    owner = np.repeat(np.arange(len(class_of)), 1 + generator.poisson(19, len(class_of)))
    labels, shift = class_of[owner], generator.normal(scale=0.8, size=len(class_of))[owner]
    logits = generator.normal(size=(seeds, len(owner), len(subjects))) / math.sqrt(2)
    logits[:, np.arange(len(owner)), labels] += 1.6 + shift
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return HeldOut(labels, np.round(probabilities, decimals), owner.astype(str))  # rounding makes ties


@pytest.fixture
def clustered() -> Callable[..., HeldOut]:
    """Returns `_clustered`."""
    return _clustered
