"""The published numbers as data, and what follows from them by counting.

R. A. M. Fata, I. D. Irawati and S. Hadiyoso, Optimal Detection of Acute Lymphoblastic Leukemia Using
Deep Transfer Learning Model, Revue d'Intelligence Artificielle 37(3), 2023
(https://doi.org/10.18280/ria.370306).

Numbers stand as printed: Tables 1-2 and accuracies in percent, Tables 3-6 as shares with two decimals.
A table is named by its scenario, ``A`` (VGG16) or ``B`` (ResNet50), and its optimizer, ``adam`` or ``rmsprop``.
"""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

CITATION = (
    "R. A. M. Fata, I. D. Irawati, S. Hadiyoso, Optimal Detection of Acute Lymphoblastic Leukemia Using Deep "
    "Transfer Learning Model, Revue d'Intelligence Artificielle 37(3), 2023, doi 10.18280/ria.370306"
)

BUDGETS = (10, 20, 30, 40, 50, 60, 80, 100)
"""Epochs."""

SCENARIOS = {"A": "VGG16", "B": "ResNet50"}
OPTIMIZERS = ("adam", "rmsprop")
OPTIMIZER_NAMES = {"adam": "Adam", "rmsprop": "RMSprop"}
METRICS = {"recall": "macro_recall", "precision": "macro_precision", "f1": "macro_f1"}
"""The columns of Tables 3-6, macro averages over the two classes, and what metrics.json calls them."""

Key = tuple[str, str]
"""A scenario and an optimizer."""

KEYS: tuple[Key, ...] = tuple((scenario, optimizer) for scenario in SCENARIOS for optimizer in OPTIMIZERS)
TESTED_TABLES: dict[Key, int] = {key: number for number, key in enumerate(KEYS, start=3)}
"""The number of the table that holds recall, precision and F1; training accuracy stands in 1 (A) and 2 (B)."""
TRAINING_TABLES = {"A": 1, "B": 2}

IMAGES, IMAGES_ALL, IMAGES_HEM = 10_661, 7_272, 3_389
TRAINED, TESTED = 8_528, 2_133
TESTED_ALL, TESTED_HEM = 1_455, 678
"""The test set under a stratified split; the paper prints only the sum."""


@dataclass(frozen=True)
class Other:
    """A row of Table 7.

    Attributes:
        study: the reference, or ``Proposed``.
        model: as printed.
        dataset: as printed.
        images: their number.
        accuracy: in percent.
    """

    study: str
    model: str
    dataset: str
    images: int
    accuracy: float


@dataclass(frozen=True)
class Paper:
    """Everything printed that is checked.

    Attributes:
        training: training accuracy in percent, one number a budget (Tables 1-2).
        tested: macro recall, precision and F1, one number a budget (Tables 3-6).
        means: the rows that Tables 3-6 call "Totals".
        others: Table 7.
        claims: numbers that the text states, by a name of ours (see `PAPER`).
        beaten: references that the text says its accuracy is above.
        references: of some entries of the list of references, by number: authors, year, DOI.
    """

    training: Mapping[Key, tuple[float, ...]]
    tested: Mapping[Key, Mapping[str, tuple[float, ...]]]
    means: Mapping[Key, Mapping[str, float]]
    others: tuple[Other, ...]
    claims: Mapping[str, float]
    beaten: tuple[int, ...]
    references: Mapping[int, tuple[str, ...]]


