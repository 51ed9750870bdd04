"""Which set-up was the paper's: variants of a study, nearest to Tables 1-6 first, and what that supports."""

import numpy as np

from alljax.errors import first_few, plural
from alljax.paper import matching, published
from alljax.paper.distance import TOGETHER, Ranking, rank
from alljax.report import plots
from alljax.report.tables import Figure, Section, Table, Value
from alljax.study.results import Study

COLORS = {TOGETHER: plots.BLUE, "A": plots.VERMILION, "B": plots.GREEN}
MARKS = {TOGETHER: "o", "A": "s", "B": "D"}
DRAWN = 24
"""Variants in the figure, the nearest first; the table has all."""


def sections(study: Study) -> list[Section]:
    """Returns the part of the report that ranks set-ups (``study.compare=variants``).

    Args:
        study: the study, from `finished.read_study`.

    Raises:
        WorkdirError: a history or predictions that are missing, cut off or not the study's.
    """
    found = rank(study)
    parts = (_table(study, found), _picture(study, found)) if found.variants else ()
    return [Section("variants", "Which set-up was theirs?", (verdict(study, found),), parts)]


def _interval(study: Study, drawn: np.ndarray) -> tuple[float, float]:
    level = study.config["evaluation.level"]
    known = drawn[np.isfinite(drawn)]
    if not known.size:
        return np.nan, np.nan
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _bounds(study: Study, drawn: np.ndarray) -> str:
    low, high = _interval(study, drawn)
    return f"[{low:.2f}, {high:.2f}]".replace("-", "−") if np.isfinite(low) else "no interval: every draw lost a class"


def _table(study: Study, found: Ranking) -> Table:
    rows = []
    for place, variant in enumerate(found.variants):
        distances = [
            Value(f"{variant.distance(one):.2f}", variant.distance(one), _bounds(study, variant.resampled(one)))
            if one in (TOGETHER, *variant.count)
            else Value("–", note="no cell")
            for one in (TOGETHER, *found.networks)
        ]
        share = Value("–", note="other cells tested") if found.nearest is None else Value(
            f"{found.nearest[place]:.1%}", float(found.nearest[place])
        )  # fmt: skip
        rows.append((Value(variant.name), *distances, share, Value(f"{variant.numbers}", variant.numbers)))
    own = [f"{published.SCENARIOS[letter]} ({letter})" for letter in found.networks]
    return Table(
        "variants",
        "Distance of each set-up to the published tables, in percentage points",
        ("set-up", TOGETHER, *own, "nearest in", "numbers"),
        tuple(rows),
        notes=tuple(_notes(study, found)),
    )


def _notes(study: Study, found: Ranking) -> list[str]:
    drawing, unit = study.bootstrap, matching.unit(study)
    impossible = sum(not published.implied(*key, budget).exact for key in published.KEYS for budget in found.budgets)
    plays = [f"{network} as {published.SCENARIOS[letter]}" for letter, network in found.networks.items()]
    lines = [
        "Root mean square difference over the published numbers that a set-up's cells cover: training accuracy after "
        f"the last epoch (Tables 1–2), macro recall, precision and F1 (Tables 3–6). Networks: {', '.join(plays)}.",
        f"In brackets: {drawing['level']:.0%} percentile intervals, {drawing['resamples']:,} resamples of the {unit} "
        "tested, the same for all set-ups. Training accuracy is not resampled: the training cells' predictions are not "
        "kept. Resampling adds noise to every number, so an interval may lie above its distance.",
        "“Nearest in”: share of the resamples in which the set-up is the nearest of all.",
    ]
    if impossible:
        lines.append(f"{impossible} of the published F1 left out: no confusion matrix has them beside the recall and "
                     "precision printed.")  # fmt: skip
    if any(own != budget for budget, own in found.budgets.items()):
        lines.append("None of the study's budgets is the paper's; they stand in by their order: "
                     + ", ".join(f"{own} for {budget}" for budget, own in found.budgets.items())
                     + " epochs.")  # fmt: skip
    if len({variant.numbers for variant in found.variants}) > 1:
        lines.append("The set-ups do not cover the same numbers, so their distances are not of the same thing.")
    return lines


