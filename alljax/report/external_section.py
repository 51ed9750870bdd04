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

CALIBRATION = {"slope": "calibration slope", "intercept": "calibration intercept", "ece": "calibration error"}
COLUMNS = ("metric", "ensemble", "change", "subjects", "change over subjects", "single heads")


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
    rows = []
    for key, label in names.items():
        if key in found["ensemble"]:
            cells = [cell for kind in ("ensemble", "subjects") for cell in _cells(found.get(kind), key)]
            rows.append((Value(label), *cells, metric_value(key, found["heads"])))
    others = [
        (f"{label}, {when}", key, of) for when, of in found["calibration"].items() for key, label in CALIBRATION.items()
    ]
    for point in found["operating_points"]:
        at = f"at threshold for {point['target']} {point['value']:.2f}"
        others += [(f"{rate} {at}", rate, point) for rate in ("sensitivity", "specificity")]
    rows += [(Value(label), metric_value(key, result), *[Value("")] * 4) for label, key, result in others]
    notes = [display_note(study, note) for note in _notes(study, found)]
    title = f"{found['trial']} on {found['source']}"
    return Table(f"external-{place.name}", title, COLUMNS, rows, notes=notes)


def _cells(result: Mapping[str, Any] | None, key: str) -> tuple[Value, Value]:
    """Returns a metric and its change; empty without a result."""
    if not result:
        return Value(""), Value("")
    change = result["change"].get(key, {"value": None, "interval": None})
    return metric_value(key, result), difference_value(key, change["value"], change["interval"])


def _notes(study: Study, found: Mapping[str, Any]) -> Iterator[str]:
    """Yields what was tested, what was left out, and what cannot be computed."""
    counts = zip(study.class_names, found["images"], found["subjects_by_class"], strict=True)
    unit = "subject" if found["subject_names"] else "image"
    yield f"{study.level:.0%} intervals over {unit}s. " + "; ".join(
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
    if paths := found["left_out"]:
        yield f"Left out {plural(len(paths), 'image')} of the study: {first_few(Path(path).name for path in paths)}."
    if names := found["same_subject_names"]:
        yield f"Subject names of the study, too (if these are the same subjects, the test leaks): {first_few(names)}."
    yield "Accuracy, precision, PR-AUC and Brier score depend on the share of each class, which differs by source."
    yield from found["notes"]
