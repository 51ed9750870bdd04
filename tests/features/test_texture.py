"""Texture: co-occurrence as in scikit-image, runs as in a loop and in Galloway's example, masks that are respected."""

import math
from itertools import groupby, pairwise

import numpy as np
import pytest
from scipy.stats import entropy
from skimage import measure
from skimage.color import rgb2lab
from skimage.feature import graycomatrix, graycoprops

from alljax.config import default_config, vary
from alljax.data import synthetic
from alljax.data.synthetic import render_cell
from alljax.features import texture
from alljax.features.extractors import Extractor
from alljax.features.texture import COOCCURRENCE, RUNS, nucleus_mask, texture_features, to_lab

OFFSETS = {0: (0, 1), 45: (1, 1), 90: (1, 0), 135: (1, -1)}  # rows and columns, as in scikit-image
ANGLES = np.radians([*OFFSETS])


def masked_levels(seed: int, count: int, share: float) -> np.ndarray:
    """Returns random levels 1 … count, 0 in the given share of the pixels."""
    generator = np.random.default_rng(seed)
    levels = generator.integers(1, count + 1, (23, 17))
    levels[generator.random(levels.shape) < share] = 0
    return levels


def lines(levels: np.ndarray, angle: int) -> list[list[int]]:
    """Returns the values along all lines at an angle."""
    down, right = OFFSETS[angle]
    inside, found = {*np.ndindex(levels.shape)}, []
    for row, column in inside:
        if (row - down, column - right) not in inside:
            steps = [(row + down * step, column + right * step) for step in range(sum(levels.shape))]
            found.append([int(levels[place]) for place in steps if place in inside])
    return found


@pytest.mark.parametrize("count", [2, 16, 256])
def test_cooccurrence_equals_scikit_image(count: int) -> None:
    levels = masked_levels(0, count, 0)
    expected = graycomatrix((levels - 1).astype(np.uint8), [1], ANGLES, count, symmetric=True, normed=True)
    found = texture.cooccurrence(levels, count)
    np.testing.assert_allclose(found, expected[:, :, 0].transpose(2, 0, 1), rtol=0, atol=1e-12)
    measures = texture.cooccurrence_measures(found)
    for number, name in enumerate(COOCCURRENCE[:-1]):
        properties = graycoprops(expected, name.upper() if name == "asm" else name)[0]
        np.testing.assert_allclose(measures[:, number], properties, rtol=1e-12, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(measures[:, -1], [entropy(matrix.ravel(), base=2) for matrix in found], rtol=1e-12)


@pytest.mark.parametrize("share", [0, 0.3])
def test_pairs_and_runs_inside_a_mask_equal_loops(share: float) -> None:
    levels = masked_levels(1, 4, share)
    pairs, runs = texture.cooccurrence(levels, 4), texture.run_lengths(levels, 4)
    for number, angle in enumerate(OFFSETS):
        expected, listed = np.zeros((4, 4)), []
        for line in lines(levels, angle):
            for first, second in pairwise(line):
                if first and second:
                    expected[first - 1, second - 1] += 1
                    expected[second - 1, first - 1] += 1
            listed += [(value, len([*same])) for value, same in groupby(line) if value]
        np.testing.assert_allclose(pairs[number], expected / expected.sum(), atol=1e-15)
        i, j = np.array(listed).T
        table = np.zeros_like(runs[number])
        np.add.at(table, (i - 1, j - 1), 1)
        np.testing.assert_array_equal(runs[number], table)
        uneven = [np.sum(np.unique(values, return_counts=True)[1] ** 2) / len(i) for values in (i, j)]
        emphases = [1 / j**2, j**2, 1 / i**2, i**2, 1 / (i * j) ** 2, i**2 / j**2, j**2 / i**2, (i * j) ** 2]
        measures = [*map(np.mean, emphases), *uneven, len(i) / np.sum(levels > 0)]
        found = dict(zip(RUNS, texture.run_measures(runs[number]), strict=True))
        assert found == pytest.approx(dict(zip(RUNS, measures, strict=True)), rel=1e-12)


def test_runs_of_the_example_of_galloway() -> None:
    """Four by four pixels of four levels (Galloway 1975), whose 45° is up right."""
    levels = np.array([[1, 2, 3, 4], [1, 3, 4, 4], [3, 2, 2, 2], [4, 1, 4, 1]])
    across, _, down, diagonal = texture.run_lengths(levels, 4)
    assert across.tolist() == [[4, 0, 0], [1, 0, 1], [3, 0, 0], [3, 1, 0]]
    assert down.tolist() == [[2, 1], [4, 0], [3, 0], [3, 1]]
    assert diagonal.tolist() == [[4, 0, 0], [4, 0, 0], [0, 0, 1], [3, 1, 0]]


@pytest.mark.parametrize("region", ["nucleus", "cell"])
def test_features_do_not_depend_on_the_background(region: str) -> None:
    config = vary(default_config(), {"texture.region": region, "texture.shape": True})
    pixels = render_cell(0, "1", 1, 1, 160)
    features = texture_features(pixels, config)
    assert features.shape == (Extractor.of("texture", config).feature_count,) == (30,)
    np.testing.assert_array_equal(texture_features(np.pad(pixels, ((40, 9), (0, 31), (0, 0))), config), features)
    dot = np.zeros((9, 9, 3), np.uint8)
    dot[4, 4] = 90
    for image in (np.zeros((9, 9, 3), np.uint8), dot, np.full((9, 9, 3), 77, np.uint8)):
        assert np.isfinite(texture_features(image, config)).all()


def test_shape_equals_scikit_image() -> None:
    disk = np.hypot(*(np.indices((160, 160)) - 80)) < 70
    for mask in (disk, render_cell(0, "2", 1, 1, 200).any(2)):
        area, perimeter, eccentricity, solidity, form = texture.shape_measures(mask)
        (region,) = measure.regionprops(mask.astype(int))
        assert (area, perimeter) == pytest.approx((region.area, measure.perimeter_crofton(mask, 4)))
        assert (eccentricity, solidity) == pytest.approx((region.eccentricity, region.solidity), abs=0.01)
        assert form == pytest.approx(4 * math.pi * area / perimeter**2)


def test_nucleus_of_a_generated_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cells have smooth chromatin, half of their radius, in a cytoplasm of lower density."""
    for name, value in (("nucleus", 0.7), ("clumping", 0.0), ("nucleoli", 0.0)):
        monkeypatch.setitem(synthetic._APPEARANCES, name, ((value, 0, 0, 0),) * 2)
    for subject in ("1", "2", "H1", "H2"):
        pixels = render_cell(0, subject, 1, 1, 300)
        cell, luma = pixels.any(2), pixels @ texture.LUMA
        nucleus = cell & (luma < (np.percentile(luma[cell], 5) + np.percentile(luma[cell], 90)) / 2)
        found = nucleus_mask(pixels, 2)
        assert (found & nucleus).sum() / (found | nucleus).sum() > 0.9
    np.testing.assert_allclose(to_lab(pixels), rgb2lab(pixels), atol=1e-3)
