"""The published numbers as data, and the test results that they imply.

R. A. M. Fata, I. D. Irawati and S. Hadiyoso, Optimal Detection of Acute Lymphoblastic Leukemia Using
Deep Transfer Learning Model, Revue d'Intelligence Artificielle 37(3), 2023
(https://doi.org/10.18280/ria.370306).

Numbers are as printed: Tables 1 and 2 and accuracies in percent, Tables 3 to 6 as shares with two decimals.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

CITATION = (
    "R. A. M. Fata, I. D. Irawati, S. Hadiyoso, Optimal Detection of Acute Lymphoblastic Leukemia Using Deep "
    "Transfer Learning Model, Revue d'Intelligence Artificielle 37(3), 2023, doi 10.18280/ria.370306"
)

EPOCHS = (10, 20, 30, 40, 50, 60, 80, 100)
NETWORKS = {"A": "VGG16", "B": "ResNet50"}
"""The paper's networks by the letter of its scenarios."""
OPTIMIZERS = {"adam": "Adam", "rmsprop": "RMSprop"}
METRICS = {"recall": "macro_recall", "precision": "macro_precision", "F1": "macro_f1"}
"""The columns of Tables 3 to 6, macro averages over the two classes, and their names in metrics.json."""

Key = tuple[str, str]
"""A network (``A`` or ``B``) and an optimizer: one column of Tables 1 and 2, one of Tables 3 to 6."""
Row = tuple[str, str, int]
"""A network, an optimizer and a number of epochs: one training of the paper."""

KEYS: tuple[Key, ...] = tuple((network, optimizer) for network in NETWORKS for optimizer in OPTIMIZERS)
ROWS: tuple[Row, ...] = tuple((*key, epochs) for key in KEYS for epochs in EPOCHS)
TRAINING_TABLES = {"A": 1, "B": 2}
TEST_TABLES: dict[Key, int] = {key: number for number, key in enumerate(KEYS, start=3)}
"""The number of the table with test recall, precision and F1."""

IMAGES, IMAGES_ALL, IMAGES_HEM = 10_661, 7_272, 3_389
TRAINING_IMAGES, TEST_IMAGES = 8_528, 2_133
STRATIFIED_ALL = 1_455
"""ALL images in the test set if the split was stratified; the paper does not say whether it was."""
FITTING_ALL = range(1_461, 1_504)
"""The numbers of ALL test images, within three standard deviations of a random split, for which Tables 3 to 6 allow
every test accuracy of `STATED`.  The number of a stratified split is not among them."""

TRAINING_ACCURACY: Mapping[Key, tuple[float, ...]] = {
    ("A", "adam"): (84.73, 87.85, 89.74, 89.45, 91.50, 91.97, 92.33, 93.80),
    ("A", "rmsprop"): (84.36, 86.49, 87.72, 86.83, 89.83, 89.69, 91.65, 92.75),
    ("B", "adam"): (80.08, 80.87, 81.07, 80.97, 81.14, 81.19, 81.60, 81.63),
    ("B", "rmsprop"): (80.18, 80.96, 80.98, 80.82, 81.23, 81.07, 81.81, 81.70),
}
"""Tables 1 and 2, in percent, one number per entry of `EPOCHS`."""

TEST: Mapping[Key, Mapping[str, tuple[float, ...]]] = {
    ("A", "adam"): {
        "recall": (0.76, 0.81, 0.82, 0.79, 0.82, 0.81, 0.81, 0.81),
        "precision": (0.86, 0.84, 0.85, 0.86, 0.84, 0.83, 0.87, 0.87),
        "F1": (0.79, 0.82, 0.82, 0.82, 0.83, 0.82, 0.83, 0.84),
    },
    ("A", "rmsprop"): {
        "recall": (0.79, 0.79, 0.82, 0.77, 0.81, 0.79, 0.80, 0.80),
        "precision": (0.81, 0.86, 0.84, 0.87, 0.85, 0.87, 0.85, 0.85),
        "F1": (0.73, 0.82, 0.83, 0.80, 0.82, 0.82, 0.82, 0.82),
    },
    ("B", "adam"): {
        "recall": (0.77, 0.75, 0.75, 0.76, 0.76, 0.76, 0.76, 0.75),
        "precision": (0.77, 0.80, 0.80, 0.79, 0.79, 0.79, 0.81, 0.81),
        "F1": (0.77, 0.76, 0.79, 0.77, 0.77, 0.77, 0.78, 0.77),
    },
    ("B", "rmsprop"): {
        "recall": (0.72, 0.75, 0.74, 0.77, 0.76, 0.75, 0.75, 0.73),
        "precision": (0.81, 0.79, 0.80, 0.79, 0.80, 0.80, 0.80, 0.81),
        "F1": (0.74, 0.77, 0.76, 0.78, 0.77, 0.77, 0.77, 0.75),
    },
}
"""Tables 3 to 6, one number per entry of `EPOCHS`."""

MEANS: Mapping[Key, Mapping[str, float]] = {
    ("A", "adam"): {"recall": 0.81, "precision": 0.85, "F1": 0.82},
    ("A", "rmsprop"): {"recall": 0.80, "precision": 0.85, "F1": 0.81},
    ("B", "adam"): {"recall": 0.76, "precision": 0.80, "F1": 0.77},
    ("B", "rmsprop"): {"recall": 0.75, "precision": 0.80, "F1": 0.76},
}
"""The rows that Tables 3 to 6 call "Totals"."""

