import math
import re
from pathlib import Path

import numpy as np
import pytest

from alljax.paper import published
from alljax.paper.published import EPOCHS, KEYS, Row

PAPER = Path(__file__).resolve().parents[3] / "shared" / "paper.txt"

IMPLIED = """
10: .836–.840, .827–.835*, .797–.805, .800–.806 · 20: .849–.855, .852–.855, .809–.813, .807–.812 ·
30: .857–.864*, .852–.859, .809–.816*, .806–.812 · 40: .852–.855, .843–.848, .808–.814, .811–.818 ·
50: .852–.859, .853–.857, .808–.814, .812–.818 · 60: .844–.851, .854–.858, .808–.814, .811–.816 ·
80: .860–.867, .850–.856, .819–.824, .811–.816 · 100: .867–.868, .850–.856, .814–.820, .805–.811
"""
"""Test accuracies computed by another program for a stratified split; a star: from recall and precision alone."""


def test_implied_accuracies_equal_those_of_another_program() -> None:
    for part in IMPLIED.split("·"):
        epochs, ranges = part.split(":")
        for key, text in zip(KEYS, ranges.split(","), strict=True):
            row = (*key, int(epochs))
            accuracy, _ = published.implied_ranges(row, [published.STRATIFIED_ALL])
            assert accuracy == pytest.approx([float(end) for end in text.strip(" *\n").split("–")], abs=0.001)
            assert published.implied(row)[1] == (not text.strip().endswith("*"))


@pytest.mark.parametrize(
    ("row", "size"),
    [(("A", "adam", 100), 1455), (("A", "rmsprop", 10), 1455), (("B", "rmsprop", 10), 1455), (("B", "adam", 80), 1500)],
)
def test_no_confusion_matrix_is_overlooked(row: Row, size: int) -> None:
    hem = published.TEST_IMAGES - size
    tp, tn = np.arange(size + 1)[:, None], np.arange(hem + 1)[None, :]
    with np.errstate(invalid="ignore"):
        precision = (np.nan_to_num(tp / (tp + hem - tn)) + np.nan_to_num(tn / (tn + size - tp))) / 2
    f1 = (2 * tp / (size + tp + hem - tn) + 2 * tn / (hem + tn + size - tp)) / 2
    recall = (tp / size + tn / hem) / 2
    near = [abs(value - published.printed(row, metric)) <= 0.005 + 1e-9
            for value, metric in zip((recall, precision, f1), published.METRICS.values(), strict=True)]  # fmt: skip
    exact, fits = (
        set(zip(*np.nonzero(mask), strict=True)) for mask in (near[0] & near[1] & near[2], near[0] & near[1])
    )
    confusions, has_exact = published.implied(row, size)
    assert {(tp, tn) for tp, _, _, tn in confusions.tolist()} == (exact or fits)
    assert has_exact == bool(exact)


def test_test_set_is_a_fifth_of_the_images() -> None:
    assert published.IMAGES_ALL + published.IMAGES_HEM == published.IMAGES
    assert published.TRAINING_IMAGES + published.TEST_IMAGES == published.IMAGES
    assert math.ceil(0.2 * published.IMAGES) == published.TEST_IMAGES
    assert round(published.TEST_IMAGES * published.IMAGES_ALL / published.IMAGES) == published.STRATIFIED_ALL


@pytest.mark.skipif(not PAPER.exists(), reason="../shared/paper.txt is missing")
def test_numbers_are_the_printed_ones() -> None:
    lines = PAPER.read_text().splitlines()
    percents = [
        (int(found[1]), float(found[2]), float(found[3]))
        for line in lines
        if (found := re.fullmatch(r"(\d+)\t([\d.]+) ?%\t([\d.]+) ?%", line.strip()))
    ]
    assert percents == [
        (
            epochs,
            *(published.PRINTED[network, optimizer]["training_accuracy"][row] for optimizer in published.OPTIMIZERS),
        )
        for network in published.NETWORKS
        for row, epochs in enumerate(EPOCHS)
    ]
    shares = [line.strip().split("\t") for line in lines if re.match(r"(\d+|Totals)\t0\.\d\d\t", line.strip())]
    expected = []
    for key in KEYS:
        columns = [(*published.PRINTED[key][metric], mean) for metric, mean in published.MEANS[key].items()]
        for name, *row in zip((*EPOCHS, "Totals"), *columns, strict=True):
            expected.append([str(name), *(f"{value:.2f}" for value in row)])
    assert shares == expected
    text = " ".join(lines).replace("83,30", "83.30")
    assert all(f"{accuracy:.2f}%" in text for *_, accuracy in published.TABLE_7)
