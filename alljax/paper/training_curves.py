"""Figures 7 to 9 of the paper with our numbers, and the confusion matrices and ROC curves that it does not show."""

import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from alljax.paper import matching, published, tolerance
from alljax.paper.matching import Match
from alljax.paper.published import Row
from alljax.report import plots
from alljax.report.findings import BASELINES
from alljax.report.plots import BLUE, DASHES, INK, VERMILION
from alljax.report.tables import Figure, Table, Value, difference_value, metric_value

if TYPE_CHECKING:
    from pandas import DataFrame

COLORS = {"adam": BLUE, "rmsprop": VERMILION}
CURVES: dict[str, tuple[str, Any]] = {"train": ("training images", DASHES[1]), "val": ("held-out images", DASHES[0])}
QUANTITIES = ("accuracy", "loss")
NUMBERS = {"A": 7, "B": 8}
WIDTH = 10.5
"""Width in inches of a figure as wide as the page."""
COLUMNS = ("network", "optimizer", "epochs")


def parts(match: Match) -> list[Table | Figure]:
    """Returns Figures 7 to 9, confusion matrices and ROC curves, and the tables of Figure 9.

    Args:
        match: a study beside the paper with at least one finished trial.
    """
    found: list[Table | Figure] = []
    for network in match.networks:
        curves = {
            row: mean_curves(match.study.history(match.trials[row])) for row in match.finished if row[0] == network
        }
        if curves:
            found += [panels(match, network, curves), overlaid(match, network, curves)]
    found.append(accuracies(match))
    if len(match.study.classes) == 2:
        found.append(longest_trainings(match))
    return [*found, accuracy_table(match), recall_table(match)]


def mean_curves(history: "DataFrame") -> "DataFrame":
    """Returns the curves of a trial (history.csv) by epoch, as means over folds, repeats and seeds."""
    return history.groupby("epoch")[[f"{side}_{quantity}" for side in CURVES for quantity in QUANTITIES]].mean()


