"""Figures 7 to 9 of the paper with our numbers, and the confusion matrices and ROC curves that it does not show."""

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from pandas import DataFrame

from alljax.paper import matching, published
from alljax.paper.matching import Match
from alljax.paper.published import OPTIMIZERS, Row
from alljax.report import plots
from alljax.report.findings import BASELINES
from alljax.report.plots import BLUE, DASHES, VERMILION
from alljax.report.tables import Figure, Table, Value, difference_value, metric_value

COLORS = {"adam": BLUE, "rmsprop": VERMILION}
CURVES: dict[str, tuple[str, Any]] = {"train": ("training images", DASHES[1]), "val": ("held-out images", DASHES[0])}


def parts(match: Match) -> list[Table | Figure]:
    """Returns Figures 7 to 9, confusion matrices and ROC curves, and Figure 9 as a table; needs a finished trial."""
    found: list[Table | Figure] = []
    for number, network in enumerate(match.networks, start=7):
        trials = {row: name for row, name in match.trials.items() if row[0] == network}
        means = {row: match.study.history(name).groupby("epoch").mean() for row, name in trials.items()}
        panels = {
            f"{epochs} epochs": {row: mean for row, mean in means.items() if row[2] == epochs}
            for epochs in match.epochs
        }
        if means:
            name, about = f"figure-{number}", f"{match.networks[network]}; means over folds and seeds"
            found.append(curves(match, name, f"Figure {number}, one panel per number of epochs: {about}.", panels))
            caption = f"Figure {number} in one panel: {about}. Thin lines are shorter trainings, a dot marks their end."
            found.append(curves(match, f"{name}-overlaid", caption, {"": means}))
    found.append(accuracies(match))
    if len(match.study.classes) == 2:
        found.append(longest_trainings(match))
    return [*found, accuracy_table(match)]


