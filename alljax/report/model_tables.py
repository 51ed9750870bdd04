"""Tables of a study: its models with the baselines (also in the terminal), classes, misclassified images."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import rich.table
from rich import box
from rich.console import Console

from alljax.errors import plural
from alljax.evaluation.metrics import METRICS
from alljax.progress import show
from alljax.report import findings, sharing
from alljax.report.findings import BASELINES
from alljax.report.tables import Section, Table, Value, format_value, metric_value, number_value
from alljax.study.results import Study

DRAWN = 6
"""Models with figures on the page, the best ones."""

PRINTED, MISCLASSIFIED = 20, 36
"""Rows: the best models in the terminal, the misclassified images of a model."""

CLASS_METRICS = {"precision": "precision", "recall": "recall", "f1": "F1", "auc": "AUC", "pr_auc": "PR-AUC"}
"""Display names of the metrics of a class."""


def results_table(study: Study) -> Table:
    """Returns the table of models, best first, with the baselines in the footer."""
    ranking, trials, splits = study.ranking, study.metrics["trials"], study.metrics["splits"]
    split_column = ["split"] if len(splits) > 1 else []
    recalls = [f"recall of {name}" for name in study.class_names] if len(study.classes) == 2 else []
    tested = []
    for place, name in enumerate(ranking.order):
        link, note = (
            ("" if place >= DRAWN else f"model-{place}" if place else "confusion-of-best"),
            ranking.marks.get(name, ""),
        )
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
        *(
            f"Failed: {name}: {sharing.display_note(study, message)}"
            for name, message in study.metrics["failed"].items()
        ),
    )
    title, count = "Metrics over all held-out images", len(trials) - len(ranking.masked)
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


def data_section(study: Study) -> Section:
    """Returns the section on the images, their classes and subjects, and the split."""
    data, several = study.metrics["dataset"], len(study.metrics["splits"]) > 1
    lines = [f"{name}: {line}" if several else line for name, line in findings.protocols(study).items()]
    if data["subjects"] != data["subject_names"] and data["subjects"]:
        lines.append(
            f"The {data['subject_names']:,} subject names belong to {plural(data['subjects'], 'subject')}: names that "
            "share an identical image, or are documented as aliases, are merged."
        )
    digest = f"; SHA-256 of the data {data['sha256'][:16]}" if data["sha256"] else ""
    lines.append(f"Source: {sharing.without_folders(data['source'])}{digest}.")
    return Section("data", "Data and protocol", lines, (classes_table(study),))


def classes_table(study: Study) -> Table:
    """Returns the number of images and of subjects per class."""
    data, rows = study.metrics["dataset"], []
    counts = [data["by_class"][label] for label in study.classes]
    counts.append({"images": data["images"], "subjects": data["subject_names"]})
    tested = [
        Value(findings.subject_count(one["subjects"], one["effective_subjects"]), one["subjects"])
        for one in study.metrics["trials"][study.ranking.best]["per_class"]
    ]
    for name, count, found in zip((*study.class_names, "total"), counts, (*tested, Value("")), strict=True):
        images, share, subjects = count["images"], count["images"] / data["images"], count["subjects"]
        known = [Value(f"{subjects:,}", subjects), found] if data["subjects"] else [Value("unknown"), Value("unknown")]
        rows.append((Value(name), Value(f"{images:,}", images), Value(f"{share:.1%}", share), *known))
    notes = ["Effectively: as many subjects with equally many images would tell as much (Kish)."] * bool(
        data["subjects"]
    )
    columns = ("class", "images", "share", "subject names", "subjects tested")
    return Table("classes", "Images by class", columns, rows[:-1], rows[-1:], notes)


def baselines_section(study: Study) -> Section:
    """Returns the section that compares the best model with the baselines of its split."""
    best, rows = study.metrics["trials"][study.ranking.best], []
    baselines = study.split_of(study.ranking.best)["baselines"]
    for metric in ("auc", "macro_recall", "accuracy", "macro_f1"):
        values, found = [metric_value(metric, one) for one in (best, *baselines.values())], best["size_improvement"]
        difference = found.get(metric, {"value": None, "interval": None})
        shown = number_value(metric, difference["value"], difference["interval"], "+")
        rows.append((Value(METRICS[metric]), *values, shown))
    columns = ("metric", "best model", *(BASELINES[name] for name in baselines), "best model minus cell size")
    notes = (f"In brackets: {study.intervals}. Differences of accuracies are in percentage points.",)
    table = Table("baselines", "The best model beside rules without a network", columns, rows, notes=notes)
    return Section("baselines-of-best", "Baselines", (), (table,))


def results_section(study: Study) -> Section:
    """Returns the section with the table of models, and the metrics of the best one by class."""
    text = (
        "The last rows are baselines without a network or a cell: what a model must exceed. Click on a heading to "
        "sort. Tables are also in tables/ (CSV, LaTeX, HTML), figures in figures/ (SVG, PNG)."
    )
    return Section("all-results", "Results", (text,), (results_table(study), class_metrics_table(study)))


def class_metrics_table(study: Study) -> Table:
    """Returns precision, recall and so on of the best model by class, with their macro and weighted means."""
    result = study.metrics["trials"][study.ranking.best]
    rows, means = [], []
    for label, (name, one) in enumerate(zip(study.class_names, result["per_class"], strict=True)):
        values = [number_value("f1", one[key], result["intervals"].get(f"{key}_{label}")) for key in CLASS_METRICS]
        rows.append((Value(name), Value(f"{one['count']:,}", one["count"]), *values))
    for kind in ("macro", "weighted"):
        keys = [f"{kind}_{key}" for key in CLASS_METRICS]
        values = [number_value("f1", result.get(key), result["intervals"].get(key)) for key in keys]
        means.append((Value(f"{kind} mean"), Value(""), *values))
    columns, notes = ("class", "images", *CLASS_METRICS.values()), (f"In brackets: {study.intervals}.",)
    return Table("class-metrics", "Metrics of the best model by class", columns, rows, means, notes)


def misclassified(study: Study, name: str) -> list[tuple[int, str, str, float]]:
    """Returns row, true and predicted class, and probability of misclassified images; the highest probability first."""
    tested, names = study.predictions(name), study.class_names
    mean = tested.probabilities.mean(0)
    wrong = np.flatnonzero(mean.argmax(1) != tested.labels)
    rows = wrong[np.argsort(-mean[wrong].max(1), kind="stable")][:MISCLASSIFIED].tolist()
    return [(row, names[tested.labels[row]], names[mean[row].argmax()], float(mean[row].max())) for row in rows]


def misclassified_table(study: Study, name: str) -> Table:
    """Returns the misclassified images of a model with the highest predicted probabilities, highest first."""
    tested, rows = study.predictions(name), []
    for number, (row, true, predicted, probability) in enumerate(misclassified(study, name), start=1):
        subject = str(tested.subjects[row]) if tested.subject_names[row] else "–"
        texts = (true, predicted, *(sharing.display_name(study, text) for text in (subject, str(tested.paths[row]))))
        rows.append((Value(f"{number}", number), Value(f"{probability:.1%}", probability), *map(Value, texts)))
    columns = ("", "probability", "true class", "predicted class", "subject", "file")
    return Table("misclassified", "Misclassified images with the highest probability", columns, rows)
