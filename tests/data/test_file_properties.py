"""Properties of files that predict the class: reported where they hold for other subjects, else not."""

import numpy as np
import pytest

from alljax.data.inspection import measure_properties, property_warnings

LABELS = np.repeat([0, 1], 60)
SUBJECTS = [f"subject {number // 10}" for number in range(120)]  # six of each class
NOISE = np.random.default_rng(0).integers(100, 400, 120)


def accuracy(values: np.ndarray, labels: np.ndarray = LABELS) -> float:
    classes = ["hem", "all", "other"][: labels.max() + 1]
    return measure_properties(labels, SUBJECTS, {"width": values}, classes)["width"]["balanced_accuracy"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.where(LABELS == 1, 224, NOISE + (NOISE == 224)), 1),  # neither the smaller nor the larger class
        (np.where(LABELS == 1, "PNG", "BMP"), 1),
        (np.where(LABELS == 1, 250.5, 0.0), 1),
        (np.where((LABELS == 1) & (np.arange(120) % 10 < 6), 224, NOISE), 0.8),
        (np.full(120, 450), 0.5),
        (np.full(120, "BMP"), 0.5),
        (NOISE, 0.5),
        (np.repeat(np.random.default_rng(1).permutation(12), 10), 0.5),  # predicts the subject, not the class
    ],
)
def test_balanced_accuracy_is_that_of_other_subjects(values: np.ndarray, expected: float) -> None:
    assert accuracy(values) == pytest.approx(expected, abs=0.01 if expected == 1 else 0.2)


def test_a_class_of_one_subject_is_not_measured() -> None:
    assert (
        measure_properties(np.array([0, 0, 1]), ["a", "b", "c"], {"width": np.array([1, 1, 2])}, ["hem", "all"]) == {}
    )


def test_three_classes() -> None:
    labels = np.repeat([0, 1, 2], 40)
    assert accuracy(np.where(labels == 1, 224, 300), labels=labels) == pytest.approx(2 / 3)
    assert accuracy(NOISE, labels=labels) == pytest.approx(1 / 3, abs=0.15)


def test_one_warning_names_all_properties() -> None:
    properties = {
        "width": np.where((LABELS == 1) & (np.arange(120) % 10 < 8), 224, NOISE),
        "format": np.where(LABELS == 1, "PNG", "BMP"),
        "bytes": NOISE,
    }
    (warning,) = property_warnings(measure_properties(LABELS, SUBJECTS, properties, ["hem", "all"]))
    assert "cell from the width with a balanced accuracy of 0." in warning
    assert ", from the file format with a balanced accuracy of 1.00 (hem BMP; all PNG): a m" in warning
    assert "file size" not in warning
    assert not list(property_warnings(measure_properties(LABELS, SUBJECTS, {"bytes": NOISE}, ["hem", "all"])))
    assert not list(property_warnings({}))
