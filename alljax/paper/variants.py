"""Which configuration was the paper's: variants of a study, ranked by their distance to Tables 1 to 6.

The paper does not state whether the split was stratified, how images were preprocessed, how activations were pooled and
whether training images were augmented.  A variant is one answer.  Its distance is the root mean square difference, in
percentage points, between its numbers and the published ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from alljax.errors import first_few, plural
from alljax.evaluation.intervals import HeldOut, percentile_interval, resample
from alljax.paper import matching, published, tolerance
from alljax.paper.published import Row
from alljax.report import plots
from alljax.report.setting_names import varied_settings
from alljax.report.tables import Figure, Section, Table, Value
from alljax.study.results import Study

STATED = ("model.backbone", "model.stage", "train.optimizer", "train.epochs")
"""The settings that the paper states: they determine the row that a trial corresponds to."""
BOTH = "both networks"
COLORS = {BOTH: plots.BLUE, "A": plots.VERMILION, "B": plots.GREEN}
MARKERS = {BOTH: "o", "A": "s", "B": "D"}


@dataclass(frozen=True)
class Variant:
    """A configuration and its distance to the tables.

    Attributes:
        name: the settings that distinguish it.
        rows: the rows of the paper that its finished trials correspond to.
        numbers: how many published numbers they cover.
        distances: by network, and over `BOTH`: the distance in percentage points and that in every resample,
            (1 + resamples,); NaN where undefined.
    """

    name: str
    rows: tuple[Row, ...]
    numbers: int
    distances: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class VariantRanking:
    """The variants of a study, nearest first.

    Attributes:
        variants: those with a finished trial that corresponds to a row of the paper.
        nearest: share of the resamples in which each is the nearest.
        networks: from the paper's A and B to the display names of the networks used as these.
        epochs: from the paper's numbers of epochs to those of the study.
    """

    variants: tuple[Variant, ...]
    nearest: np.ndarray
    networks: Mapping[str, str]
    epochs: Mapping[int, int]


def sections(study: Study) -> list[Section]:
    """Returns the section that ranks configurations (``study.compare=variants``).

    Raises:
        WorkdirError: a history or predictions are missing or damaged.
    """
    ranking = rank(study)
    parts = (_table(study, ranking), _figure(study, ranking)) if ranking.variants else ()
    return [Section("variants", "Which configuration was the paper's?", (conclusion(study, ranking),), parts)]


def rank(study: Study) -> VariantRanking:
    """Returns the variants of a study by their distance to Tables 1 to 6.

    The first network (backbone and stage) is used as the paper's A, the second as B.  A study with none of the paper's
    numbers of epochs, a toy, has its own matched in order.
    """
    networks, epochs, rows = matching.paper_rows(study)
    varied = [setting for setting in varied_settings(study) if not {*setting.keys} & {*STATED}]
    grouped: dict[str, dict[Row, str]] = {}
    for name in study.metrics["trials"]:
        if name in rows:
            values = study.settings(name)
            variant = ", ".join(f"{setting.name}={setting.labels[setting.index(values)]}" for setting in varied)
            grouped.setdefault(variant, {})[rows[name]] = name
    predictions = [study.predictions(name) for name in study.metrics["trials"]]
    tests = {tested.paths.tobytes(): tested.held_out for tested in predictions}
    found = [_measure(study, name, trials, tests) for name, trials in grouped.items()]
    found.sort(key=lambda variant: float(variant.distances[BOTH][0]))
    nearest = np.zeros(len(found))
    if found:
        distances = np.stack([variant.distances[BOTH][1:] for variant in found])
        distances = distances[:, np.isfinite(distances).all(0)]
        nearest = np.bincount(distances.argmin(0), minlength=len(found)) / max(1, distances.shape[1])
    return VariantRanking(tuple(found), nearest, networks, epochs)


def _measure(study: Study, name: str, trials: Mapping[Row, str], tests: Mapping[bytes, HeldOut]) -> Variant:
    """Compares the trials of a variant with the tables.

    Args:
        study: the study.
        name: of the variant.
        trials: its trials.
        tests: one test per set of images in the study: drawn from all their subjects, resamples are the same for all
            variants.
    """
    differences: dict[str, list[np.ndarray]] = {}
    for row, trial in trials.items():
        result, tested, history = study.metrics["trials"][trial], study.predictions(trial), study.history(trial)
        others = [test for paths, test in tests.items() if paths != tested.paths.tobytes()]
        # A printed F1 that is impossible with its recall and precision does not distinguish configurations.
        metrics = [*published.METRICS.values()] if published.implied(row).exact else ["macro_recall", "macro_precision"]
        resampled = resample([tested.held_out, *others], study.bootstrap, metrics)[0]
        training = history[history["epoch"] == history["epoch"].max()]["train_accuracy"].mean()
        found = [np.full(1 + study.bootstrap.resamples, 100 * training - published.training_accuracy(row))]
        for metric in metrics:
            theirs, _ = tolerance.published_value(row, metric, stratified=True)
            found.append(100 * (np.append(result[metric], resampled[metric]) - theirs))
        differences.setdefault(row[0], []).extend(found)
    differences[BOTH] = [difference for found in differences.values() for difference in found]
    distances = {network: np.sqrt(np.mean(np.square(found), axis=0)) for network, found in differences.items()}
    return Variant(name, tuple(sorted(trials)), len(differences[BOTH]), distances)


def conclusion(study: Study, ranking: VariantRanking) -> str:
    """Returns what the ranking supports, in one paragraph, or why it supports nothing."""
    if reason := _inconclusive(study, ranking):
        return f"Nothing can be concluded about the paper's configuration: {reason}."
    first, second = ranking.variants[:2]
    unit, level, nearest = matching.unit(study), study.bootstrap.level, first.distances[BOTH]
    gaps = {variant.name: _interval(variant.distances[BOTH] - nearest, level) for variant in ranking.variants[1:]}
    close = [name for name, (low, _) in gaps.items() if not low > 0]
    others = f"not significantly further away: {first_few(close)}"
    if not close:
        others = f"all others are significantly further away (resampling {unit})"
    repetition = _repetition()
    possible = "the nearest is further away, so none of these is shown to be the paper's"
    if _interval(nearest, level)[0] <= repetition:
        possible = "the nearest is within that, so it is a possible configuration"
    return (
        f"Of {len(ranking.variants)} configurations {first.name} is the nearest to Tables 1 to 6: {nearest[0]:.2f} "
        f"percentage points {_bounds(nearest, level)} over {first.numbers} published numbers, and the nearest in "
        f"{ranking.nearest[0]:.0%} of the resamples. Next is {second.name} with {second.distances[BOTH][0]:.2f}; "
        f"{others}. The same configuration on two random splits differs by about {repetition:.1f} points in macro "
        f"recall alone (binomial standard error): {possible}."
    )


def _inconclusive(study: Study, ranking: VariantRanking) -> str:
    """Returns why the ranking supports nothing; empty where it may."""
    data, networks = study.metrics["dataset"], ranking.networks.values()
    if not matching.is_cnmc(study):
        return f"these are {data['images']:,} images ({data['name']}), not the {published.IMAGES:,} of C-NMC 2019"
    if any(ours != theirs for theirs, ours in ranking.epochs.items()):
        return "no trial has the paper's numbers of epochs"
    if [name.removesuffix(" (Keras)") for name in networks] != [*published.NETWORKS.values()]:
        return f"the networks are {' and '.join(networks)}, not VGG16 and ResNet50"
    if len(ranking.variants) < 2:
        return f"it needs two configurations, and the study has {plural(len(ranking.variants), 'configuration')}"
    if len({variant.rows for variant in ranking.variants}) > 1:
        return "the configurations do not cover the same published numbers, because trials are missing"
    return ""


def _repetition() -> float:
    """Returns the standard deviation of the difference in macro recall between two random splits, in points."""
    confusions = np.array([published.implied(row).confusions.mean(0) for row in published.ROWS])
    tp, fn, fp, tn = confusions.T
    errors = (tp * fn / (tp + fn) ** 3 + tn * fp / (tn + fp) ** 3) / 4
    return float(100 * np.sqrt(2 * errors.mean()))


def _interval(distances: np.ndarray, level: float) -> tuple[float, float]:
    return percentile_interval(distances[1:], level) or (np.nan, np.nan)


def _bounds(distances: np.ndarray, level: float) -> str:
    low, high = _interval(distances, level)
    return "" if np.isnan(low) else f"[{low:.2f}, {high:.2f}]"


def _table(study: Study, ranking: VariantRanking) -> Table:
    level, rows = study.bootstrap.level, []
    for variant, share in zip(ranking.variants, ranking.nearest, strict=True):
        values = [Value(variant.name)]
        for network in (BOTH, *ranking.networks):
            found = variant.distances.get(network)
            missing = Value("–", note="no trial")
            values.append(missing if found is None else Value(f"{found[0]:.2f}", found[0], _bounds(found, level)))
        rows.append((*values, Value(f"{share:.1%}", float(share)), Value(str(variant.numbers), variant.numbers)))
    used = [f"{name} used as {published.NETWORKS[letter]}" for letter, name in ranking.networks.items()]
    impossible = sum(not published.implied(row).exact for row in published.ROWS if row[2] in ranking.epochs)
    notes = [
        "Root mean square difference to the published training accuracies (Tables 1 and 2) and macro recall, precision "
        f"and F1 (Tables 3 to 6), without {impossible} impossible F1. Networks: {', '.join(used)}.",
        f"In brackets: {level:.0%} intervals over {matching.unit(study)}, the same resamples for all. Resampling adds "
        "noise to every number, so an interval can be above its distance. Training accuracy is not resampled.",
    ]
    if other := [f"{ours} as {theirs}" for theirs, ours in ranking.epochs.items() if ours != theirs]:
        notes.append(f"None of the numbers of epochs is the paper's; they are used in order: {', '.join(other)}.")
    networks = [published.NETWORKS[network] for network in ranking.networks]
    columns = ("configuration", BOTH, *networks, "nearest in", "numbers")
    title = "Distance of each configuration to the published tables, in percentage points"
    return Table("variants", title, columns, tuple(rows), notes=tuple(notes))


def _figure(study: Study, ranking: VariantRanking) -> Figure:
    """Returns distances with their intervals, the nearest configuration on top."""
    shown, series, level = ranking.variants, (BOTH, *ranking.networks), study.bootstrap.level
    with plots.subplots(1, 1, (9.5, 1.3 + 0.42 * len(shown))) as (figure, grid):
        axes = grid[0, 0]
        for number, network in enumerate(series):
            covered = {row: item.distances[network] for row, item in enumerate(shown) if network in item.distances}
            at = np.array([*covered]) + 0.22 * (number - (len(series) - 1) / 2)
            low, high = np.array([_interval(distances, level) for distances in covered.values()]).reshape(-1, 2).T
            color, label = COLORS[network], published.NETWORKS.get(network, network)
            axes.hlines(at, low, high, color=color, linewidth=1.4, alpha=0.75)
            values = [distances[0] for distances in covered.values()]
            axes.plot(values, at, MARKERS[network], color=color, markersize=5, label=label)
        axes.set_yticks(range(len(shown)), [variant.name for variant in shown], fontsize=9)
        axes.set(ylim=(len(shown) - 0.5, -0.5), xlabel="distance in percentage points")
        axes.set_xlim(left=0)
        axes.grid(axis="x")
        figure.legend(loc="outside upper left", ncols=len(series), fontsize=9)
        caption = f"Distance of each configuration to the published tables, with {level:.0%} intervals."
        return plots.save("variants", caption, figure)
