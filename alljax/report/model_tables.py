"""Tables of a study: its models with the baselines (also in the terminal), classes, misclassified images."""

from dataclasses import replace

import numpy as np

from alljax.errors import ConfigError, DataError, plural
from alljax.evaluation import power
from alljax.evaluation.intervals import Jackknife, summarize
from alljax.evaluation.metrics import METRICS
from alljax.report import tables
from alljax.report.setting_names import display_name, display_note, setting_value, skipped_trials, without_folders
from alljax.report.tables import Section, Table, Value, count_value, format_value, metric_value, number_value
from alljax.study.results import Study

BASELINES = {
    "majority": "majority class", "size_threshold": "cell size alone", "size_and_color": "cell size and mean color",
}  # fmt: skip

PRINTED, MISCLASSIFIED = 20, 32  # rows: the best models in the terminal, the misclassified images of a model
CLASS_METRICS = {"precision": "precision", "recall": "recall", "f1": "F1", "auc": "AUC", "pr_auc": "PR-AUC"}


def metric_names(study: Study) -> dict[str, str]:
    """Returns the display names of the main metrics of a group of images or subjects, and of the recall per class."""
    recalls = {f"recall_{label}": f"recall of {name}" for label, name in enumerate(study.class_names)}
    if len(recalls) == 2:
        recalls = {"recall_1": f"sensitivity: {recalls['recall_1']}", "recall_0": f"specificity: {recalls['recall_0']}"}
    return {key: METRICS[key] for key in ("auc", "accuracy", "macro_recall")} | recalls


def external_names(study: Study) -> dict[str, str]:
    """Returns the display names of ``evaluation.metrics``."""
    return {name: name.partition(":")[2].replace("_", " ") for name in study.config["evaluation.metrics"]}


def results_table(study: Study) -> Table:
    """Returns the table of models, best first, with the baselines in the footer."""
    ranking, trials, splits = study.ranking, study.metrics["trials"], study.metrics["splits"]
    tested = [(Value(name, note=ranking.marks.get(name, "")), trials[name]) for name in ranking.order]
    for split, content in splits.items():
        note = split if len(splits) > 1 else ""
        tested += [(Value(BASELINES[name], note=note), result) for name, result in content["baselines"].items()]
    best, rows, own = trials[ranking.best], [], external_names(study)
    names, exact = {"auc": METRICS["auc"]} | own | METRICS | metric_names(study), 3 + len(own)
    for over, deviations in {**best.get("spread", {}), "seeds": best["std"]}.items():
        if any(deviations.values()):
            tested.append((Value(f"best model: sd over {over}"), deviations))
    for label, result in tested:
        short, shown = result | {"intervals": {}}, [*names]
        values = [metric_value(key, result) for key in shown[:exact]]
        rows.append((label, *values, *(metric_value(key, short) for key in shown[exact:])))
    notes = (
        f"In brackets: {study.intervals}, of these trained models with fixed thresholds; other intervals are in "
        "metrics.json. They do not contain the standard deviations (sd).",
        f"AUC: pairs of images of the same fold. All pairs, best model: {format_value('auc', best.get('pooled_auc'))}.",
        *(f"Failed: {name}: {display_note(study, message)}" for name, message in study.metrics["failed"].items()),
        *skipped_trials(study),
    )
    title, count = "Metrics over all held-out images", len(trials) - len(ranking.masked)
    return Table("results", title, ("model", *names.values()), rows[:count], rows[count:], notes)