def verdict(study: Study, found: Ranking) -> str:
    """Returns what the evidence supports, in one paragraph, or why it supports nothing.

    Args:
        study: the study.
        found: its variants, from `rank`.
    """
    if reason := _inconclusive(study, found):
        return f"Nothing can be concluded about the paper's set-up: {reason}."
    first, *others = found.variants
    assert found.nearest is not None  # else inconclusive
    unit, level = matching.unit(study), study.config["evaluation.level"]
    gaps = {one.name: one.resampled() - first.resampled() for one in others}
    near = [name for name, gap in gaps.items() if not _interval(study, gap)[0] > 0]
    if near:
        apart = f"not told apart from it: {first_few(near)}, whose greater distance the choice of {unit} may explain"
    else:
        apart = f"all others lie further away by more than the choice of {unit} explains"
    repeat = _repetition()
    reached = (
        "no further than a repetition may lie, so the set-up is a possible one"
        if _interval(study, first.resampled())[0] <= repeat
        else "further than that, so none of the set-ups tried is shown to be theirs"
    )
    protocol = study.metrics["protocol"]["name"]
    split = (
        "" if protocol == "paper" else f" The cells were split by {protocol}, unlike the paper's, which adds to all."
    )
    return (
        f"Of {len(found.variants)} set-ups {first.name} is the nearest to Tables 1–6: {first.distance():.2f} points "
        f"{_bounds(study, first.resampled())} over {first.numbers} published numbers ({level:.0%} interval), and the "
        f"nearest in {found.nearest[0]:.0%} of the resamples. Next is {others[0].name} with "
        f"{others[0].distance():.2f} points, {others[0].distance() - first.distance():.2f} "
        f"{_bounds(study, gaps[others[0].name])} more; {apart}. One set-up on two random splits differs by about "
        f"{repeat:.1f} points in macro recall alone (binomial standard error): the nearest is {reached}.{split}"
    )


def _inconclusive(study: Study, found: Ranking) -> str:
    """Returns why the ranking says nothing of the paper; empty where it may."""
    data = study.metrics["dataset"]
    generated = [note for note in data.get("notes", []) if "generated cells" in note]
    if not matching.real(study) or generated:
        what = "generated cells" if data["name"] == "synthetic" or generated else f"{data['images']:,} images"
        return (
            f"these are {what} ({data['name']}), not the {published.IMAGES:,} images of C-NMC 2019 "
            f"({published.IMAGES_ALL:,} ALL, {published.IMAGES_HEM:,} HEM) that the paper is about"
        )
    if any(own != budget for budget, own in found.budgets.items()):
        return f"no cell was trained for {', '.join(map(str, published.BUDGETS))} epochs"
    if missing := [
        plays
        for letter, plays in published.SCENARIOS.items()
        if found.networks.get(letter, "").removesuffix(" (Keras)") != plays
    ]:
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not what was trained"
    if len(found.variants) < 2:
        return f"{plural(len(found.variants), 'set-up')} to compare, at least two are needed"
    if len({tuple(sorted(variant.trials)) for variant in found.variants}) > 1:
        return "the set-ups do not cover the same published numbers"
    return "" if found.nearest is not None else "the set-ups were not tested on the same cells"


def _repetition() -> float:
    """Returns by how many points macro recall differs between two random splits: the mean over the tables' rows."""
    errors = []
    for key in published.KEYS:
        for budget in published.BUDGETS:
            tp, fn, fp, tn = published.implied(*key, budget).confusions.mean(0)
            errors.append((tp * fn / (tp + fn) ** 3 + tn * fp / (tn + fp) ** 3) / 4)
    return float(100 * np.sqrt(2 * np.mean(errors)))


def _picture(study: Study, found: Ranking) -> Figure:
    """Draws distances as dots with their intervals, the nearest set-up on top."""
    shown = found.variants[:DRAWN]
    series = (TOGETHER, *found.networks)
    with plots.subplots(1, 1, (7.2, 1.3 + 0.42 * len(shown))) as (figure, grid):
        axes = grid[0, 0]
        for number, one in enumerate(series):
            covered = [place for place, variant in enumerate(shown) if one in (TOGETHER, *variant.count)]
            at = np.array(covered) + 0.22 * (number - (len(series) - 1) / 2)
            ends = [_interval(study, shown[place].resampled(one)) for place in covered]
            label = one if one == TOGETHER else f"{published.SCENARIOS[one]} ({one})"
            axes.hlines(at, *np.array(ends).reshape(-1, 2).T, color=COLORS[one], linewidth=1.4, alpha=0.75)
            values = [shown[place].distance(one) for place in covered]
            axes.plot(values, at, MARKS[one], color=COLORS[one], markersize=5, label=label)
        axes.set_yticks(range(len(shown)), [variant.name for variant in shown])
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.set_xlabel("distance to the published tables, percentage points")
        axes.grid(axis="x")
        figure.legend(loc="outside upper left", ncols=len(series), fontsize=9)
        level = f"{study.config['evaluation.level']:.0%}"
        caption = f"Distance of each set-up to the published tables, with {level} intervals; left is nearer."
        if len(shown) < len(found.variants):
            caption += f" The nearest {len(shown)} of {len(found.variants)}."
        told = "; ".join(f"{variant.name} {variant.distance():.2f}" for variant in shown)
        return plots.save("variants", caption, figure, f"distance in points: {told}")