PAPER = Paper(
    training={
        ("A", "adam"): (84.73, 87.85, 89.74, 89.45, 91.50, 91.97, 92.33, 93.80),
        ("A", "rmsprop"): (84.36, 86.49, 87.72, 86.83, 89.83, 89.69, 91.65, 92.75),
        ("B", "adam"): (80.08, 80.87, 81.07, 80.97, 81.14, 81.19, 81.60, 81.63),
        ("B", "rmsprop"): (80.18, 80.96, 80.98, 80.82, 81.23, 81.07, 81.81, 81.70),
    },
    tested={
        ("A", "adam"): {
            "recall": (0.76, 0.81, 0.82, 0.79, 0.82, 0.81, 0.81, 0.81),
            "precision": (0.86, 0.84, 0.85, 0.86, 0.84, 0.83, 0.87, 0.87),
            "f1": (0.79, 0.82, 0.82, 0.82, 0.83, 0.82, 0.83, 0.84),
        },
        ("A", "rmsprop"): {
            "recall": (0.79, 0.79, 0.82, 0.77, 0.81, 0.79, 0.80, 0.80),
            "precision": (0.81, 0.86, 0.84, 0.87, 0.85, 0.87, 0.85, 0.85),
            "f1": (0.73, 0.82, 0.83, 0.80, 0.82, 0.82, 0.82, 0.82),
        },
        ("B", "adam"): {
            "recall": (0.77, 0.75, 0.75, 0.76, 0.76, 0.76, 0.76, 0.75),
            "precision": (0.77, 0.80, 0.80, 0.79, 0.79, 0.79, 0.81, 0.81),
            "f1": (0.77, 0.76, 0.79, 0.77, 0.77, 0.77, 0.78, 0.77),
        },
        ("B", "rmsprop"): {
            "recall": (0.72, 0.75, 0.74, 0.77, 0.76, 0.75, 0.75, 0.73),
            "precision": (0.81, 0.79, 0.80, 0.79, 0.80, 0.80, 0.80, 0.81),
            "f1": (0.74, 0.77, 0.76, 0.78, 0.77, 0.77, 0.77, 0.75),
        },
    },
    means={
        ("A", "adam"): {"recall": 0.81, "precision": 0.85, "f1": 0.82},
        ("A", "rmsprop"): {"recall": 0.80, "precision": 0.85, "f1": 0.81},
        ("B", "adam"): {"recall": 0.76, "precision": 0.80, "f1": 0.77},
        ("B", "rmsprop"): {"recall": 0.75, "precision": 0.80, "f1": 0.76},
    },
    others=(
        Other("[9]", "TL-VGG16", "ALL-IDB2", 260, 88.69),
        Other("[9]", "TL-ResNet18", "ALL-IDB2", 200, 87.54),
        Other("[10]", "VGGNet (SESSA)", "CMNC Leukemia", 10_661, 83.30),
        Other("[22]", "TL-ResNet101", "CMNC Leukemia", 1_867, 85.11),
        Other("[23]", "VGG16", "CMNC Leukemia", 10_661, 80.01),
        Other("[24]", "TL-VGG16", "ALL-IDB2", 260, 82.46),
        Other("[25]", "RAN-ResNet50", "Malaria Cell", 27_558, 78.16),
        Other("Proposed", "TL-VGG16", "CMNC Leukemia", 10_661, 87.00),
        Other("Proposed", "TL-ResNet50", "CMNC Leukemia", 10_661, 82.00),
    ),
    claims={
        "images": IMAGES,
        "images all": IMAGES_ALL,
        "images hem": IMAGES_HEM,
        "images trained": TRAINED,
        "images tested": TESTED,
        "learning rate": 1e-4,
        "decay steps": 900,
        "decay rate": 0.95,
        "batch size": 32,
        "ImageNet classes": 10_000,
        "VGG16 test accuracy": 87.00,
        "ResNet50 test accuracy": 82.00,
        "VGG16 lowest": 84,
        "VGG16 highest": 87,
        "ResNet50 lowest": 80,
        "ResNet50 highest": 82,
        "VGG16 adam 10": 84,
        "VGG16 rmsprop 10": 84,
        "VGG16 adam 20": 85,
        "VGG16 rmsprop 20": 86,
        "[8] ALL-IDB2, introduction": 97.18,
        "[10] dataset 2, introduction": 87.90,
    },
    beaten=(10, 21, 22),
    references={
        22: ("Chen, Y.M., Chou, F.I., Ho, W.H., Tsai, J.T.", "2021", "10.1186/s12859-022-04558-5"),
        23: ("Shah, S., Nawaz, W., Jalil, B., Khan, H.A.", "2019", "10.1007/978-981-15-0798-4_3"),
        24: ("Vogado, L.H.S., Veras, R.M.S., Aires, K.R.T.", "2021", "10.5753/sibgrapi.est.2020.12993"),
        25: ("Shah, S., Nawaz, W., Jalil, B., Khan, H.A.", "2019", "10.1007/978-981-15-0798-4_3"),
    },
)
"""The paper as printed."""

PRINTED_MEANS = PAPER.means
TABLE_7 = PAPER.others


def training_accuracy(scenario: str, optimizer: str) -> tuple[float, ...]:
    """Returns the training accuracies in percent, one a budget (Tables 1-2)."""
    return PAPER.training[scenario, optimizer]


def tested(scenario: str, optimizer: str) -> Mapping[str, tuple[float, ...]]:
    """Returns ``recall``, ``precision`` and ``f1``, one number a budget each (Tables 3-6)."""
    return PAPER.tested[scenario, optimizer]


