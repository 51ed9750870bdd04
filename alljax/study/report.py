"""One page that says what a study found, how sure that is, and how to do it again."""

import base64
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from PIL import Image
from rich import box
from rich.console import Console
from rich.table import Table

from alljax import files
from alljax.errors import WorkdirError
from alljax.evaluation.metrics import most_wrong
from alljax.study import figures, findings, finished
from alljax.study.findings import BASELINES, interval, shown
from alljax.study.finished import Predictions, Study

PAGE = 4_500_000
"""Characters that figures and sheets of wrong cells may take, the figures first, the best models' first."""

PEOPLE = 200
"""People listed at most, worst first."""

COLUMNS = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "macro_recall": "macro recall",
    "macro_precision": "macro precision",
    "weighted_f1": "weighted F1",
    "log_loss": "log loss",
}


def write_report(folder: Path) -> Path:
    """Writes ``report.html`` from what a study has left in its folder, and reads nothing else.

    Args:
        folder: the working directory of a finished study.

    Returns:
        The report's path.

    Raises:
        WorkdirError: a file of the study is missing or cut off, or the folder cannot be written.
    """
    study = finished.read_study(Path(folder))
    cells = study.metrics["cells"]
    order, by = finished.ranked(cells), finished.headline(cells)
    predictions = [finished.read_predictions(study, name) for name in order[:2]]
    models: list[dict[str, Any]] = []
    room = PAGE
    for place, name in enumerate(order):
        own = predictions[place] if place < 2 else finished.read_predictions(study, name)
        drawn = _figures(study, name, own)
        room -= (size := sum(len(svg) for _, svg in drawn))
        models.append({"name": name, "figures": drawn if room >= 0 else []})
        room += size if room < 0 else 0
    for model in models:
        model |= _sheet(study, model["name"], room)
        room -= len(model["sheet"] or "")
    page = _template().render(
        study=study,
        data=study.metrics["dataset"],
        title=findings.title(study),
        headline=findings.headline(study, predictions[0]),
        findings=findings.findings(study, order, predictions),
        warnings=findings.warnings(study, predictions[0]),
        protocol=findings.protocol(study),
        rows=_rows(study, order),
        columns=COLUMNS,
        ranked_by=COLUMNS[by],
        recalls=study.classes if len(study.classes) == 2 else [],
        models=models,
        people=_people(study, predictions[0]),
        wrong=_most_wrong(study, predictions[0]),
        rows_by_name={name: shown(by, cells[name][by]) for name in order},
        weights=_weights(study),
        settings=_flat(study.config),
        environment=_flat(study.environment),
        command=study.environment.get("command", ""),
        version=study.environment.get("alljax", ""),
    )
    path = study.folder / "report.html"
    files.write_text(path, page)
    return path