def curves(match: Match, name: str, caption: str, panels: Mapping[str, Mapping[Row, DataFrame]]) -> Figure:
    """Returns accuracy above loss in each panel: by title, of each row its history, averaged per epoch."""
    across = min(4, len(panels))
    blocks = -(-len(panels) // across)
    size = (max(2.65 * across, 6.4), 4.0 * blocks + 0.6)
    with plots.subplots(2 * blocks, across, size) as (figure, grid):
        for axes in grid.flat:
            axes.set_visible(False)
        for index, (title, trainings) in enumerate(panels.items()):
            above, column = 2 * (index // across), index % across
            longest = {row[1]: row for row in trainings}  # the last one of each optimizer
            grid[above, column].set_title(title, fontsize=10.5)
            for side, quantity in enumerate(("accuracy", "loss")):
                axes = grid[above + side, column]
                axes.set_visible(True)
                axes.sharey(grid[side, 0])
                for row, means in trainings.items():
                    _draw(axes, means, quantity, row[1], row in longest.values())
                axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5, steps=[1, 2, 5, 10]))
                axes.tick_params(labelsize=8.5, labelleft=column == 0)
                axes.set_ylabel(quantity if column == 0 else "")
                axes.grid(axis="y")
        figure.supxlabel("epoch", fontsize=10.5)
        pairs = [pair for axes in grid.flat for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
        labels = {label: handle for handle, label in pairs}
        figure.legend([*labels.values()], [*labels], loc="outside upper center", ncols=min(4, 2 * across), fontsize=9)
        if any(match.study.settings(trial)["split.validation"] for trial in match.trials.values()):
            caption += " The held-out images are the validation images; none of them is tested."
        return plots.save(name, caption, figure)


def _draw(axes: Axes, means: DataFrame, quantity: str, optimizer: str, longest: bool) -> None:
    """Draws the training and validation curve of a trial, and a dot at its end."""
    for side, (label, dashes) in CURVES.items():
        curve, name = means[f"{side}_{quantity}"], f"{OPTIMIZERS[optimizer]}, {label}"
        axes.plot(curve, color=COLORS[optimizer], linestyle=dashes, linewidth=1.5 if longest else 0.7,
                  label=name if longest else None)  # fmt: skip
    axes.plot(curve.index[-1], curve.iloc[-1], "o", color=COLORS[optimizer], markersize=3)


def accuracies(match: Match) -> Figure:
    """Returns Figure 9: test accuracy with intervals, and the range that the paper's tables imply."""
    panels: dict[str, dict[str, np.ndarray]] = {}
    for network in match.networks:
        series = panels[match.title(network)] = {}
        for optimizer, name in OPTIMIZERS.items():
            found = [matching.compare(match, (network, optimizer, epochs), "accuracy") for epochs in match.epochs]
            series[f"{name}, ours"] = np.array([(entry.ours, *(entry.interval or (np.nan, np.nan))) for entry in found])
            theirs, half = np.array([(entry.theirs, entry.rounding) for entry in found]).T
            series[f"{name}, implied by the paper"] = np.stack([theirs, theirs - half, theirs + half], axis=1)
        baselines = match.study.split_of(next(iter(match.trials.values())))["baselines"]
        series |= {BASELINES[name]: np.full((len(found), 3), rule["accuracy"]) for name, rule in baselines.items()}
    caption = "Figure 9: test accuracy with intervals. The paper prints no numbers; its tables imply ranges."
    rows = [f"{epochs} epochs" for epochs in match.epochs]
    return plots.interval_figure("figure-9", caption, rows, panels, "test accuracy")


def longest_trainings(match: Match) -> Figure:
    """Returns confusion matrices and ROC curves of the longest training of each network and optimizer."""
    rows = [*{row[:2]: row for row in match.trials}.values()]
    names = [name.partition(" (")[0] for name in match.study.class_names]
    with plots.subplots(2, len(rows), (0.5 + 2.6 * len(rows), 6.2)) as (figure, grid):
        for row, (above, below) in zip(rows, grid.T, strict=True):
            name = match.trials[row]
            result, tested = match.study.metrics["trials"][name], match.study.predictions(name)
            network = textwrap.fill(match.networks[row[0]], 34)
            above.set_title(f"{network}\n{OPTIMIZERS[row[1]]}, {row[2]} epochs", fontsize=9.5)
            plots.draw_confusion_matrix(above, result["confusion"], names)
            plots.draw_roc_curves(below, tested.held_out, match.study.class_names,
                                  color=COLORS[row[1]], label="true positive rate", linewidth=1.5)  # fmt: skip
            below.set_title(f"AUC {metric_value('auc', result)}", fontsize=9.5)
            below.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
            for axes in (above, below):
                axes.tick_params(labelsize=8.5)
                axes.set_ylabel(axes.get_ylabel() if row == rows[0] else "")
        caption = (
            "Confusion matrices and ROC curves of the longest trainings, which the paper does not show; positive class "
            f"{match.study.class_names[1]}. The dot is the most probable class; faint lines are seeds."
        )
        return plots.save("longest-trainings", caption, figure)


def accuracy_table(match: Match) -> Table:
    """Returns Figure 9 in numbers, with the recall of each class: ours, and what the published tables imply."""
    names, rows = match.study.class_names, []
    for row, name in match.trials.items():
        result = match.study.metrics["trials"][name]
        recalls = [
            Value(f"{metrics['recall']:.1%}", metrics["recall"], f"{counts[label]:,.0f} of {sum(counts):,.0f}")
            for label, (metrics, counts) in enumerate(zip(result["per_class"], result["confusion"], strict=True))
        ]
        found = result["size_improvement"].get("accuracy")
        over_size = difference_value("accuracy", found["value"], found["interval"]) if found else Value("–")
        training = Value(match.networks[row[0]]), Value(OPTIMIZERS[row[1]]), Value(str(row[2]), row[2])
        low, high = published.implied_ranges(row, match.test_sizes)[1]
        theirs = Value(f"{100 * low:.0f} to {100 * high:.0f}%", (low + high) / 2)
        rows.append((*training, *matching.compare(match, row, "accuracy").values, over_size, *recalls, theirs))
    sizes = " to ".join(f"{size:,}" for size in sorted({min(match.test_sizes), max(match.test_sizes)}))
    impossible = sum(not published.implied(row)[1] for row in match.trials)
    notes = (
        f"Theirs: the ranges that Tables 3 to 6 imply with {sizes} ALL images in the test set; in {impossible} rows "
        "from recall and precision alone, because no confusion matrix has the printed F1.",
        "Over cell size: improvement over one threshold on the cell size, on the same images.",
        f"In brackets: {match.study.intervals}.",
    )
    accuracy = [f"accuracy, {what}" for what in ("ours", "theirs", "difference", "ours over cell size")]
    recall = [*(f"recall of {name}, ours" for name in names), "recall of HEM (normal), theirs"]
    columns = ("network", "optimizer", "epochs", *accuracy, *recall)
    return Table("test-accuracy", "Figure 9 in numbers, with the recall of each class", columns, rows, notes=notes)
