"""Which trials of a study correspond to which rows of the paper's tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alljax.errors import first_few, plural
from alljax.paper import published
from alljax.paper.published import Row
from alljax.report.setting_names import setting_value
from alljax.study.results import Study


@dataclass(frozen=True, eq=False)
class Match:
    """A study beside the paper, made by `match`.

    Attributes:
        study: the study.
        networks: display names of the networks used as the paper's A and B.
        rows: from trials to rows of the paper; with several splits or configurations several trials have one row.
        trials: from rows of the paper to trials with one split, finished or not.
        protocol: split protocol of `trials`.
        stratified: whether that split is stratified.
        unmatched: number of trials with that split that correspond to no row.
    """

    study: Study
    networks: Mapping[str, str]
    rows: Mapping[str, Row]
    trials: Mapping[Row, str]
    protocol: str
    stratified: bool
    unmatched: int

    def result(self, row: Row) -> Mapping[str, Any] | None:
        """Returns the entry of a row in metrics.json, or None where its trial is not finished."""
        return self.study.metrics["trials"].get(self.trials.get(row))

    def missing(self, row: Row) -> str:
        """Returns why `result` is None, for a table."""
        if row not in self.trials:
            return "not in this study"
        return "trial failed" if self.trials[row] in self.study.metrics["failed"] else "trial missing"

    @property
    def finished(self) -> list[Row]:
        """The rows with a finished trial, in the order of the paper."""
        return [row for row in self.trials if self.result(row)]

    @property
    def epochs(self) -> list[int]:
        """The numbers of epochs of `trials`."""
        return sorted({epochs for _, _, epochs in self.trials})

    @property
    def test_sizes(self) -> Sequence[int]:
        """The numbers of ALL test images for which published tables are interpreted."""
        return [published.STRATIFIED_ALL] if self.stratified else published.FITTING_ALL

    def title(self, network: str) -> str:
        """Returns the name of a network for titles: ``EfficientNet-Lite0 used as VGG16``."""
        ours, theirs = self.networks[network], published.NETWORKS[network]
        return ours if ours.partition(" ")[0] == theirs else f"{ours} used as {theirs}"

    @property
    def baselines(self) -> Mapping[str, Any]:
        """The baselines on the split of the matched trials."""
        rows = self.finished
        split = self.study.split_of(self.trials[rows[0]]) if rows else self.study.metrics
        return split["baselines"]


def match(study: Study) -> Match:
    """Finds the rows of the paper that the trials of a study correspond to, missing trials too.

    The first network (backbone and stage) in the order of the trials is used as the paper's VGG16, the second as its
    ResNet50. Of several splits the first with protocol ``paper`` is used, otherwise the first one.
    """
    settings = {name: study.settings(name) for name in study.trials}
    networks = dict(zip(published.NETWORKS, dict.fromkeys(map(_network, settings.values())), strict=False))
    letters = {name: letter for letter, name in networks.items()}
    rows, splits = {}, {}
    for name, values in settings.items():
        row = letters.get(_network(values), ""), values["train.optimizer"], values["train.epochs"]
        if row in published.ROWS:
            rows[name] = row
        splits[name] = {key: value for key, value in values.items() if key.startswith("split.")}
    random = [split for split in splits.values() if split["split.protocol"] == "paper"]
    split = (random or [*splits.values()])[0]
    same = [name for name in study.trials if splits[name] == split]
    first = {rows[name]: name for name in reversed(same) if name in rows}
    trials = {row: first[row] for row in published.ROWS if row in first}
    unmatched = len(same) - len(trials)
    return Match(study, networks, rows, trials, split["split.protocol"], split["split.stratified"], unmatched)


def describe(match: Match) -> list[str]:
    """Returns how a study differs from the paper's, in sentences."""
    titles = {letter: match.title(letter) for letter in match.networks}
    lines = [f"Network {letter}: {title}." for letter, title in titles.items() if " used as " in title]
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


def unit(study: Study) -> str:
    """Returns what intervals are over: ``subjects`` or ``images``."""
    return str(next(iter(study.metrics["trials"].values()))["interval_unit"])


def is_cnmc(study: Study) -> bool:
    """Returns whether the study used the 10,661 training images of C-NMC 2019, as the paper did."""
    data = study.metrics["dataset"]
    counts = [data["by_class"].get(name, {}).get("images") for name in ("all", "hem")]
    return data["name"] == "cnmc" and counts == [published.IMAGES_ALL, published.IMAGES_HEM]


def _network(settings: Mapping[str, Any]) -> str:
    """Returns the display name of a network: ``EfficientNet-Lite0 up to stage3``."""
    name, stage = setting_value("model.backbone", settings["model.backbone"]), settings["model.stage"]
    return f"{name} up to {stage}" if stage else name