def terminal_table(metrics: Mapping[str, Any]) -> Table:
    """Returns the results as a table for the terminal: a row per model, best first, then the baselines.

    Args:
        metrics: what metrics.json holds.
    """
    cells, rules = metrics["cells"], metrics["baselines"]
    first = next(iter(cells.values()))
    level, unit = first["level"], first["interval_unit"]
    table = Table(
        title=f"held-out cells, with {level:.0%} intervals over {unit}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("model", overflow="fold")
    for name in ("accuracy", "macro_f1", "auc"):
        table.add_column(COLUMNS[name], justify="right", no_wrap=True)
    best, *others = finished.ranked(cells)
    for name in (best, *others):
        table.add_row(name, *_terminal_cells(cells[name]), style="bold" if name == best and others else "")
    table.add_section()
    for name, rule in rules.items():
        table.add_row(BASELINES.get(name, name), *_terminal_cells(rule), style="dim")
    return table


def show(metrics: Mapping[str, Any]) -> None:
    """Prints `terminal_table` on standard output, and which of two classes is the positive one."""
    console = Console()
    console = console if console.is_terminal else Console(width=120)
    console.print(terminal_table(metrics))
    if len(classes := metrics["dataset"]["classes"]) == 2:
        console.print(f"positive class: {classes[1]}", markup=False, highlight=False, soft_wrap=True)


def _terminal_cells(result: Mapping[str, Any]) -> Iterable[str]:
    for name in ("accuracy", "macro_f1", "auc"):
        text = " ".join(filter(None, [shown(name, result.get(name)), interval(name, result)]))
        yield text.replace("0.", ".") if name != "accuracy" else text  # 80 columns are not many


def _rows(study: Study, order: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the rows of the results table: baselines, then models best first."""
    cells, rules = study.metrics["cells"], study.metrics["baselines"]
    results = [(BASELINES.get(name, name), rule, True) for name, rule in rules.items()]
    results += [(name, cells[name], False) for name in order]
    by = finished.headline(cells)
    ends = [end for _, result, _ in results for end in result.get("intervals", {}).get(by, [])]
    ends += [result[by] for _, result, _ in results if result.get(by) is not None]
    low, high = math.floor(min(ends) * 20) / 20, math.ceil(max(ends) * 20) / 20
    high = high if high > low else low + 0.05

    def place(value: float) -> float:
        return float(round(100 * (value - low) / (high - low), 2))

    rows = []
    for name, result, is_rule in results:
        bounds = result.get("intervals", {}).get(by)
        rows.append(
            {
                "name": name,
                "anchor": "" if is_rule else f"model-{order.index(name)}",
                "rule": is_rule,
                "values": [(shown(key, result.get(key)), interval(key, result), result.get(key)) for key in COLUMNS],
                "recalls": [one["recall"] for one in result.get("per_class", [])],
                "seconds": result.get("seconds"),
                "dot": None if result.get(by) is None else place(result[by]),
                "bar": [place(end) for end in bounds] if bounds else None,
                "scale": (low, high),
            }
        )
    return rows


def _figures(study: Study, name: str, predictions: Predictions) -> list[tuple[str, Markup]]:
    """Returns a model's figures with their captions."""
    history = finished.read_history(study, name)
    watched = "validation cells" if study.config.get("split.validation") else "held-out cells"
    confusion = study.metrics["cells"][name]["confusion"]
    drawn = {
        "Accuracy while training": figures.curves(history, "accuracy", watched),
        "Loss while training": figures.curves(history, "loss", watched),
        "Which class is called which": figures.confusion(confusion, study.classes),
        "ROC curve": figures.roc(predictions.labels, predictions.probabilities, study.classes),
    }
    return [(caption, _inline(svg, f"{name}-{number}-")) for number, (caption, svg) in enumerate(drawn.items())]


def _sheet(study: Study, name: str, room: int) -> dict[str, Any]:
    """Returns a model's sheet of wrong cells, if it takes at most `room` characters."""
    path = study.folder / "figures" / f"wrong-{name}.png"
    picture = _picture(path, finished.mend(study, name)) if path.is_file() else None
    fits = picture is not None and len(picture["source"]) <= room
    return {
        "sheet": picture["source"] if picture and fits else None,
        "sheet_size": (picture["width"], picture["height"]) if picture else None,
        "sheet_left_out": picture is not None and not fits,
        "sheet_name": f"figures/{path.name}",
    }


def _picture(path: Path, advice: str) -> dict[str, Any]:
    """Returns a PNG as a JPEG data URL, a tenth of the size, with the size it is shown at."""
    try:
        with Image.open(path) as image:
            buffer = io.BytesIO()
            image.convert("RGB").save(buffer, format="JPEG", quality=82, optimize=True)
            width, height = image.size
    except (OSError, SyntaxError) as error:
        raise WorkdirError(f"{path}: not a whole image; {advice}") from error
    source = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"source": source, "width": width // 2, "height": height // 2}


def _inline(svg: str, prefix: str) -> Markup:
    """Returns an SVG as it stands inside HTML: with names of its own, in the page's colours.

    Args:
        svg: from `figures`.
        prefix: goes before its names; two models may have the same figure.
    """
    plain = svg.replace(' xmlns="http://www.w3.org/2000/svg"', "", 1)
    plain = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{re.sub(r'[^A-Za-z0-9]', '-', prefix)}", plain)
    return Markup(plain.replace(figures.BLUE, "var(--blue)").replace(figures.VERMILION, "var(--red)"))


def _people(study: Study, predictions: Predictions) -> dict[str, Any]:
    """Returns the table of people, worst first, and in how many most cells are called right."""
    right = (predictions.probabilities.argmax(2) == predictions.labels).mean(0)
    names, owner = np.unique(predictions.people, return_inverse=True)
    count = np.bincount(owner)
    share = np.bincount(owner, right) / count
    labels = [sorted(set(predictions.labels[owner == person].tolist())) for person in range(len(names))]
    order = np.lexsort((-count, share))
    return {
        "known": bool(np.any(predictions.subjects != "")),
        "count": len(names),
        "mostly_right": int((share > 0.5).sum()),
        "rows": [
            {
                "name": str(names[person]),
                "classes": ", ".join(study.classes[label] for label in labels[person]),
                "cells": int(count[person]),
                "share": float(share[person]),
            }
            for person in order[:PEOPLE]
        ],
    }


def _most_wrong(study: Study, predictions: Predictions) -> list[dict[str, Any]]:
    """Returns the rows of the table beside the sheet."""
    mean = predictions.probabilities.mean(0)
    return [
        {
            "path": str(predictions.paths[row]),
            "subject": str(predictions.subjects[row]),
            "label": study.classes[predictions.labels[row]],
            "called": study.classes[mean[row].argmax()],
            "probability": float(mean[row].max()),
        }
        for row in most_wrong(predictions.labels, predictions.probabilities, 24)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Returns nested settings as dotted keys and readable values."""
    flat: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat += _flat(value, f"{prefix}{key}.")
        else:
            flat.append((f"{prefix}{key}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return flat


def _weights(study: Study) -> list[tuple[str, str]]:
    """Returns each weight file's description once, however many cells used it."""
    different: list[Mapping[str, Any]] = []
    for cell in study.metrics["cells"].values():
        if cell["weights"] not in different:
            different.append(cell["weights"])
    if len(different) == 1:
        return _flat(different[0])
    return [pair for number, one in enumerate(different, 1) for pair in _flat(one, f"{number}. ")]


def _template() -> jinja2.Template:
    text = resources.files("alljax.study").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(text)