def panels(match: Match, network: str, curves: Mapping[Row, "DataFrame"]) -> Figure:
    """Returns Figure 7 or 8 as printed: one panel per number of epochs, accuracy above loss, both optimizers.

    Args:
        match: the study beside the paper.
        network: ``A`` for Figure 7 or ``B`` for Figure 8.
        curves: of the finished rows of this network.
    """
    across = min(4, len(match.epochs))
    rows = -(-len(match.epochs) // across)
    with plots.subplots(2 * rows, across, (max(2.65 * across, 4.4), 4.0 * rows + 0.6)) as (figure, grid):
        for index in range(rows * across):
            pair = grid[2 * (index // across) : 2 * (index // across) + 2, index % across]
            if index >= len(match.epochs):
                for axes in pair:
                    axes.set_visible(False)
                continue
            epochs = list(match.epochs)[index]
            pair[0].set_title(f"{match.epochs[epochs]} epochs", fontsize=10.5)
            for axes, quantity in zip(pair, QUANTITIES, strict=True):
                for optimizer in COLORS:
                    if (row := (network, optimizer, epochs)) in curves:
                        _draw(axes, curves[row], quantity, optimizer, 1.4)
                axes.tick_params(labelsize=8.5, labelleft=index % across == 0)
                axes.set_ylabel(quantity if index % across == 0 else "")
        for axes in (grid[::2], grid[1::2]):
            _share_limits(panel for panel in axes.ravel() if panel.lines)
        for axes in grid[-1]:
            axes.set_xlabel("epoch" if axes.lines else "")
        _legend(figure, 4 if across > 2 else 2)
        caption = (
            f"Figure {NUMBERS[network]}, one panel per number of epochs: {match.networks[network]}; means over folds "
            f"and seeds.{_validation(match)}"
        )
        return plots.save(f"figure-{NUMBERS[network]}", caption, figure, curves=True)


def overlaid(match: Match, network: str, curves: Mapping[Row, "DataFrame"]) -> Figure:
    """Returns Figure 7 or 8 in one panel: the longest training, and shorter ones unless they are its prefixes.

    Args:
        match: the study beside the paper.
        network: ``A`` for Figure 7 or ``B`` for Figure 8.
        curves: of the finished rows of this network.
    """
    shared = match.study.config["study.share_training"]
    with plots.subplots(1, 2, (WIDTH, 3.9)) as (figure, grid):
        for optimizer, color in COLORS.items():
            trainings = [curves[row] for row in sorted(curves, reverse=True) if row[1] == optimizer]
            for training in trainings:
                longest = training is trainings[0]
                for axes, quantity in zip(grid[0], QUANTITIES, strict=True):
                    if longest or not shared:
                        _draw(axes, training, quantity, optimizer, 1.6 if longest else 0.7, labeled=longest)
                    axes.plot(training.index[-1], training[f"val_{quantity}"].iloc[-1], "o", color=color, markersize=4)
        for axes, quantity in zip(grid[0], QUANTITIES, strict=True):
            axes.set(xlabel="epoch", ylabel=quantity)
        _legend(figure, 4)
        how = "Shorter trainings are prefixes of the longest." if shared else "Thin lines: shorter trainings."
        caption = (
            f"Figure {NUMBERS[network]} in one panel: {match.networks[network]}. A dot marks the end of a training. "
            f"{how}{_validation(match)}"
        )
        return plots.save(f"figure-{NUMBERS[network]}-overlaid", caption, figure, curves=True)


def accuracies(match: Match) -> Figure:
    """Returns Figure 9: test accuracy with intervals, beside the range that the paper's tables imply."""
    ticks = range(len(match.epochs))
    with plots.subplots(len(match.networks), 1, (WIDTH, 3.3 * len(match.networks) + 0.5)) as (figure, grid):
        for network, axes in zip(match.networks, grid[:, 0], strict=True):
            for side, (optimizer, color) in enumerate(COLORS.items()):
                rows = [(network, optimizer, epochs) for epochs in match.epochs]
                name, shift = published.OPTIMIZERS[optimizer], 0.4 * side - 0.25
                ranges = [published.implied_ranges(row, match.stratified)[0] for row in rows]
                axes.vlines(np.array(ticks) + shift + 0.1, *np.array(ranges).T, color=color, linewidth=7, alpha=0.35,
                            label=f"{name}, implied by the paper")  # fmt: skip
                results = {at: result for at, row in zip(ticks, rows, strict=True) if (result := match.result(row))}
                values, errors = matching.accuracies(results.values())
                axes.errorbar(np.array([*results]) + shift, values, errors, fmt="o", color=color, markersize=5,
                              linewidth=1.2, label=f"{name}, ours")  # fmt: skip
            for (name, rule), dashes in zip(match.baselines.items(), DASHES[1:], strict=False):
                label = BASELINES.get(name, name)
                axes.axhline(rule["accuracy"], color=INK, linewidth=1, linestyle=dashes, alpha=0.7, label=label)
            axes.set_title(match.title(network), fontsize=10.5)
            axes.set_xticks(ticks, [str(ours) for ours in match.epochs.values()])
            axes.set(ylabel="test accuracy", xlim=(-0.55, len(ticks) - 0.45))
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            axes.grid(axis="y")
        _share_limits(grid[:, 0])
        grid[-1, 0].set_xlabel("epochs")
        handles = {label: handle for axes in grid[:, 0] for handle, label in zip(*axes.get_legend_handles_labels(),
                                                                                strict=True)}  # fmt: skip
        figure.legend([*handles.values()], [*handles], loc="outside upper center", ncols=3, fontsize=9)
        caption = (
            "Figure 9: test accuracy with intervals. The paper prints no numbers: bars are what Tables 3 to 6 imply."
        )
        return plots.save("figure-9", caption, figure)


def longest_trainings(match: Match) -> Figure:
    """Returns confusion matrices and ROC curves of the longest training of each network and optimizer."""
    rows = [max(rows) for key in published.KEYS if (rows := [row for row in match.finished if row[:2] == key])]
    names = [name.partition(" (")[0] for name in match.study.class_names]
    with plots.subplots(2, len(rows), (0.5 + 2.6 * len(rows), 6.2)) as (figure, grid):
        for row, (above, below) in zip(rows, grid.T, strict=True):
            name, result = match.trials[row], match.result(row)
            assert result is not None
            network = "\n".join(textwrap.wrap(match.networks[row[0]], 34))
            above.set_title(f"{network}\n{published.OPTIMIZERS[row[1]]}, {match.epochs[row[2]]} epochs", fontsize=9.5)
            plots.draw_confusion_matrix(above, result["confusion"], names)
            tested = match.study.predictions(name)
            plots.draw_roc_curves(below, tested.labels, tested.probabilities, match.study.class_names,
                                  color=COLORS[row[1]], label="true positive rate", linewidth=1.5)  # fmt: skip
            area = metric_value("auc", result)
            below.set_title(f"AUC {area.text} {area.note}", fontsize=9.5)
            below.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
            for axes in (above, below):
                axes.tick_params(labelsize=8.5)
                axes.set_ylabel(axes.get_ylabel() if row == rows[0] else "")
        caption = (
            "Confusion matrices and ROC curves of the longest trainings, which the paper does not show; positive class "
            f"{match.study.class_names[1]}. The dot is the most probable class; faint lines are seeds."
        )
        return plots.save("longest-trainings", caption, figure, curves=True)


def accuracy_table(match: Match) -> Table:
    """Returns Figure 9 in numbers: test accuracy, ours and what the published tables imply."""
    rows = []
    for row in match.trials:
        found = (match.result(row) or {}).get("size_improvement", {}).get("accuracy")
        over_size = difference_value("accuracy", found["value"], found["interval"]) if found else Value("–")
        rows.append((*_row(match, row), *tolerance.row_values(match, row, "accuracy"), over_size))
    impossible = sum(not published.implied(row).exact for row in match.trials)
    notes = (
        f"Theirs: middle and ends of the range that Tables 3 to 6 imply for {_test_set(match)}; in {impossible} rows "
        "from recall and precision alone, because no confusion matrix has the printed F1.",
        "Over cell size: improvement over one threshold on the cell size, on the same images.",
        tolerance.interval_note(match),
    )
    columns = (*COLUMNS, "ours", "theirs", "difference", "ours over cell size")
    return Table("test-accuracy", "Figure 9 in numbers: test accuracy", columns, tuple(rows), notes=notes)


def recall_table(match: Match) -> Table:
    """Returns our recall of each class, and the recall of HEM that the published tables imply."""
    names, rows = match.study.class_names, []
    for place in match.trials:
        result = match.result(place)
        values = [Value("–", note=match.missing(place) if label == 0 else "") for label in range(len(names))]
        if result:
            recalls = [metrics["recall"] for metrics in result["per_class"]]
            counts = [f"{row[label]:,.0f} of {sum(row):,.0f}" for label, row in enumerate(result["confusion"])]
            values = [Value(f"{recall:.1%}", recall, count) for recall, count in zip(recalls, counts, strict=True)]
        low, high = published.implied_ranges(place, match.stratified)[1]
        rows.append((*_row(match, place), *values, Value(f"{100 * low:.0f} to {100 * high:.0f}%", (low + high) / 2)))
    columns = (*COLUMNS, *(f"{name}, ours" for name in names), "HEM (normal), theirs")
    notes = (f"Theirs: the range that the printed recall, precision and F1 imply for {_test_set(match)}.",)
    return Table("class-recalls", "Recall of each class on test images", columns, tuple(rows), notes=notes)


def _draw(axes: Axes, curves: "DataFrame", quantity: str, optimizer: str, width: float, labeled: bool = True) -> None:
    """Draws the training and validation curve of a trial; the reader can follow labeled ones."""
    for side, (label, dashes) in CURVES.items():
        name = f"{published.OPTIMIZERS[optimizer]}, {label}" if labeled else None
        axes.plot(curves.index, curves[f"{side}_{quantity}"], color=COLORS[optimizer], linestyle=dashes,
                  linewidth=width, marker="o" if len(curves) == 1 else "", markersize=3, label=name)  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5, steps=[1, 2, 5, 10]))
    axes.grid(visible=True, axis="y")


def _share_limits(grid: Iterable[Axes]) -> None:
    axes = list(grid)
    limits = np.array([panel.get_ylim() for panel in axes])
    for panel in axes:
        panel.set_ylim(limits[:, 0].min(), limits[:, 1].max())


def _legend(figure: Any, columns: int) -> None:
    handles = [
        Line2D([], [], color=color, linestyle=dashes, label=f"{published.OPTIMIZERS[optimizer]}, {label}")
        for optimizer, color in COLORS.items()
        for label, dashes in CURVES.values()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, fontsize=9)


def _validation(match: Match) -> str:
    """Returns a sentence where the held-out images of the curves are not the test images."""
    reserved = any(match.study.settings(name)["split.validation"] for name in match.trials.values())
    return " The held-out images are the validation images; none of them is tested." if reserved else ""


def _row(match: Match, row: Row) -> tuple[Value, ...]:
    return Value(match.networks[row[0]]), Value(published.OPTIMIZERS[row[1]]), match.epochs_value(row[2])


def _test_set(match: Match) -> str:
    if match.stratified:
        return f"a stratified split ({published.STRATIFIED_ALL:,} ALL images)"
    low, high = published.FITTING_ALL[0], published.FITTING_ALL[-1]
    return f"{low:,} to {high:,} ALL images in the test set, the numbers that fit all stated accuracies"
