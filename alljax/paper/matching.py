"""Which trials of a study correspond to which rows of the paper's tables, and our numbers beside the published."""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alljax.evaluation.intervals import HeldOut, describe
from alljax.paper import published
from alljax.paper.published import Row
from alljax.report.setting_names import setting_value
from alljax.report.tables import PERCENT, Value, format_value, number_value
from alljax.study.results import Study

METRICS = ("training_accuracy", "accuracy", *published.METRICS.values())


@dataclass(frozen=True)
class Match:
    """A study beside the paper, made by `match`."""

    study: Study
    networks: Mapping[str, str]  # display names of the networks used as the paper's A and B
    trials: Mapping[Row, str]  # rows of the paper, in its order → finished trials with one split
    split: Mapping[str, Any]  # the settings ``split.*`` of `trials`

    @property
    def epochs(self) -> list[int]:
        """The numbers of epochs of `trials`."""
        return sorted({epochs for _, _, epochs in self.trials})

    @property
    def test_sizes(self) -> Sequence[int]:
        """The numbers of ALL test images for which published tables are interpreted."""
        return [published.STRATIFIED_ALL] if self.split["split.stratified"] else published.FITTING_ALL

    def title(self, network: str) -> str:
        """Returns the name of a network for titles: ``EfficientNet-Lite0 used as VGG16``."""
        ours, theirs = self.networks[network], published.NETWORKS[network]
        return ours if ours.partition(" ")[0] == theirs else f"{ours} used as {theirs}"


def match(study: Study) -> Match:
    """Finds the rows of the paper that the trials of a study correspond to; its first network is used as VGG16."""
    settings, network_of = {name: study.settings(name) for name in study.trials}, {}
    for name, values in settings.items():
        backbone, stage = setting_value("model.backbone", values["model.backbone"]), values["model.stage"]
        network_of[name] = f"{backbone} up to {stage}" if stage else backbone
    networks = dict(zip(published.NETWORKS, dict.fromkeys(network_of.values()), strict=False))
    letters = {network: letter for letter, network in networks.items()}
    # Of several splits the first one with protocol ``paper``, otherwise the first one.
    chosen = min(settings.values(), key=lambda values: values["split.protocol"] != "paper")
    split = {key: value for key, value in chosen.items() if key.startswith("split.")}
    found: dict[Row, str] = {}
    for name, values in settings.items():
        if name in study.metrics["trials"] and split.items() <= values.items():
            row = letters.get(network_of[name], ""), values["train.optimizer"], values["train.epochs"]
            found.setdefault(row, name)
    return Match(study, networks, {row: found[row] for row in published.ROWS if row in found}, split)


@dataclass(frozen=True)
class Comparison:
    """Our number beside a published one, as shares."""

    metric: str  # ``training_accuracy`` (after the last epoch) or a metric of metrics.json
    theirs: float  # the published number; of test accuracy the middle of the implied range
    rounding: float  # half of the last printed digit, or of the implied range
    ours: float = math.nan  # mean over runs; NaN where a trial is not finished
    interval: tuple[float, float] | None = None  # of `ours` over subjects
    tolerance: float = math.nan  # NaN with one run

    def within(self, tolerances: int = 1) -> bool:
        """Returns whether the difference, up to rounding, is at most this many tolerances; False without tolerance."""
        return abs(self.ours - self.theirs) <= tolerances * self.tolerance + self.rounding + 1e-9

    @property
    def values(self) -> list[Value]:
        """For a table: ours, theirs (an implied test accuracy with its range), and the difference with its verdict."""
        low, high = (f"{100 * (self.theirs + sign * self.rounding):.1f}" for sign in (-1, 1))
        text = format_value(self.metric, self.theirs) if self.metric in PERCENT else f"{self.theirs:.2f}"
        theirs = Value(text, self.theirs, f"{low} to {high}" if self.metric == "accuracy" else "")
        if math.isnan(self.ours):
            return [Value("–", note="no finished trial"), theirs, Value("–")]
        verdict = "no tolerance: one run"
        if not math.isnan(self.tolerance):
            tolerance = format_value(self.metric, self.tolerance, "+").lstrip("+")
            verdict = f"{'within' if self.within() else 'outside'} ±{tolerance}"
        difference = replace(number_value(self.metric, self.ours - self.theirs, sign="+"), note=verdict)
        return [number_value(self.metric, self.ours, self.interval), theirs, difference]


def compare(match: Match, metric: str, *rows: Row) -> Comparison:
    """Returns our number beside that of a row, or mean of all `rows` of a table; of accuracy what the tables imply."""
    if metric == "accuracy":
        low, high = np.mean([published.implied_ranges(row, match.test_sizes)[0] for row in rows], axis=0)
        found = Comparison(metric, (low + high) / 2, (high - low) / 2)
    elif len(rows) > 1:
        found = Comparison(metric, published.PRINTED[rows[0][:2]][metric][-1], 5e-3)
    else:
        found = Comparison(metric, published.printed(rows[0], metric), 5e-5 if metric == "training_accuracy" else 5e-3)
    if not match.trials.keys() >= {*rows}:
        return found
    names = [match.trials[row] for row in rows]
    runs = np.mean([_runs(match.study, name)[metric] for name in names], axis=0)
    results = [match.study.metrics["trials"][name] for name in names]
    ours = runs.mean() if metric == "training_accuracy" else np.mean([result[metric] for result in results])
    interval = results[0]["intervals"].get(metric) if len(rows) == 1 else None
    tolerance = math.sqrt(2) * float(np.std(runs, ddof=1)) if len(runs) > 1 else math.nan
    return replace(found, ours=float(ours), interval=interval, tolerance=tolerance)


def is_cnmc(study: Study) -> bool:
    """Returns whether the study used the 10,661 training images of C-NMC 2019, as the paper did."""
    data = study.metrics["dataset"]
    counts = {name: of_class["images"] for name, of_class in data["by_class"].items()}
    return data["name"] == "cnmc" and counts == {"all": published.IMAGES_ALL, "hem": published.IMAGES_HEM}


@functools.lru_cache(maxsize=64)
def _runs(study: Study, name: str) -> Mapping[str, np.ndarray]:
    """Returns the metrics of a trial, one number per repeat of the split and seed; test metrics are over all folds."""
    history, tested, found = study.history(name), study.predictions(name), []
    last = history.groupby(["repeat", "fold", "seed"]).tail(1)
    repeats = np.array([int(fold.partition(" ")[0]) for fold in tested.folds])
    for (repeat, seed), training in last.groupby(["repeat", "seed"])["train_accuracy"].mean().items():
        rows, of_seed = repeats == repeat, tested.probabilities[seed - history["seed"].min()]
        test = HeldOut(tested.labels[rows], of_seed[rows][None], tested.subjects[rows])
        found.append(describe(test, 0) | {"training_accuracy": training})
    return {metric: np.array([run[metric] for run in found]) for metric in METRICS}
