"""Which trials of a study correspond to which rows of the paper's tables."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from alljax.errors import first_few, plural
from alljax.paper import published
from alljax.paper.published import Row
from alljax.report.setting_names import setting_value
from alljax.report.tables import Value
from alljax.study.results import Study


@dataclass(frozen=True, eq=False)
class Match:
    """A study beside the paper, made by `match`.

    Attributes:
        study: the study.
        networks: display names of the networks used as the paper's A and B.
        epochs: from the paper's numbers of epochs to those of the study that are used as these.
        trials: from rows of the paper to the names of trials, finished or not.
        protocol: split protocol of these trials.
        stratified: whether their split is stratified.
        unmatched: number of trials with that split that correspond to no row.
    """

    study: Study
    networks: Mapping[str, str]
    epochs: Mapping[int, int]
    trials: Mapping[Row, str]
    protocol: str
    stratified: bool
    unmatched: int

    def result(self, row: Row) -> Mapping[str, Any] | None:
        """Returns the entry of a row in metrics.json, or None where its trial is not finished."""
        found: Mapping[str, Any] | None = self.study.metrics["trials"].get(self.trials.get(row))
        return found

    def missing(self, row: Row) -> str:
        """Returns why `result` is None, for a table."""
        if row not in self.trials:
            return "not in this study"
        return "trial failed" if self.trials[row] in self.study.metrics["failed"] else "trial missing"

    @property
    def finished(self) -> list[Row]:
        """The rows with a finished trial, in the order of the paper."""
        return [row for row in self.trials if self.result(row)]

    def title(self, network: str) -> str:
        """Returns the name of a network for titles: ``EfficientNet-Lite0 used as VGG16``."""
        ours, theirs = self.networks[network], published.NETWORKS[network]
        return ours if ours.partition(" ")[0] == theirs else f"{ours} used as {theirs}"

    def epochs_value(self, epochs: int) -> Value:
        """Returns the study's number of epochs that is used as the paper's, for a table."""
        ours = self.epochs[epochs]
        return Value(str(ours), ours, "" if ours == epochs else f"used as {epochs}")

    @property
    def baselines(self) -> Mapping[str, Any]:
        """The baselines on the split of the matched trials."""
        rows = self.finished
        split = self.study.split_of(self.trials[rows[0]]) if rows else self.study.metrics
        found: Mapping[str, Any] = split["baselines"]
        return found


def match(study: Study) -> Match:
    """Finds the rows of the paper that the trials of a study correspond to, missing trials too.

    The first network (backbone and stage) in the order of the trials is used as the paper's VGG16, the second as its
    ResNet50. Of several splits the first with protocol ``paper`` is used, otherwise the first one. A study with none of
    the paper's numbers of epochs, a toy, has its own matched in order.
    """
    networks, epochs, rows = paper_rows(study)
    splits = {name: {key: value for key, value in study.settings(name).items() if key.startswith("split.")}
              for name in study.trials}  # fmt: skip
    random = [split for split in splits.values() if split["split.protocol"] == "paper"]
    split = (random or [*splits.values()])[0]
    same = [name for name in study.trials if splits[name] == split]
    first = {rows[name]: name for name in reversed(same) if name in rows}
    trials = {row: first[row] for row in published.ROWS if row in first}
    unmatched = len(same) - len(trials)
    return Match(study, networks, epochs, trials, split["split.protocol"], split["split.stratified"], unmatched)


def paper_rows(study: Study) -> tuple[dict[str, str], dict[int, int], dict[str, Row]]:
    """Returns the networks used as the paper's, its numbers of epochs in the study, and the rows of trials by name."""
    settings = {name: study.settings(name) for name in study.trials}
    names = dict.fromkeys(network_name(values) for values in settings.values())
    networks = dict(zip(published.NETWORKS, names, strict=False))
    epochs = match_epochs(values["train.epochs"] for values in settings.values())
    letters = {name: letter for letter, name in networks.items()}
    of_paper = {ours: theirs for theirs, ours in epochs.items()}
    rows = {}
    for name, values in settings.items():
        letter, number = letters.get(network_name(values)), of_paper.get(values["train.epochs"])
        if letter and number and values["train.optimizer"] in published.OPTIMIZERS:
            rows[name] = letter, values["train.optimizer"], number
    return networks, epochs, rows


def describe(match: Match) -> list[str]:
    """Returns how a study differs from the paper's, in sentences."""
    titles = {letter: match.title(letter) for letter in match.networks}
    lines = [f"Network {letter}: {title}." for letter, title in titles.items() if " used as " in title]
    if other := [f"{ours} as {theirs}" for theirs, ours in match.epochs.items() if ours != theirs]:
        lines.append(f"The study has none of the paper's numbers of epochs; its own are used: {', '.join(other)}.")
    if match.protocol != "paper":
        lines.append(f"The split protocol is {match.protocol}; the paper splits images at random.")
    else:
        lines.append(
            f"The random split is {'' if match.stratified else 'not '}stratified. The paper does not state whether its "
            "was; the accuracies that it states fit its tables only without stratification."
        )
    if match.unmatched:
        lines.append(f"{plural(match.unmatched, 'trial')} of this study correspond to no row of the paper's tables.")
    if missing := [name for row, name in match.trials.items() if not match.result(row)]:
        lines.append(f"{len(missing)} of {len(match.trials)} trials are not finished: {first_few(missing)}.")
    return lines


def match_epochs(epochs: Iterable[int]) -> dict[int, int]:
    """Returns from the paper's numbers of epochs to those of a study: equal, or by order where none is equal."""
    ours = sorted(set(epochs))
    equal = [number for number in published.EPOCHS if number in ours]
    return dict(zip(equal, equal, strict=True)) if equal else dict(zip(published.EPOCHS, ours, strict=False))


def network_name(settings: Mapping[str, Any]) -> str:
    """Returns the display name of a network: ``EfficientNet-Lite0 up to stage3``."""
    name, stage = setting_value("model.backbone", settings["model.backbone"]), settings["model.stage"]
    return f"{name} up to {stage}" if stage else name


def accuracies(results: Iterable[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns test accuracies (N,) and their errors (2, N), below and above, for error bars."""
    entries = [(result["accuracy"], result["intervals"].get("accuracy")) for result in results]
    values = np.array([value for value, _ in entries])
    bounds = np.array([bounds or (value, value) for value, bounds in entries]).reshape(-1, 2)
    return values, np.abs(bounds - values[:, None]).T


def unit(study: Study) -> str:
    """Returns what intervals are over: ``subjects`` or ``images``."""
    return str(next(iter(study.metrics["trials"].values()))["interval_unit"])


def is_cnmc(study: Study) -> bool:
    """Returns whether the study used the 10,661 training images of C-NMC 2019, as the paper did."""
    data = study.metrics["dataset"]
    counts = [data["by_class"].get(name, {}).get("images") for name in ("all", "hem")]
    generated = any("generated" in note for note in data.get("notes", []))
    return data["name"] == "cnmc" and counts == [published.IMAGES_ALL, published.IMAGES_HEM] and not generated