def print_results(study: Study) -> None:
    """Prints the models, best first, the baselines, what is missing or failed, and what to do next."""
    results = results_table(study)
    shown = 1 + min(3 + len(external_names(study)), max(2, tables.terminal_width() // 25 - 1))
    title = f"{results.title}. In brackets: {study.intervals}."
    tables.print_table(replace(results, title=title, rows=results.rows[:PRINTED], notes=()), shown)
    if len(results.rows) > PRINTED:
        print(f"{len(results.rows) - PRINTED} more models are in the report")
    for key in ("missing", "failed"):
        if names := study.metrics[key]:
            print(f"{len(names)} {key}: {', '.join(names)}")
    for line in skipped_trials(study):
        print(line)
    print(f"\nreport: {study.folder / 'report.html'}")
    print(f"new images: alljax predict --workdir={study.folder} IMAGE_OR_FOLDER")
    if study.config["data.source"] == "synthetic":
        print("your images, in one folder per class and subject: --config.data.source=FOLDER --workdir=NEW_FOLDER")


def data_section(study: Study) -> Section:
    """Returns the section on the images, their classes and subjects, and the split."""
    data, lines = study.metrics["dataset"], []
    for split in study.metrics["splits"].values():
        protocol, sizes = split["protocol"], []
        for side in ("training", "test"):
            counts = protocol[f"{side}_images"]
            sizes.append(f"{' to '.join(f'{size:,}' for size in sorted({min(counts), max(counts)}))} {side} images")
        repeats = f"{plural(protocol['folds'], 'fold')}, {plural(protocol['repeats'], 'repeat')}"
        test = setting_value("split.protocol", protocol["name"])
        lines.append(f"Test: {test}; {repeats}; per fold {' and '.join(sizes)}.")
    if data["subjects"] and data["subjects"] != data["subject_names"]:
        merged = f"The {data['subject_names']:,} subject names belong to {plural(data['subjects'], 'subject')}"
        lines.append(f"{merged}: names that share an identical image, or are documented as aliases, are merged.")
    lines.append(f"Source: {without_folders(data['source'])}; SHA-256 of the data {data['sha256'][:16]}.")
    rows, tested = [], study.metrics["trials"][study.ranking.best]["per_class"]
    for label, name, of_class in zip(study.classes, study.class_names, tested, strict=True):
        images, subject_names = data["by_class"][label]["images"], data["by_class"][label]["subjects"]
        share, effective = number_value("accuracy", images / data["images"]), of_class["effective_subjects"]
        counts = count_value(subject_names), count_value(of_class["subjects"]), Value(f"{effective:.1f}", effective)
        rows.append((Value(name), count_value(images), share, *counts))
    columns = ("class", "images", "share", "subject names", f"{study.interval_unit} tested", "effectively")
    note = f"Effectively: as many {study.interval_unit} of equal size would tell as much (Kish)."
    table = Table("classes", "Images by class", columns, rows, notes=(note,))
    return Section("data", "Data and protocol", lines, (table,))


def baselines_table(study: Study) -> Table:
    """Returns the metrics of the best model and of the baselines of its split."""
    best, baselines = study.metrics["trials"][study.ranking.best], study.split_of(study.ranking.best)["baselines"]
    rows = []
    for metric in ("auc", "macro_recall", "accuracy", "macro_f1"):
        difference = best["size_improvement"].get(metric, {"value": None, "interval": None})
        values = [metric_value(metric, one) for one in (best, *baselines.values())]
        shown = number_value(metric, difference["value"], difference["interval"], "+")
        rows.append((Value(METRICS[metric]), *values, shown))
    columns = ("metric", "best model", *(BASELINES[name] for name in baselines), "best model minus cell size")
    notes = (f"In brackets: {study.intervals}. Differences of accuracies are in percentage points.",)
    return Table("baselines", "The best model beside rules without a network", columns, rows, notes=notes)


def class_metrics_table(study: Study) -> Table:
    """Returns precision, recall and so on of the best model by class, with their macro and weighted means."""
    result, rows, means = study.metrics["trials"][study.ranking.best], [], []
    for label, (name, one) in enumerate(zip(study.class_names, result["per_class"], strict=True)):
        values = [number_value("f1", one[key], result["intervals"].get(f"{key}_{label}")) for key in CLASS_METRICS]
        rows.append((Value(name), count_value(one["count"]), *values))
    for kind in ("macro", "weighted"):
        values = [metric_value(f"{kind}_{key}", result) for key in CLASS_METRICS]
        means.append((Value(f"{kind} mean"), Value(""), *values))
    columns, notes = ("class", "images", *CLASS_METRICS.values()), (f"In brackets: {study.intervals}.",)
    return Table("class-metrics", "Metrics of the best model by class", columns, rows, means, notes)


def misclassified(study: Study) -> list[int]:
    """Returns the rows of images that the best model misclassifies, the highest probability first."""
    tested = study.predictions(study.ranking.best)
    mean = tested.probabilities.mean(0)
    wrong = np.flatnonzero(mean.argmax(1) != tested.labels)
    return list(wrong[np.argsort(-mean[wrong].max(1), kind="stable")][:MISCLASSIFIED].tolist())


def misclassified_table(study: Study) -> Table:
    """Returns the images of `misclassified` with their subjects and files."""
    tested, names, rows = study.predictions(study.ranking.best), study.class_names, []
    mean = tested.probabilities.mean(0)
    for number, row in enumerate(misclassified(study), start=1):
        subject = str(tested.subjects[row]) if tested.subject_names[row] else "–"
        shown = [display_name(study, text) for text in (subject, str(tested.paths[row]))]
        classes = names[tested.labels[row]], names[mean[row].argmax()]
        probability = number_value("accuracy", float(mean[row].max()))
        rows.append((count_value(number), probability, *map(Value, (*classes, *shown))))
    columns = ("", "probability", "true class", "predicted class", "subject", "file")
    return Table("misclassified", "Misclassified images with the highest probability", columns, rows)


def power_table(study: Study, metric: str, difference: float, share: float, images: int) -> Table:
    """Returns the subjects needed to measure the best model (`difference`: half width), and to compare it."""
    (best, *others), name, trials = study.ranking.order, metric or study.ranking.metric, study.metrics["trials"]
    predictions, rows, notes = study.predictions(best), [], []
    test = predictions.held_out
    if 1 in Jackknife.of(test).subjects:
        raise DataError(f"{study.folder}: a class has one subject only, whose variance is unknown; it needs two")
    if images < 1:
        raise ConfigError(f"--images={images} is not a number of images; it is at least 1")
    if trials[best][name] is None:
        raise ConfigError("the AUC is undefined, because folds lack a class; use --metric=macro_recall")
    same = [other for other in others if np.array_equal(study.predictions(other).paths, predictions.paths)]
    for other in ("", *same[:1]):
        minus = study.predictions(other).held_out if other else None
        found = summarize(test, study.level, [name], minus)
        goal = power.Goal(difference, study.level, share if other else 0.0)
        parts = power.components(test, predictions.paths, name, minus)
        needed = power.subjects_needed(parts, goal)
        reached = power.simulate(test, name, goal, needed, minus) if needed else None
        model, wanted = Value(best), Value(f"{difference:g} half width")
        if other:
            model, wanted = Value(f"{best} minus {other}"), Value(f"{difference:g} found by {share:.0%}")
        values = metric_value(name, found, "+" if other else ""), wanted, _number(needed), number_value("auc", reached)
        rows.append((model, *values, _number(power.subjects_needed(parts, goal, images))))
        deviations = "; ".join(f"{part.between**0.5:.3f}, {part.within**0.5:.3f}" for part in parts)
        notes.append(f"{model}: {deviations}.")
    unit = f"{study.interval_unit} per class" if len(parts) > 1 else study.interval_unit
    columns = ("model", METRICS[name], "goal", unit, "simulated", f"with {images} images each")
    explained = (
        f"{study.level:.0%} intervals. Images per subject as in this study, in the last column equally many. At least "
        f"{power.FEW_SUBJECTS} effective subjects per class. Simulated: mean half width, or share of significant "
        f"differences, in {power.ROUNDS} studies whose subjects are drawn from this study.",
        "Standard deviation between subjects, and between images of a subject, of one class after the other:",
    )
    return Table("power", f"{study.interval_unit.capitalize()} needed", columns, rows, notes=(*explained, *notes))


def _number(number: int | None) -> Value:
    if number is None:
        return Value("–")
    return Value(f"> {power.LARGEST:,}") if number > power.LARGEST else count_value(number)
