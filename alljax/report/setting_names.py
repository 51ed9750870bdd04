"""Display names of settings, subjects and files, without absolute paths and hashed if wanted, and varied settings."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alljax import files
from alljax.errors import first_few
from alljax.report.tables import Value
from alljax.study.results import Study

NAMES = {
    "model.label": "model",
    "model.pool": "pooling",
    "model.hidden": "hidden units",
    "split.protocol": "split",
    "split.train_subjects": "training subjects",
    "split.train_images": "training images per class",
    "train.groups": "trained layers",
    "train.mode": "trained",
}
"""Display names of settings; others are displayed by the last part of their key."""

VALUES = {
    "preprocessing.image_size=0": "default",
    "split.train_subjects=0": "all",
    "split.train_images=0": "all",
    "train.mode=frozen": "head only",
    "train.mode=finetune": "head and backbone",
    "split.protocol=paper": "random images (paper)",
    "split.protocol=subject_kfold": "cross-validation over subjects",
    "split.protocol=subject_holdout": "held-out subjects",
    "split.protocol=prelim": "preliminary test set",
}
PROPER = {
    "vgg16": "VGG16", "resnet18": "ResNet18", "resnet50": "ResNet50", "resnet50_keras": "ResNet50 (Keras)",
    "resnet101": "ResNet101", "densenet121": "DenseNet121",
    "mobilenet_v2": "MobileNetV2", "efficientnet_lite0": "EfficientNet-Lite0",
    "dinov2_vits14": "DINOv2 ViT-S/14", "dinov2_vitb14": "DINOv2 ViT-B/14",
    "histonet": "HistoNet", "residual_attention": "Attention-56",
    "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop", "sgd": "SGD",
    "mlp": "MLP", "lstm": "LSTM",
}  # fmt: skip
"""Display names of backbones, optimizers and classifiers."""

FOLDERS = re.compile(r"(?<![^\s='\"(,\[])(~?/|[A-Za-z]:\\+)(([\w.+@-]| (?![-/~]))+[/\\]+)*(?=[\w.])")
"""The folders of an absolute path; the slashes in ``data.name_pattern`` and in numbers are not followed by names."""

DEPENDENT = ("weights.path", "weights.name", "train.mode")  # displayed only if nothing else differs


@dataclass(frozen=True)
class VariedSetting:
    """One entry of ``study.sweep`` with several values: a setting, or settings that change together."""

    name: str
    keys: Sequence[str]
    rows: Sequence[Sequence[Any]]  # a value per key
    values: Sequence[Value]  # how `rows` are displayed

    def index(self, settings: Mapping[str, Any]) -> int:
        """Returns the row that the settings of a trial (dotted key to value) have."""
        return self.rows.index([settings[key] for key in self.keys])


def varied_settings(study: Study) -> list[VariedSetting]:
    """Returns the entries of ``study.sweep`` that have different values, in order."""
    varied = []
    for keys, rows in study.config["study.sweep"]:
        keys, rows = (keys, rows) if isinstance(keys, list) else ([keys], [[value] for value in rows])
        settings = [dict(zip(keys, row, strict=True)) for row in rows]
        differing = [key for key in keys if len({json.dumps(row[key]) for row in settings}) > 1]
        independent = [key for key in differing if key not in DEPENDENT]
        shown = ["model.label"] if "model.label" in differing else independent
        if len({json.dumps([row[key] for key in shown]) for row in settings}) < len(rows):
            shown = differing  # such as two weight files of a backbone
        values = []
        for row in settings:
            number = row[shown[0]] if len(shown) == 1 and type(row[shown[0]]) in (int, float) else None
            values.append(Value(", ".join(setting_value(key, row[key]) for key in shown), number))
        if differing:
            varied.append(VariedSetting(", ".join(map(setting_name, shown)), keys, rows, values))
    return varied


def setting_name(key: str) -> str:
    """Returns the display name of a setting: ``batch size`` of ``train.batch_size``."""
    group, _, name = key.rpartition(".")
    return NAMES.get(key) or (group if name in ("name", "path") else name).replace("_", " ")


def setting_value(key: str, value: Any) -> str:
    """Returns the display text of a setting's value."""
    if f"{key}={value}" in VALUES:
        return VALUES[f"{key}={value}"]
    if key == "split.protocol":
        return str(value).replace("_", " ")
    if value == "":
        return "default"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return np.format_float_positional(value, trim="-")
    if key == "train.groups":
        trained = [pattern for pattern, rate, *_ in value or [("head/.*", 1.0)] if rate > 0]
        return " + ".join(name.removeprefix("backbone/").removesuffix("/.*") or "backbone" for name in trained)
    return PROPER.get(value, without_folders(value)) if isinstance(value, str) else json.dumps(value)


def display_name(study: Study, name: str) -> str:
    """Returns the name of a subject or file, or 10 digits of its salted SHA-256 with ``report.subjects=hashed``."""
    if study.config["report.subjects"] == "names" or name == "–":
        return name
    # images.csv is not shared: short names cannot be found by trying all.
    salted = files.sha256(study.folder / "images.csv") + name
    return hashlib.sha256(salted.encode(errors="surrogateescape")).hexdigest()[:10]


def display_note(study: Study, note: str) -> str:
    """Returns a note about the data, without the list of names at its end if names are hashed."""
    hashed = study.config["report.subjects"] == "hashed"
    return without_folders(re.sub(r":(?! [\d,]+ of ).*", "", note) if hashed else note)


def skipped_trials(study: Study) -> list[str]:
    """Returns a line per reason for which trials are skipped."""
    names: dict[str, list[str]] = {}
    for name, reason in study.metrics["skipped"].items():
        names.setdefault(reason, []).append(name)
    return [f"Skipped: {first_few(names[reason])}: {display_note(study, reason)}" for reason in names]


def without_folders(text: str) -> str:
    """Returns a text with absolute paths reduced to their last part."""
    return FOLDERS.sub("", text)
