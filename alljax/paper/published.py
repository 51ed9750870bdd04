"""The numbers of the paper as printed, accuracies in percent and others as shares, and the results that they imply."""

import csv
import functools
from collections.abc import Mapping, Sequence
from importlib import resources

import numpy as np

CITATION = (
    "R. A. M. Fata, I. D. Irawati, S. Hadiyoso, Optimal Detection of Acute Lymphoblastic Leukemia Using Deep "
    "Transfer Learning Model, Revue d'Intelligence Artificielle 37(3), 2023, https://doi.org/10.18280/ria.370306"
)

EPOCHS = (10, 20, 30, 40, 50, 60, 80, 100)
NETWORKS = {"A": "VGG16", "B": "ResNet50"}  # by the letter of the paper's scenarios
OPTIMIZERS = {"adam": "Adam", "rmsprop": "RMSprop"}
METRICS = {"recall": "macro_recall", "precision": "macro_precision", "F1": "macro_f1"}
"""The columns of Tables 3 to 6, macro averages over the two classes, and their names in metrics.json."""

Key = tuple[str, str]  # network (``A`` or ``B``) and optimizer: one column of Tables 1 and 2, one of Tables 3 to 6
Row = tuple[str, str, int]  # network, optimizer and number of epochs: one training of the paper

KEYS: tuple[Key, ...] = tuple((network, optimizer) for network in NETWORKS for optimizer in OPTIMIZERS)
ROWS: tuple[Row, ...] = tuple((*key, epochs) for key in KEYS for epochs in EPOCHS)

IMAGES, IMAGES_ALL, IMAGES_HEM = 10_661, 7_272, 3_389
TRAINING_IMAGES, TEST_IMAGES = 8_528, 2_133
STRATIFIED_ALL = 1_455  # ALL test images if the split was stratified; the paper does not say whether it was
FITTING_ALL = range(1_461, 1_504)
"""Those within three standard deviations of a random split for which Tables 3 to 6 allow every accuracy of `STATED`."""

PRINTED: Mapping[Key, Mapping[str, tuple[float, ...]]] = {
    ("A", "adam"): {
        "training_accuracy": (84.73, 87.85, 89.74, 89.45, 91.50, 91.97, 92.33, 93.80),
        "macro_recall": (0.76, 0.81, 0.82, 0.79, 0.82, 0.81, 0.81, 0.81, 0.81),
        "macro_precision": (0.86, 0.84, 0.85, 0.86, 0.84, 0.83, 0.87, 0.87, 0.85),
        "macro_f1": (0.79, 0.82, 0.82, 0.82, 0.83, 0.82, 0.83, 0.84, 0.82),
    },
    ("A", "rmsprop"): {
        "training_accuracy": (84.36, 86.49, 87.72, 86.83, 89.83, 89.69, 91.65, 92.75),
        "macro_recall": (0.79, 0.79, 0.82, 0.77, 0.81, 0.79, 0.80, 0.80, 0.80),
        "macro_precision": (0.81, 0.86, 0.84, 0.87, 0.85, 0.87, 0.85, 0.85, 0.85),
        "macro_f1": (0.73, 0.82, 0.83, 0.80, 0.82, 0.82, 0.82, 0.82, 0.81),
    },
    ("B", "adam"): {
        "training_accuracy": (80.08, 80.87, 81.07, 80.97, 81.14, 81.19, 81.60, 81.63),
        "macro_recall": (0.77, 0.75, 0.75, 0.76, 0.76, 0.76, 0.76, 0.75, 0.76),
        "macro_precision": (0.77, 0.80, 0.80, 0.79, 0.79, 0.79, 0.81, 0.81, 0.80),
        "macro_f1": (0.77, 0.76, 0.79, 0.77, 0.77, 0.77, 0.78, 0.77, 0.77),
    },
    ("B", "rmsprop"): {
        "training_accuracy": (80.18, 80.96, 80.98, 80.82, 81.23, 81.07, 81.81, 81.70),
        "macro_recall": (0.72, 0.75, 0.74, 0.77, 0.76, 0.75, 0.75, 0.73, 0.75),
        "macro_precision": (0.81, 0.79, 0.80, 0.79, 0.80, 0.80, 0.80, 0.81, 0.80),
        "macro_f1": (0.74, 0.77, 0.76, 0.78, 0.77, 0.77, 0.77, 0.75, 0.76),
    },
}
"""Tables 1 and 2 (training accuracy) and 3 to 6, a number per entry of `EPOCHS`; Tables 3 to 6 end with "Totals"."""

