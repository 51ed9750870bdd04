"""The tests of a study on other sources: one table each, on the page and in the terminal."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from alljax.errors import first_few, plural
from alljax.evaluation.metrics import METRICS
from alljax.report.sharing import display_note
from alljax.report.tables import Section, Table, Value, difference_value, metric_value
from alljax.study import workdir
from alljax.study.results import Study

HEADLINE = ("auc", "macro_recall")
"""Metrics of subjects that are shown, beside the recall of each class."""

CALIBRATION = {"slope": "calibration slope", "intercept": "calibration intercept", "ece": "calibration error"}


def sections(study: Study) -> list[Section]:
    """Returns the section with the results of `alljax evaluate --source`, if there are any."""
    parts = [external_table(study, path.parent) for path in sorted(study.folder.glob("external/*/metrics.json"))]
    text = (
        "The ensemble of all heads, with which alljax predict classifies, on images that are not of the study. Change: "
        "from the held-out images, where an image is classified by the heads that were not trained on its subject; of "
        "accuracy and recall in percentage points."
    )
    return [Section("external", "External test", (text,), parts)] if parts else []


def external_table(study: Study, place: Path) -> Table:
    """Returns the metrics of one external test with their change from the held-out images of the study."""
    found = workdir.read_json(place / "metrics.json", {"source": str})
    names = METRICS | {f"recall_{label}": f"recall of {of_class}" for label, of_class in enumerate(study.class_names)}
    shown = [(label, key, found["ensemble"]) for key, label in names.items()]
    of_subjects = {key: label for key, label in names.items() if key in HEADLINE or key.startswith("recall")}
    shown += [(f"subjects: {label}", key, found.get("subjects", {})) for key, label in of_subjects.items()]
    for when in ("calibration", "calibration_after_temperature"):
        after = ", with temperature" if when != "calibration" else ""
        shown += [(f"{label}{after}", key, found.get(when, {})) for key, label in CALIBRATION.items()]
    for point in found["operating_points"]:
        at = f"at the threshold for {point['target']} {point['value']:.2f}"
        shown += [(f"{rate} {at}", rate, point) for rate in ("sensitivity", "specificity")]
    rows = []
    for label, key, result in shown:
        if result.get(key) is not None:
            change = result.get("change", {}).get(key)
            changed = difference_value(key, change["value"], change["interval"]) if change else Value("")
            heads = metric_value(key, found["heads"]) if result is found["ensemble"] else Value("")
            rows.append((Value(label), metric_value(key, result), changed, heads))
    notes = [display_note(study, note) for note in _notes(study, found)]
    title = f"{found['trial']} on {found['source']}"
    return Table(f"external-{place.name}", title, ("metric", "ensemble", "change", "single heads"), rows, notes=notes)


def _notes(study: Study, found: Mapping[str, Any]) -> Iterator[str]:
    """Yields what was tested, what was left out, and what cannot be computed."""
    counts = zip(study.class_names, found["images"], found["subjects_by_class"], strict=True)
    unit = "subject" if found["subject_names"] else "image"
    yield f"{study.bootstrap.level:.0%} intervals over {unit}s. " + "; ".join(
        f"{name}: {plural(images, 'image')}{f' of {plural(subjects, unit)}' if unit == 'subject' else ''}"
        for name, images, subjects in counts
    )
    if unit == "image":
        yield "The subjects are unknown: intervals are too narrow if subjects have several images."
    for name, images, subjects in zip(study.class_names, found["images"], found["subjects_by_class"], strict=True):
        if not images:
            yield f"No image of {name}: AUC, calibration slope and means over classes cannot be computed."
        elif subjects == 1:
            yield f"One {unit} of {name}: intervals cannot be computed; at least two {unit}s of each class are needed."
    if found["left_out"]:
        yield f"Left out {plural(len(found['left_out']), 'image')} of the study: {first_few(found['left_out'])}."
    if names := found["same_subject_names"]:
        yield f"Subject names of the study, too (if these are the same subjects, the test leaks): {first_few(names)}."
    yield "Accuracy, precision, PR-AUC and Brier score depend on the share of each class, which differs by source."
    yield from found["notes"]