def likely_all() -> range:
    """Returns the numbers of ALL cells, of 2,133, that a random split which is not stratified likely draws.

    Within three standard deviations (`spread_all`) of their share.
    """
    off = int(3 * spread_all())
    return range(TESTED_ALL - off, TESTED_ALL + off + 1)


def spread_all() -> float:
    """Returns the standard deviation of the number of ALL cells that a random split draws (hypergeometric)."""
    share = IMAGES_ALL / IMAGES
    return math.sqrt(TESTED * share * (1 - share) * (IMAGES - TESTED) / (IMAGES - 1))


@dataclass(frozen=True)
class Check:
    """A statement of the paper beside what its own numbers give.

    Attributes:
        where: in the paper.
        says: what the paper says there.
        tables: what its own numbers say.
        computed: how that was computed.
        holds: whether the two agree.
    """

    where: str
    says: str
    tables: str
    computed: str
    holds: bool


@dataclass(frozen=True)
class Implied:
    """What a row of Tables 3-6 says of its confusion matrix.

    Attributes:
        exact: whether some matrix gives recall, precision and F1 as printed; if not, what follows is
            from recall and precision alone.
        confusions: int (K, 4), the matrices: ALL called ALL, ALL called HEM, HEM called ALL, HEM called HEM.
        accuracy: lowest and highest test accuracy, as shares: Figure 9 in numbers.
        hem_recall: lowest and highest share of the HEM cells called so.
        f1: lowest and highest macro F1 under the printed recall and precision.
    """

    exact: bool
    confusions: np.ndarray
    accuracy: tuple[float, float]
    hem_recall: tuple[float, float]
    f1: tuple[float, float]


def row(paper: Paper, key: Key, budget: int) -> tuple[float, float, float]:
    """Returns recall, precision and F1 of a budget as printed."""
    place = BUDGETS.index(budget)
    recall, precision, f1 = (paper.tested[key][metric][place] for metric in METRICS)
    return recall, precision, f1


def implied(scenario: str, optimizer: str, budget: int, paper: Paper = PAPER, tested_all: int = TESTED_ALL) -> Implied:
    """Returns every confusion matrix on the test set that rounds to a row of Tables 3-6.

    Args:
        scenario: ``A`` or ``B``.
        optimizer: ``adam`` or ``rmsprop``.
        budget: one of `BUDGETS`.
        paper: where the row stands.
        tested_all: how many of the 2,133 cells tested are ALL; as under a stratified split unless given.

    Raises:
        ValueError: no matrix has even the printed recall and precision.
    """
    return from_row(*row(paper, (scenario, optimizer), budget), tested_all)


@functools.cache
def from_row(recall: float, precision: float, f1: float, tested_all: int = TESTED_ALL) -> Implied:
    """Returns what macro recall, precision and F1 with two decimals imply; see `implied`."""
    hem = TESTED - tested_all
    # Of all pairs, ALL called ALL and HEM called HEM, those of about the right recall, (tested_all + 1, some 16).
    tp = np.arange(tested_all + 1)[:, None]
    lowest = np.floor(hem * (2 * (recall - 0.005) - tp / tested_all)).astype(int)
    tp, tn = np.broadcast_arrays(tp, lowest + np.arange(int(0.02 * hem) + 3))
    inside = (tn >= 0) & (tn <= hem)
    tp, tn = tp[inside], tn[inside]
    called_all, called_hem = tp + hem - tn, tn + tested_all - tp
    # A class that is never called has precision 0, as in scikit-learn.
    precisions = (tp / np.maximum(called_all, 1) + tn / np.maximum(called_hem, 1)) / 2
    f1s = tp / (tested_all + called_all) + tn / (hem + called_hem)
    fits = _rounds_to((tp / tested_all + tn / hem) / 2, recall) & _rounds_to(precisions, precision)
    if not fits.any():
        raise ValueError(f"no confusion matrix has macro recall {recall} and precision {precision}")
    exact = fits & _rounds_to(f1s, f1)
    chosen = exact if exact.any() else fits
    return Implied(
        exact=bool(exact.any()),
        confusions=np.stack([tp, tested_all - tp, hem - tn, tn], axis=1)[chosen],
        accuracy=_range((tp + tn)[chosen] / TESTED),
        hem_recall=_range(tn[chosen] / hem),
        f1=_range(f1s[fits]),
    )


def _rounds_to(values: np.ndarray, printed: float) -> np.ndarray:
    """Says which values may have been printed so; 0.765 as 0.76 or 0.77, for rounding rules differ."""
    near: np.ndarray = np.abs(values - printed) <= 0.005 + 1e-9
    return near


def _range(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())
