"""Tables of a study: its models with the baselines (also in the terminal), classes, misclassified images."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import rich.table
from rich import box
from rich.console import Console

from alljax.evaluation.metrics import METRICS
from alljax.progress import show
from alljax.report.findings import BASELINES
from alljax.report.tables import Section, Table, Value, format_value, metric_value
from alljax.study.results import Study

DRAWN = 6
"""Models with figures on the page, the best ones."""

PRINTED, MISCLASSIFIED = 20, 24
"""Rows: the best models in the terminal, the misclassified images of a model."""


def results_table(study: Study) -> Table:
    """Returns the table of models, best first, with the baselines in the footer."""
    ranking, trials, splits = study.ranking, study.metrics["trials"], study.metrics["splits"]
    split_column = ["split"] if len(splits) > 1 else []
    recalls = [f"recall of {name}" for name in study.class_names] if len(study.classes) == 2 else []
    tested = []
    for place, name in enumerate(ranking.order):
        link, note = f"model-{place}" if place < DRAWN else "", "leaky test" if name in ranking.leaky else ""
        tested.append((Value(name, note=note, link=link), trials[name]["split"], trials[name]))
    for split, content in splits.items():
        tested += [(Value(BASELINES[name]), split, result) for name, result in content["baselines"].items()]
    rows = []
    for label, split, result in tested:
        values = [metric_value(key, result, interval=place < 3) for place, key in enumerate(METRICS)]
        by_class = [metric_value("recall", one, interval=False) for one in result["per_class"] if recalls]
        minutes = Value(f"{result['seconds'] / 60:.1f}", result["seconds"] / 60) if "seconds" in result else Value("")
        rows.append((label, *(Value(split) for _ in split_column), *values, *by_class, minutes))
    columns, best = ("model", *split_column, *METRICS.values(), *recalls, "minutes"), trials[ranking.best]
    for label, *deviations in _spread_rows(best):
        empty = [Value("")] * (len(recalls) + 1)
        rows.append((label, *(Value(best["split"]) for _ in split_column), *deviations, *empty))
    notes = (
        f"In brackets: {study.intervals}.",
        "Intervals are of these trained models with fixed thresholds; they do not contain the standard deviations.",
        f"AUC: pairs of images of the same fold. All pairs, best model: {format_value('auc', best.get('pooled_auc'))}.",
        "Other intervals are in metrics.json. The minutes are those of training, without extracting features.",
        *(f"Failed: {name}: {message}" for name, message in study.metrics["failed"].items()),
    )
    title, count = "Metrics over all held-out images", len(trials)
    return Table("results", title, columns, rows[:count], rows[count:], notes)


def _spread_rows(result: Mapping[str, Any]) -> Iterator[list[Value]]:
    """Yields the standard deviations of a model's metrics over folds, repeats and seeds, where there are several."""
    for over, deviations in {**result.get("spread", {}), "seeds": result["std"]}.items():
        if any(deviations.values()):
            values = [Value(format_value(key, deviations.get(key)), deviations.get(key)) for key in METRICS]
            yield [Value(f"best model: sd over {over}"), *values]


def print_results(study: Study, width: int | None = None) -> None:
    """Prints the models, best first, the baselines, the positive class, what is missing or failed, and what to do next.

    The default width is that of the terminal, or 120 columns without one; below 100 the third metric is omitted.
    """
    console = Console(width=width or (None if sys.stdout.isatty() else 120))
    results = results_table(study)
    first = results.columns.index(METRICS["auc"])
    shown = first + (3 if console.width >= 100 else 2)
    title = f"{results.title}. In brackets: {study.intervals}."
    table = rich.table.Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in results.columns[:first]:
        table.add_column(heading, overflow="fold")
    for heading in results.columns[first:shown]:
        table.add_column(heading, justify="right", no_wrap=True)
    for place, row in enumerate(results.rows[:PRINTED]):
        table.add_row(*map(str, row[:shown]), style="" if place else "bold")
    table.add_section()
    for row in results.footer:
        table.add_row(*map(str, row[:shown]), style="dim")
    console.print(table)
    if len(results.rows) > PRINTED:
        print(f"{len(results.rows) - PRINTED} more models are in the report")
    if len(study.classes) == 2:
        show(f"positive class: {study.class_names[1]}")
    for key in ("missing", "failed"):
        if names := study.metrics[key]:
            print(f"{len(names)} {key}: {', '.join(names)}")
    print(f"\nreport: {study.folder / 'report.html'}")
    print(f"new images: alljax predict --workdir={study.folder} IMAGE_OR_FOLDER")
    if study.config["data.source"] == "synthetic":
        print("your images, in one folder per class and subject: --config.data.source=FOLDER --workdir=NEW_FOLDER")


def results_section(study: Study) -> Section:
    """Returns the section with the table of models."""
    text = (
        "The last rows are baselines without a network: what a model must exceed. Click on a heading to sort. Tables "
        "are also in tables/ (CSV, LaTeX, HTML), figures in figures/ (SVG, PNG)."
    )
    return Section("all-results", "Results", (text,), (results_table(study),))


def classes_table(study: Study) -> Table:
    """Returns the number of images and of subjects per class."""
    data, rows = study.metrics["dataset"], []
    counts = [data["by_class"][label] for label in study.classes]
    counts.append({"images": data["images"], "subjects": data["subject_names"]})
    for name, count in zip((*study.class_names, "total"), counts, strict=True):
        images, share, subjects = count["images"], count["images"] / data["images"], count["subjects"]
        known = Value(f"{subjects:,}", subjects) if data["subjects"] else Value("unknown")
        rows.append((Value(name), Value(f"{images:,}", images), Value(f"{share:.1%}", share), known))
    return Table("classes", "Images by class", ("class", "images", "share", "subject names"), rows[:-1], rows[-1:])


def misclassified_table(study: Study, name: str) -> Table:
    """Returns the misclassified images of a model with the highest predicted probabilities, highest first."""
    predictions, names, rows = study.predictions(name), study.class_names, []
    mean = predictions.probabilities.mean(0)
    wrong = np.flatnonzero(mean.argmax(1) != predictions.labels)
    for row in wrong[np.argsort(-mean[wrong].max(1), kind="stable")][:MISCLASSIFIED]:
        probability = float(mean[row].max())
        true, predicted = names[predictions.labels[row]], names[mean[row].argmax()]
        subject, path = str(predictions.subject_names[row]) or "–", str(predictions.paths[row])
        shown = Value(f"{probability:.1%}", probability)
        rows.append((Value(true), Value(predicted), shown, Value(subject), Value(path)))
    columns = ("true class", "predicted class", "probability", "subject", "file")
    return Table("misclassified", "Misclassified images with the highest probability", columns, rows)
