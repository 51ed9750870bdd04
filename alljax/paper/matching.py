"""Which cells of a study stand for which rows of the paper's tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alljax.data.splits import LEAKY
from alljax.paper import published
from alljax.report import setting_names
from alljax.study.results import Predictions, Study

NETWORK = ("model.", "weights.", "preprocessing.")
"""Settings that make a network; cells that differ in one of them have different networks."""

BACKBONES = {
    "vgg16": "VGG16",
    "resnet50": "ResNet50",
    "resnet50_keras": "ResNet50 (Keras)",
    "efficientnet_lite0": "EfficientNet-Lite0",
}
"""How people call them; Keras builds ResNet50 with other strides, and the paper's is one as well as the other."""

Place = tuple[str, str, int]
"""A scenario, an optimizer and a budget of the paper."""


@dataclass(frozen=True)
class Scenario:
    """A network of the study in the part of one of the paper's.

    Attributes:
        letter: ``A`` or ``B``.
        plays: the paper's network.
        network: the study's.
    """

    letter: str
    plays: str
    network: str

    @property
    def stands_in(self) -> bool:
        """Whether it is another network than the paper's."""
        return self.network.partition(" ")[0] != self.plays


@dataclass(frozen=True)
class Reproduction:
    """A study beside the paper: made by `match`.

    Attributes:
        study: the study.
        scenarios: those that the study has, A first.
        budgets: the paper's budgets to the study's epochs, those that the study has.
        names: where in the paper's tables each of its cells stands; a cell need not be there yet.
        protocol: how those cells were split.
        passed_over: how many cells have no place in the tables, or share another's.
    """

    study: Study
    scenarios: tuple[Scenario, ...]
    budgets: Mapping[int, int]
    names: Mapping[Place, str]
    protocol: str
    passed_over: int

    def result(self, place: Place) -> Mapping[str, Any] | None:
        """Returns the entry of metrics.json, or None where the cell is not there."""
        name = self.names.get(place)
        found: Mapping[str, Any] | None = self.study.metrics["trials"].get(name) if name else None
        return found

    def absent(self, place: Place) -> str:
        """Returns why `result` is None: in few words, for a table."""
        name = self.names.get(place)
        if not name:
            return "not in this study"
        return "cell failed" if name in self.study.metrics.get("failed", {}) else "cell missing"

    def predictions(self, place: Place) -> Predictions:
        """Returns the predictions of a cell that is there; they are read once and shared, columns alike once."""
        return self.study.predictions(self.names[place])

    def baselines(self) -> Mapping[str, Any]:
        """Returns what the simple rules score on the same splits."""
        there = [name for place, name in self.names.items() if self.result(place)]
        split = self.study.split_of(there[0]) if there else self.study.metrics
        found: Mapping[str, Any] = split["baselines"]
        return found


def match(study: Study) -> Reproduction:
    """Finds the paper's places for the study's cells, those that are missing too.

    The first network in cell order plays scenario A, the second B; further ones have no place.  Of
    several splits the paper's own is taken, else the first.  A study that has none of the paper's
    budgets, a quick trial, has its own in their order.
    """
    settings = declared(study)
    protocols = [one["split.protocol"] for one in settings.values()]
    protocol = "paper" if "paper" in protocols else protocols[0]
    split = next(part(one, ("split.",)) for one in settings.values() if one["split.protocol"] == protocol)
    trials = {name: one for name, one in settings.items() if part(one, ("split.",)) == split}
    networks: list[dict[str, Any]] = []
    for one in trials.values():
        if (network := part(one, NETWORK)) not in networks:
            networks.append(network)
    labels = _labels(study, networks)
    pairs = zip(published.SCENARIOS.items(), labels, strict=False)
    scenarios = tuple(Scenario(letter, plays, label) for (letter, plays), label in pairs)
    epochs = sorted({one["train.epochs"] for one in trials.values()})
    known = [budget for budget in published.BUDGETS if budget in epochs]
    budgets = dict(zip(known, known, strict=True)) if known else dict(zip(published.BUDGETS, epochs, strict=False))
    names: dict[Place, str] = {}
    for name, one in trials.items():
        number = networks.index(part(one, NETWORK))
        budget = next((budget for budget, own in budgets.items() if own == one["train.epochs"]), None)
        if number < len(scenarios) and budget and one["train.optimizer"] in published.OPTIMIZERS:
            names.setdefault((scenarios[number].letter, one["train.optimizer"], budget), name)
    return Reproduction(study, scenarios, budgets, names, protocol, len(trials) - len(names))


def declared(study: Study) -> dict[str, dict[str, Any]]:
    """Returns the settings of every cell the study is to have, in its order."""
    return {name: study.settings(name) for name in study.trials}


def unit(study: Study) -> str:
    """Returns what is drawn for intervals: ``people`` or ``cells``."""
    return str(next(iter(study.metrics["trials"].values()))["interval_unit"])


def disjoint(protocol: str) -> bool:
    """Says whether a protocol keeps people apart."""
    return protocol not in LEAKY


def real(study: Study) -> bool:
    """Says whether the study ran on the whole training set of C-NMC 2019, image by image the paper's."""
    data = study.metrics["dataset"]
    counts = [data["by_class"].get(name, {}).get("images") for name in ("all", "hem")]
    return data["name"] == "cnmc" and counts == [published.IMAGES_ALL, published.IMAGES_HEM]


def part(settings: Mapping[str, Any], groups: tuple[str, ...]) -> dict[str, Any]:
    """Returns the settings whose keys begin with one of `groups`."""
    return {key: value for key, value in settings.items() if key.startswith(groups)}


def _labels(study: Study, networks: list[dict[str, Any]]) -> list[str]:
    """Returns a name a network: its backbone, and what else tells it from the others."""
    also = [one for one in setting_names.varied_settings(study) if any(key.startswith(NETWORK) for key in one.keys)]
    also = [one for one in also if "model.backbone" not in one.keys]
    labels = []
    for one in networks:
        name, more = BACKBONES.get(one["model.backbone"], one["model.backbone"]), setting_names.describe(also, one)
        labels.append(f"{name} ({more})" if more else name)
    if len(set(labels)) == len(labels):
        return labels
    telling = [key for key in networks[0] if any(one[key] != networks[0][key] for one in networks)]
    return [", ".join(f"{key}={one[key] or 'default'}" for key in telling) for one in networks]