STATED: Mapping[Row, float] = {
    ("A", "adam", 10): 84,
    ("A", "rmsprop", 10): 84,
    ("A", "adam", 20): 85,
    ("A", "rmsprop", 20): 86,
    ("A", "adam", 100): 87.00,
    ("B", "rmsprop", 80): 82.00,
}
"""Test accuracies that the text states, in percent; the last two are the rows "Proposed" of Table 7."""

TABLE_7: tuple[tuple[str, str, str, int, float], ...] = (
    ("[9]", "TL-VGG16", "ALL-IDB2", 260, 88.69),
    ("[9]", "TL-ResNet18", "ALL-IDB2", 200, 87.54),
    ("[10]", "VGGNet (SESSA)", "CMNC Leukemia", 10_661, 83.30),
    ("[22]", "TL-ResNet101", "CMNC Leukemia", 1_867, 85.11),
    ("[23]", "VGG16", "CMNC Leukemia", 10_661, 80.01),
    ("[24]", "TL-VGG16", "ALL-IDB2", 260, 82.46),
    ("[25]", "RAN-ResNet50", "Malaria Cell", 27_558, 78.16),
    ("Proposed", "TL-VGG16", "CMNC Leukemia", 10_661, 87.00),
    ("Proposed", "TL-ResNet50", "CMNC Leukemia", 10_661, 82.00),
)
"""Study, model, data set, number of images and accuracy."""


def read_rows(file: str) -> list[dict[str, str]]:
    """Returns the rows of a CSV file beside this module."""
    text = resources.files("alljax.paper").joinpath(file).read_text(encoding="utf-8")
    return [*csv.DictReader(text.splitlines())]


def printed(row: Row, metric: str) -> float:
    """Returns a number of Tables 1 to 6 as a share."""
    number = PRINTED[row[:2]][metric][EPOCHS.index(row[2])]
    return number / 100 if metric == "training_accuracy" else number


@functools.cache
def implied(row: Row, test_all: int = STRATIFIED_ALL) -> tuple[np.ndarray, bool]:
    """Returns every confusion matrix that rounds to a row of Tables 3 to 6 if `test_all` of the test images are ALL.

    The matrices are int (K, 4): ALL predicted ALL, ALL predicted HEM, HEM predicted ALL, HEM predicted HEM. If none has
    the printed F1, which is returned too, they fit recall and precision alone.
    """
    recall, precision, f1 = (printed(row, metric) for metric in METRICS.values())
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
    computed = zip(((tp / test_all + tn / hem) / 2, precisions, f1s), (recall, precision, f1), strict=True)
    rounds = [np.abs(values - number) <= 0.005 + 1e-9 for values, number in computed]  # 0.765 as 0.76 or 0.77
    fits = rounds[0] & rounds[1]
    exact = fits & rounds[2]
    confusions = np.stack([tp, test_all - tp, hem - tn, tn], axis=1)
    return confusions[exact if exact.any() else fits], bool(exact.any())


def implied_ranges(row: Row, sizes: Sequence[int]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Returns the ranges of test accuracy and HEM recall, as shares, that a row implies for `sizes` ALL test images."""
    tp, _, fp, tn = np.concatenate([implied(row, size)[0] for size in sizes]).T
    accuracy, hem_recall = (tp + tn) / TEST_IMAGES, tn / (fp + tn)
    return (accuracy.min(), accuracy.max()), (hem_recall.min(), hem_recall.max())