STATED: Mapping[Row, float] = {
    ("A", "adam", 10): 84,
    ("A", "rmsprop", 10): 84,
    ("A", "adam", 20): 85,
    ("A", "rmsprop", 20): 86,
    ("A", "adam", 100): 87.00,
    ("B", "rmsprop", 80): 82.00,
}
"""Test accuracies that the text states, in percent; the last two are the rows "Proposed" of Table 7."""


@dataclass(frozen=True)
class OtherStudy:
    """A row of Table 7, as printed; the accuracy is in percent."""

    study: str
    model: str
    dataset: str
    images: int
    accuracy: float


TABLE_7 = (
    OtherStudy("[9]", "TL-VGG16", "ALL-IDB2", 260, 88.69),
    OtherStudy("[9]", "TL-ResNet18", "ALL-IDB2", 200, 87.54),
    OtherStudy("[10]", "VGGNet (SESSA)", "CMNC Leukemia", 10_661, 83.30),
    OtherStudy("[22]", "TL-ResNet101", "CMNC Leukemia", 1_867, 85.11),
    OtherStudy("[23]", "VGG16", "CMNC Leukemia", 10_661, 80.01),
    OtherStudy("[24]", "TL-VGG16", "ALL-IDB2", 260, 82.46),
    OtherStudy("[25]", "RAN-ResNet50", "Malaria Cell", 27_558, 78.16),
    OtherStudy("Proposed", "TL-VGG16", "CMNC Leukemia", 10_661, 87.00),
    OtherStudy("Proposed", "TL-ResNet50", "CMNC Leukemia", 10_661, 82.00),
)


@dataclass(frozen=True)
class Implied:
    """The confusion matrices that fit a row of Tables 3 to 6, and their metrics.

    Attributes:
        exact: whether a matrix has the printed recall, precision and F1; otherwise the other attributes follow from
            recall and precision alone.
        confusions: int (K, 4), the matrices: ALL predicted ALL, ALL predicted HEM, HEM predicted ALL, HEM predicted
            HEM.
        accuracy: lowest and highest test accuracy, as shares.
        hem_recall: lowest and highest recall of class HEM.
    """

    exact: bool
    confusions: np.ndarray
    accuracy: tuple[float, float]
    hem_recall: tuple[float, float]


def printed(row: Row) -> tuple[float, float, float]:
    """Returns macro recall, precision and F1 of a row of Tables 3 to 6, as printed."""
    index = EPOCHS.index(row[2])
    recall, precision, f1 = (TEST[row[:2]][metric][index] for metric in METRICS)
    return recall, precision, f1


def training_accuracy(row: Row) -> float:
    """Returns a training accuracy of Table 1 or 2 in percent, as printed."""
    return TRAINING_ACCURACY[row[:2]][EPOCHS.index(row[2])]


@functools.cache
def implied(row: Row, test_all: int = STRATIFIED_ALL) -> Implied:
    """Returns every confusion matrix of the test set that rounds to a row of Tables 3 to 6.

    The precision of a class that is never predicted is 0, as in scikit-learn.

    Args:
        row: network, optimizer and epochs.
        test_all: ALL images among the 2,133 test images; by default that of a stratified split.
    """
    recall, precision, f1 = printed(row)
    hem = TEST_IMAGES - test_all
    # For each number of correct ALL images, the numbers of correct HEM images of about the right recall.
    tp = np.arange(test_all + 1)[:, None]
    lowest = np.floor(hem * (2 * (recall - 0.005) - tp / test_all)).astype(int)
    tp, tn = np.broadcast_arrays(tp, lowest + np.arange(int(0.02 * hem) + 3))
    valid = (tn >= 0) & (tn <= hem)
    tp, tn = tp[valid], tn[valid]
    predicted_all, predicted_hem = tp + hem - tn, tn + test_all - tp
    precisions = (tp / np.maximum(predicted_all, 1) + tn / np.maximum(predicted_hem, 1)) / 2
    f1s = tp / (test_all + predicted_all) + tn / (hem + predicted_hem)
    fits = _rounds_to((tp / test_all + tn / hem) / 2, recall) & _rounds_to(precisions, precision)
    exact = fits & _rounds_to(f1s, f1)
    chosen = exact if exact.any() else fits
    return Implied(
        exact=bool(exact.any()),
        confusions=np.stack([tp, test_all - tp, hem - tn, tn], axis=1)[chosen],
        accuracy=_range((tp + tn)[chosen] / TEST_IMAGES),
        hem_recall=_range(tn[chosen] / hem),
    )


def implied_ranges(row: Row, stratified: bool) -> tuple[tuple[float, float], tuple[float, float]]:
    """Returns the ranges of test accuracy and of HEM recall, as shares, that a row of Tables 3 to 6 implies.

    Args:
        row: network, optimizer and epochs.
        stratified: for a stratified split; otherwise over all numbers of ALL test images in `FITTING_ALL`.
    """
    found = [implied(row, test_all) for test_all in ((STRATIFIED_ALL,) if stratified else FITTING_ALL)]
    accuracy, hem_recall = ([getattr(matrices, name) for matrices in found] for name in ("accuracy", "hem_recall"))
    return _range(np.array(accuracy)), _range(np.array(hem_recall))


def _rounds_to(values: np.ndarray, printed: float) -> np.ndarray:
    """Returns which values may have been printed so; 0.765 as 0.76 or 0.77, because rounding rules differ."""
    near: np.ndarray = np.abs(values - printed) <= 0.005 + 1e-9
    return near


def _range(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())
