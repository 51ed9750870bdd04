"""Which configuration was the paper's: variants of a study, ranked by their distance to Tables 1 to 6.

The paper does not state whether the split was stratified, how images were preprocessed, how activations were pooled and
whether training images were augmented.  A variant is one answer.  Its distance is the root mean square difference, in
percentage points, between its numbers and the published ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from alljax.errors import first_few, plural
from alljax.evaluation.intervals import HeldOut, Interval, percentile_interval, resample
from alljax.paper import matching, published
from alljax.paper.matching import Match
from alljax.paper.published import Row
from alljax.report.setting_names import describe, varied_settings
from alljax.report.tables import Section, Table, Value
from alljax.study.results import Study

STATED = ("model.backbone", "model.stage", "train.optimizer", "train.epochs")
"""The settings that the paper states: they determine the row that a trial corresponds to."""
BOTH = "both networks"


@dataclass(frozen=True)
class Variant:
    """A configuration and its distance to the tables.

    Attributes:
        name: the settings that distinguish it.
        rows: the rows of the paper that its finished trials correspond to.
        numbers: how many published numbers they cover.
        distances: by network, and over `BOTH`: the distance in percentage points and that in every resample,
            (1 + resamples,); NaN where undefined and without trials of a network.
        nearest: share of the resamples in which it is the nearest.
    """

    name: str
    rows: tuple[Row, ...]
    numbers: int
    distances: Mapping[str, np.ndarray]
    nearest: float = 0.0


def sections(study: Study) -> list[Section]:
    """Returns the section that ranks configurations (``study.compare=variants``)."""
    match = matching.match(study)
    ranking = rank(match)
    parts = [_table(match, ranking)] if ranking else []
    return [Section("variants", "Which configuration was the paper's?", [conclusion(match, ranking)], parts)]


def rank(match: Match) -> list[Variant]:
    """Returns the configurations with a finished trial of a row of the paper, nearest to Tables 1 to 6 first."""
    study = match.study
    names = [name for name in study.metrics["trials"] if name in match.rows]
    if not names:
        return []
    varied = [setting for setting in varied_settings(study) if not {*setting.keys} & {*STATED}]
    tests = {study.predictions(name).paths.tobytes(): study.predictions(name).held_out for name in names}
    grouped: dict[str, dict[Row, list[np.ndarray]]] = {}
    for name in names:
        variant = describe(varied, study.settings(name))
        grouped.setdefault(variant, {})[match.rows[name]] = _differences(match, name, tests)
    found = []
    for variant, by_row in grouped.items():
        distances = {}
        for network in (BOTH, *match.networks):
            differences = [each for row, of_row in by_row.items() if network in (BOTH, row[0]) for each in of_row]
            no_trial = [np.full(1 + study.bootstrap.resamples, np.nan)]
            distances[network] = np.sqrt(np.mean(np.square(differences or no_trial), axis=0))
        found.append(Variant(variant, tuple(sorted(by_row)), sum(map(len, by_row.values())), distances))
    found.sort(key=lambda variant: float(variant.distances[BOTH][0]))
    draws = np.stack([variant.distances[BOTH][1:] for variant in found])
    draws = draws[:, np.isfinite(draws).all(0)]
    nearest = np.bincount(draws.argmin(0), minlength=len(found)) / max(1, draws.shape[1])
    return [replace(variant, nearest=share) for variant, share in zip(found, nearest.tolist(), strict=True)]


def _differences(match: Match, name: str, tests: Mapping[bytes, HeldOut]) -> list[np.ndarray]:
    """Returns the differences of a trial to the published numbers in points, and in every resample, (1 + B,) each.

    Resamples are drawn from the subjects of `tests`, one per set of images, so that they are the same for all trials.
    """
    study, row = match.study, match.rows[name]
    result, tested, history = study.metrics["trials"][name], study.predictions(name), study.history(name)
    training = history[history["epoch"] == history["epoch"].max()]["train_accuracy"].mean()
    ours = {"training_accuracy": np.full(1 + study.bootstrap.resamples, training)}
    # A printed F1 that is impossible with its recall and precision does not distinguish configurations.
    metrics = list(published.METRICS.values())[: 3 if published.implied(row)[1] else 2]
    others = [test for paths, test in tests.items() if paths != tested.paths.tobytes()]
    for metric, resampled in resample([tested.held_out, *others], study.bootstrap, metrics)[0].items():
        ours[metric] = np.append(result[metric], resampled)
    return [100 * (values - published.printed(row, metric)) for metric, values in ours.items()]


def conclusion(match: Match, ranking: Sequence[Variant]) -> str:
    """Returns what the ranking supports, in one paragraph, or why it supports nothing."""
    if reason := _inconclusive(match, ranking):
        return f"Nothing can be concluded about the paper's configuration: {reason}."
    first, second = ranking[:2]
    level, nearest = match.study.bootstrap.level, first.distances[BOTH]
    close = [other.name for other in ranking[1:] if not _interval(other.distances[BOTH] - nearest, level)[0] > 0]
    repetition = _repetition()
    possible = "the nearest is further away, so none of these is shown to be the paper's"
    if _interval(nearest, level)[0] <= repetition:
        possible = "the nearest is within that, so it is a possible configuration"
    return (
        f"Of {len(ranking)} configurations {first.name} is the nearest to Tables 1 to 6: {_value(nearest, level)} "
        f"percentage points over {first.numbers} published numbers, and the nearest in {first.nearest:.0%} of the "
        f"resamples. Next is {second.name} with {second.distances[BOTH][0]:.2f}; not significantly further away "
        f"(resampling {match.study.interval_unit}): {first_few(close) or 'none'}. Macro recall alone differs by about "
        f"{repetition:.1f} points between two random splits: {possible}."
    )


def _inconclusive(match: Match, ranking: Sequence[Variant]) -> str:
    """Returns why the ranking supports nothing; empty where it may."""
    data, networks = match.study.metrics["dataset"], match.networks.values()
    if not matching.is_cnmc(match.study):
        return f"these are {data['images']:,} images ({data['name']}), not the {published.IMAGES:,} of C-NMC 2019"
    if [name.removesuffix(" (Keras)") for name in networks] != [*published.NETWORKS.values()]:
        return f"the networks are {' and '.join(networks)}, not VGG16 and ResNet50"
    if len(ranking) < 2:
        return f"it needs two configurations, and the study has {plural(len(ranking), 'configuration')}"
    if len({variant.rows for variant in ranking}) > 1:
        return "the configurations do not cover the same published numbers, because trials are missing"
    return ""


def _repetition() -> float:
    """Returns the standard deviation of the difference in macro recall between two random splits, in points."""
    confusions = np.array([published.implied(row)[0].mean(0) for row in published.ROWS])
    tp, fn, fp, tn = confusions.T
    errors = (tp * fn / (tp + fn) ** 3 + tn * fp / (tn + fp) ** 3) / 4
    return float(100 * np.sqrt(2 * errors.mean()))


def _interval(distances: np.ndarray, level: float) -> Interval:
    return percentile_interval(distances[1:], level) or (np.nan, np.nan)


def _value(distances: np.ndarray, level: float) -> Value:
    if np.isnan(distances[0]):
        return matching.NOT_FINISHED
    low, high = _interval(distances, level)
    return Value(f"{distances[0]:.2f}", distances[0], f"[{low:.2f}, {high:.2f}]")


def _table(match: Match, ranking: Sequence[Variant]) -> Table:
    level, rows = match.study.bootstrap.level, []
    for variant in ranking:
        values = [_value(found, level) for found in variant.distances.values()]
        share, numbers = Value(f"{variant.nearest:.1%}", variant.nearest), Value(str(variant.numbers), variant.numbers)
        rows.append((Value(variant.name), *values, share, numbers))
    used = ", ".join(map(match.title, match.networks))
    impossible = sum(not published.implied(row)[1] for row in {*match.rows.values()})
    notes = (
        f"Root mean square difference to Tables 1 to 6 without {impossible} impossible F1. Networks: {used}.",
        f"In brackets: {match.study.intervals}, the same resamples for all. Resampling adds noise to every number, so "
        "an interval can be above its distance. Training accuracy is not resampled.",
    )
    networks = [published.NETWORKS[network] for network in match.networks]
    columns = ("configuration", BOTH, *networks, "nearest in", "numbers")
    title = "Distance of each configuration to the published tables, in percentage points"
    return Table("variants", title, columns, rows, notes=notes)
