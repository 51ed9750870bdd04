"""Perturbed images: black stays black, the size stays, the same seed gives the same pixels."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from alljax.data.dataset import Dataset, Record
from alljax.data.images import load
from alljax.data.perturbation import PERTURBATIONS, perturb

RECORD = Record("a/cell.png", 0)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """One image: a disk with texture on black, wider than high."""
    rows, columns = np.mgrid[-40:40, -50:50]
    disk = (rows**2 + columns**2 < 900)[..., None] * np.random.default_rng(0).integers(60, 140, (80, 100, 3))
    Image.fromarray(disk.astype(np.uint8)).save(file := io.BytesIO(), "PNG")
    return Dataset("folder", ("a", "b"), (RECORD,), lambda record: file.getvalue(), stamp=lambda record: "1")


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_changes_grow_with_the_severity_and_are_reproducible(dataset: Dataset, name: str) -> None:
    original, changes = load(dataset, RECORD).astype(int), []
    for strength in PERTURBATIONS[name][1]:
        changed = load(perturb(dataset, name, strength, seed=1), RECORD)
        assert changed.shape == original.shape
        np.testing.assert_array_equal(changed, load(perturb(dataset, name, strength, seed=1), RECORD))
        if name not in ("JPEG", "rotation", "scale"):
            np.testing.assert_array_equal(changed.any(2), original.any(2))
        changes.append(np.abs(changed - original).mean())
    assert 0 <= changes[0] < changes[1] < changes[2] < changes[3]
    assert perturb(dataset, name, 1, seed=1).stamp is None


def test_directions_differ_between_images_and_seeds(dataset: Dataset) -> None:
    records = [replace(RECORD, path=str(number)) for number in range(20)]
    bright, other = (
        [load(perturb(dataset, "brightness", 0.3, seed), record).mean() for record in records] for seed in (0, 1)
    )
    assert len({round(value) for value in bright}) == 2
    assert bright != other


def test_a_quarter_turn_and_the_scale_are_exact(dataset: Dataset) -> None:
    original = load(dataset, RECORD).astype(int)
    turned = load(perturb(dataset, "rotation", 90, seed=0), RECORD)[:, 10:90].astype(int)
    assert any(np.abs(turned - np.rot90(original[:, 10:90], sign)).mean() < 1 for sign in (1, -1))
    larger = load(perturb(dataset, "scale", 0.2, seed=0), RECORD).any(2).sum() / original.any(2).sum()
    assert min(abs(larger - 1.2**2), abs(larger - 0.8**2)) < 0.03
