import math
import re
from pathlib import Path

import numpy as np
import pytest

from alljax.paper import published
from alljax.paper.published import EPOCHS, KEYS

PAPER = Path(__file__).resolve().parents[3] / "shared" / "paper.txt"


@pytest.mark.parametrize("size", [published.STRATIFIED_ALL, published.FITTING_ALL[-1]])
def test_no_confusion_matrix_is_overlooked(size: int) -> None:
    hem = published.TEST_IMAGES - size
    tp, tn = np.arange(size + 1)[:, None], np.arange(hem + 1)[None, :]
    with np.errstate(invalid="ignore"):
        precision = (np.nan_to_num(tp / (tp + hem - tn)) + np.nan_to_num(tn / (tn + size - tp))) / 2
    f1 = (2 * tp / (size + tp + hem - tn) + 2 * tn / (hem + tn + size - tp)) / 2
    computed = {"macro_recall": (tp / size + tn / hem) / 2, "macro_precision": precision, "macro_f1": f1}
    for row in published.ROWS:
        near = [abs(computed[metric] - published.printed(row, metric)) <= 0.005 + 1e-9 for metric in computed]
        fits, exact = near[0] & near[1], near[0] & near[1] & near[2]
        confusions, has_exact = published.implied(row, size)
        assert has_exact == exact.any()
        assert np.array_equal(confusions[:, [0, 3]], np.argwhere(exact if exact.any() else fits))


def test_test_set_is_a_fifth_of_the_images() -> None:
    assert published.IMAGES_ALL + published.IMAGES_HEM == published.IMAGES
    assert published.TRAINING_IMAGES + published.TEST_IMAGES == published.IMAGES
    assert math.ceil(0.2 * published.IMAGES) == published.TEST_IMAGES
    assert round(published.TEST_IMAGES * published.IMAGES_ALL / published.IMAGES) == published.STRATIFIED_ALL


@pytest.mark.skipif(not PAPER.exists(), reason="../shared/paper.txt is missing")
def test_numbers_are_the_printed_ones() -> None:
    lines = PAPER.read_text().splitlines()
    percents = [re.fullmatch(r"(\d+)\t([\d.]+) ?%\t([\d.]+) ?%", line.strip()) for line in lines]
    columns = [published.PRINTED[key]["training_accuracy"] for key in KEYS]
    expected = [*zip(EPOCHS, *columns[:2], strict=True), *zip(EPOCHS, *columns[2:], strict=True)]
    assert [tuple(map(float, found.groups())) for found in percents if found] == expected
    shares = [line.strip().split("\t") for line in lines if re.match(r"(\d+|Totals)\t0\.\d\d\t", line.strip())]
    texts = []
    for key in KEYS:
        columns = [published.PRINTED[key][metric] for metric in published.METRICS.values()]
        for name, *row in zip((*EPOCHS, "Totals"), *columns, strict=True):
            texts.append([str(name), *(f"{value:.2f}" for value in row)])
    assert shares == texts
    text = " ".join(lines).replace("83,30", "83.30")
    assert all(f"{accuracy:.2f}%" in text for *_, accuracy in published.TABLE_7)
