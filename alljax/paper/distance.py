"""How far variants of a study lie from the paper's tables.

The paper leaves open how images were preprocessed, how activations were pooled and whether training
images were augmented.  A variant is one answer; its distance is the root mean square difference, in
percentage points, between the numbers its cells give and those published in Tables 1-6.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from alljax.evaluation import intervals
from alljax.paper import matching, published
from alljax.paper.matching import Place
from alljax.study.results import Study

ANSWERS = ("preprocessing.name", "model.pool", "features.augment")
"""The settings the paper does not tell."""

KNOWN = ("model.backbone", "model.stage", "train.optimizer", "train.epochs")
"""The settings it does: they say which of its rows a cell stands for."""

TOGETHER = "together"

_WORDS = {
    "average": "average pooling",
    "max": "maximum pooling",
    "flatten": "flattened",
    "none": "no augmentation",
    "dihedral": "eight views",
}


@dataclass
class Variant:
    """A set-up and how far it lies from the tables.

    Attributes:
        name: its answers, as people read them.
        trials: the paper's places to the names of cells that are there.
        count: how many published numbers they cover, by scenario.
        squares: sum of squared differences over those numbers, in points², by scenario.
        drawn: the same in every resample, (resamples,) by scenario.
    """

    name: str
    trials: dict[Place, str] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)
    squares: dict[str, float] = field(default_factory=dict)
    drawn: dict[str, np.ndarray] = field(default_factory=dict)

    def distance(self, scenario: str = TOGETHER) -> float:
        """Returns the distance in points, NaN where no number is covered."""
        return float(_root(self.squares, self.count, scenario))

    def resampled(self, scenario: str = TOGETHER) -> np.ndarray:
        """Returns the distance in every resample, (resamples,); NaN where one lost a class."""
        return np.asarray(_root(self.drawn, self.count, scenario))

    @property
    def numbers(self) -> int:
        """How many published numbers its cells cover."""
        return sum(self.count.values())


@dataclass(frozen=True)
class Ranking:
    """The variants of a study, nearest first.

    Attributes:
        variants: those that cover any published number.
        nearest: share of the resamples in which each is the nearest; None where variants were tested on
            different images, so that their resamples cannot be paired.
        networks: scenario to the network that plays it.
        budgets: the paper's budgets to the study's epochs.
    """

    variants: tuple[Variant, ...]
    nearest: np.ndarray | None
    networks: Mapping[str, str]
    budgets: Mapping[int, int]


def rank(study: Study) -> Ranking:
    """Returns the variants by their distance to Tables 1-6 (see above).

    The first network (backbone and stage) in cell order plays scenario A, the second B; a study that has none of the
    paper's budgets, a quick trial, has its own in their order (as in `scenarios.match`).

    Raises:
        WorkdirError: a history or predictions that are missing, cut off or not the study's.
    """
    declared = matching.declared(study)
    own = {name: _network(one) for name, one in declared.items()}
    networks = dict(zip(published.SCENARIOS, dict.fromkeys(own.values()), strict=False))
    budgets = _budgets(sorted({one["train.epochs"] for one in declared.values()}))
    found: dict[tuple[Any, ...], Variant] = {}
    telling = _telling(declared)
    for name, one in declared.items():
        letter = next((letter for letter, network in networks.items() if network == own[name]), None)
        budget = next((budget for budget, own in budgets.items() if own == one["train.epochs"]), None)
        if name in study.metrics["trials"] and letter and budget and one["train.optimizer"] in published.OPTIMIZERS:
            key = tuple(one[setting] for setting in telling)
            variant = found.setdefault(key, Variant(_name(dict(zip(telling, key, strict=True)))))
            variant.trials[letter, one["train.optimizer"], budget] = name
    places = [_measure(study, variant) for variant in found.values()]
    paired = all(np.array_equal(places[0][0], other) for each in places for other in each) if places else False
    ranked = tuple(sorted(found.values(), key=Variant.distance))
    return Ranking(ranked, _nearest(ranked) if paired else None, networks, budgets)


def _measure(study: Study, variant: Variant) -> list[np.ndarray]:
    """Sets the cells of a variant beside the tables; returns the places that each was tested at."""
    drawing = {key: value for key, value in study.bootstrap.items() if key != "level"}
    places = []
    for (letter, optimizer, budget), name in variant.trials.items():
        row = published.BUDGETS.index(budget)
        result, predictions = study.metrics["trials"][name], study.predictions(name)
        drawn = intervals.resample([predictions.held_out], names=tuple(published.METRICS.values()), **drawing)[0]
        trained = (100 * _training(study, name) - published.training_accuracy(letter, optimizer)[row]) ** 2
        # A printed F1 that no confusion matrix gives beside its recall and precision tells no set-up from another.
        metrics = published.METRICS if published.implied(letter, optimizer, budget).exact else ("recall", "precision")
        theirs = {published.METRICS[metric]: published.tested(letter, optimizer)[metric][row] for metric in metrics}
        squares = trained + sum(1e4 * (result[ours] - value) ** 2 for ours, value in theirs.items())
        again = trained + np.sum([1e4 * (drawn[ours] - value) ** 2 for ours, value in theirs.items()], axis=0)
        variant.count[letter] = variant.count.get(letter, 0) + 1 + len(theirs)
        variant.squares[letter] = variant.squares.get(letter, 0.0) + squares
        variant.drawn[letter] = variant.drawn.get(letter, np.zeros_like(again)) + again
        places.append(predictions.keys)
    return places


def _training(study: Study, name: str) -> float:
    """Returns the training accuracy after the last epoch, the mean over folds and seeds."""
    history = study.history(name)
    return float(history["train_accuracy"][history["epoch"] == history["epoch"].max()].mean())


def _nearest(variants: tuple[Variant, ...]) -> np.ndarray:
    """Returns how often each variant is the nearest, (V,), over the resamples in which all are defined."""
    drawn = np.stack([variant.resampled() for variant in variants])
    drawn = drawn[:, np.isfinite(drawn).all(0)]
    shares: np.ndarray = np.bincount(drawn.argmin(0), minlength=len(variants)) / max(1, drawn.shape[1])
    return shares


def _root(squares: Mapping[str, Any], count: Mapping[str, int], scenario: str) -> Any:
    chosen = list(count) if scenario == TOGETHER else [scenario] if scenario in count else []
    return np.sqrt(sum(squares[one] for one in chosen) / sum(count[one] for one in chosen)) if chosen else np.nan


def _network(settings: Mapping[str, Any]) -> str:
    """Returns the name of the network that a cell's features come from, as people call it."""
    backbone, stage = settings["model.backbone"], settings["model.stage"]
    return matching.BACKBONES.get(backbone, backbone) + (f" up to {stage}" if stage else "")


def _budgets(epochs: list[int]) -> dict[int, int]:
    known = [budget for budget in published.BUDGETS if budget in epochs]
    return dict(zip(known, known, strict=True)) if known else dict(zip(published.BUDGETS, epochs, strict=False))


def _telling(declared: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Returns the settings that tell variants apart: the open questions, and what else the study varies.

    A setting that goes with the network, such as its image size, is no question of its own.
    """
    trials = list(declared.values())

    def asked(key: str) -> bool:
        by_network: dict[str, set[str]] = {}
        for one in trials:
            by_network.setdefault(_network(one), set()).add(repr(one[key]))
        return max(map(len, by_network.values())) > 1

    return (*ANSWERS, *(key for key in trials[0] if key not in (*ANSWERS, *KNOWN) and asked(key)))


def _name(settings: Mapping[str, Any]) -> str:
    first = settings[ANSWERS[0]] or "as the weights say"
    others = [f"{key}={value}" for key, value in settings.items() if key not in ANSWERS]
    return ", ".join([first, *(_WORDS.get(settings[key], str(settings[key])) for key in ANSWERS[1:]), *others])
