"""Balanced folds and held-out sets of whole groups."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from alljax.data.protocols import group_folds, group_holdout

thorough = settings(derandomize=True, deadline=None, database=None, max_examples=100)
groups_of_one_class = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 1)), min_size=6, max_size=24).filter(
    lambda groups: sum(label for _, label in groups) in range(3, len(groups) - 2)
)


def columns(groups: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns labels and group numbers of the images of groups (size, label)."""
    labels = np.concatenate([np.full(size, label) for size, label in groups])
    return labels, np.repeat(np.arange(len(groups)), [size for size, _ in groups])


@thorough
@given(groups_of_one_class, st.integers(2, 3), st.integers(0, 99))
def test_folds_differ_by_at_most_the_largest_group(groups: list[tuple[int, int]], folds: int, seed: int) -> None:
    labels, numbers = columns(groups)
    fold_of_row = group_folds(labels, numbers, folds, seed)
    for label in (0, 1):
        counts = np.bincount(fold_of_row[labels == label], minlength=folds)
        assert np.ptp(counts) <= max(size for size, own in groups if own == label)
        assert counts.min() > 0


@thorough
@given(groups_of_one_class, st.sampled_from((0.1, 0.2, 0.5, 0.8)), st.integers(0, 99))
def test_held_out_fraction_is_close(groups: list[tuple[int, int]], fraction: float, seed: int) -> None:
    labels, numbers = columns(groups)
    held_out = group_holdout(labels, numbers, fraction, seed)
    for label in (0, 1):
        sizes = [size for size, own in groups if own == label]
        difference = abs(held_out[labels == label].sum() - fraction * sum(sizes))
        assert difference <= max(max(sizes) / 2, min(sizes)) + 1e-6
        assert 0 < held_out[labels == label].sum() < sum(sizes)


def test_seeds_give_independent_folds() -> None:
    labels, numbers = columns([(size, label) for label in (0, 1) for size in range(9, 60, 4)])
    first = np.unique(numbers, return_index=True)[1]
    folds = np.stack([group_folds(labels, numbers, 5, seed)[first] for seed in range(8)])
    together = (folds[:, :, None] == folds[:, None, :])[:, *np.triu_indices(len(first), 1)]
    correlation = np.corrcoef(together)[np.triu_indices(8, 1)]
    assert abs(correlation.mean()) < 0.15  # .9 for scikit-learn's StratifiedGroupKFold on C-NMC
