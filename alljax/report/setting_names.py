"""The settings that a study varies, and their values, in words that people read."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from alljax.study.results import Study

NONE = "none of these"
"""What a row is called in which nothing differs from most others."""

_NAMES = {
    "model.backbone": "network",
    "model.stage": "features from",
    "model.pool": "pooling",
    "model.hidden": "hidden units",
    "preprocessing.image_size": "image size",
    "split.protocol": "test",
    "split.test_fraction": "share tested",
    "split.train_subjects": "people learned from",
    "train.mode": "training",
    "train.groups": "what learns",
    "augment.quarter_turns": "quarter turns",
}
_VALUES = {
    ("model.stage", ""): "the last stage",
    ("preprocessing.name", ""): "the weights' own",
    ("preprocessing.image_size", 0): "as the weights expect",
    ("weights.name", ""): "any weights that fit",
    ("split.train_subjects", 0): "all",
    ("features.augment", "none"): "as it is",
    ("features.augment", "dihedral"): "eight views",
    ("split.protocol", "paper"): "random cells, as the paper",
    ("split.protocol", "subject_kfold"): "people apart, in folds",
    ("split.protocol", "subject_holdout"): "people apart, one part",
    ("split.protocol", "leave_one_subject_out"): "one person at a time",
    ("split.protocol", "official_folds"): "published folds, people apart",
    ("split.protocol", "official_folds_by_name"): "published folds by name",
    ("split.protocol", "prelim"): "the preliminary test set",
    ("train.mode", "finetune"): "fine-tuned",
    ("train.class_weights", "none"): "no class weights",
    ("train.class_weights", "balanced"): "balanced class weights",
}
_IN_SENTENCES = {
    "model.stage": "features from {}",
    "model.pool": "{} pooling",
    "preprocessing.name": "{} preprocessing",
    "train.groups": "learning in {}",
}
_SILENT = ("weights.path", "weights.name", "train.mode")
"""Settings that follow others; where rows are told apart without them they are not said."""

_PROPER = {
    "vgg16": "VGG16", "resnet50": "ResNet50", "efficientnet_lite0": "EfficientNet-Lite0", "adam": "Adam",
    "adamw": "AdamW", "rmsprop": "RMSprop", "sgd": "SGD", "lamb": "LAMB", "cross_entropy": "cross entropy",
}  # fmt: skip


@dataclass(frozen=True)
class Factor:
    """One entry of ``study.sweep``: a setting, or settings that change together.

    Attributes:
        name: how people call it.
        keys: of the settings.
        said: which of them rows are named by.
        rows: a value a key, as JSON gives them.
        labels: what each row is called; they differ.
    """

    name: str
    keys: tuple[str, ...]
    said: tuple[int, ...]
    rows: tuple[tuple[Any, ...], ...]
    labels: tuple[str, ...]

    @property
    def numbers(self) -> tuple[float, ...] | None:
        """What stands on an axis: a number a row, where one setting alone differs and its values are numbers."""
        if len(self.said) != 1:
            return None
        values = [row[self.said[0]] for row in self.rows]
        if not all(map(_is_number, values)):
            return None
        # A number that stands for something else, "all" mostly, has no place on an axis.
        return tuple(math.nan if (self.keys[self.said[0]], value) in _VALUES else float(value) for value in values)

    def place(self, settings: Mapping[str, Any]) -> int | None:
        """Returns the row that a cell's settings (dotted key to value) have; None for a stranger."""
        own = tuple(_plain(settings.get(key)) for key in self.keys)
        return self.rows.index(own) if own in self.rows else None

    def label(self, settings: Mapping[str, Any]) -> str:
        """Returns the label of that row."""
        place = self.place(settings)
        return "–" if place is None else self.labels[place]

    def words(self, settings: Mapping[str, Any]) -> str:
        """Returns the value as it stands in a sentence: ``batch size 64``, ``Adam``."""
        label = self.label(settings)
        if self.numbers is not None or label in ("yes", "no"):
            return f"{self.name} {label}"
        if label == NONE:
            return f"unchanged {self.name}"
        key = self.keys[self.said[0]] if len(self.said) == 1 else ""
        return _IN_SENTENCES.get(key, "{}").format(label)


def varied(study: Study) -> list[Factor]:
    """Returns the entries of ``study.sweep`` in which anything differs, in order."""
    factors = []
    for entry in study.config.get("study.sweep", []):
        keys, rows = _plain(entry)
        keys, rows = (keys, rows) if isinstance(keys, list) else ([keys], [[value] for value in rows])
        rows = tuple(tuple(row) for row in rows)
        if said := _said(keys, rows):
            named = ", ".join(_name(keys[column]) for column in said)
            factors.append(Factor(named, tuple(keys), tuple(said), rows, _labels(keys, rows, said)))
    return factors


def describe(factors: Sequence[Factor], settings: Mapping[str, Any]) -> str:
    """Returns what sets a cell apart, in a few words: ``VGG16, batch size 64``."""
    return ", ".join(factor.words(settings) for factor in factors)


def _labels(keys: Sequence[str], rows: Sequence[Sequence[Any]], differing: Sequence[int]) -> tuple[str, ...]:
    if len(differing) == 1:
        labels = tuple(_value(keys[differing[0]], row[differing[0]]) for row in rows)
    else:
        # Where most rows agree in every setting, only what sets a row apart from them is said.
        usual = {column: _usual([row[column] for row in rows]) for column in differing}
        usual = usual if None not in usual.values() else dict.fromkeys(usual)
        labels = tuple(
            ", ".join(
                filter(None, (_joined(keys[at], row[at]) for at in differing if _key(row[at]) != usual[at]))
            )
            or NONE
            for row in rows
        )  # fmt: skip
    if len(set(labels)) < len(rows):
        labels = tuple(", ".join(_raw(row[column]) for column in differing) for row in rows)
    return labels


def _said(keys: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[int]:
    """Returns the columns that rows are named by."""
    differing = _differing(keys, rows)
    short = [column for column in differing if keys[column] not in _SILENT]
    apart = {tuple(_key(row[column]) for column in short) for row in rows}
    return short if len(apart) == len(rows) else differing


def _usual(values: Sequence[Any]) -> str | None:
    """Returns the value that more rows have than any other; None where no value is had twice."""
    (value, count), *_ = Counter(map(_key, values)).most_common(1)
    return value if count > 1 else None


def _joined(key: str, value: Any) -> str:
    """Returns a value as it stands beside those of other settings."""
    if isinstance(value, bool):
        return _name(key) if value else f"no {_name(key)}"
    if _is_number(value) and (key, value) not in _VALUES:
        return f"{_name(key)} {_value(key, value)}"
    if value in ("none", "balanced") and (key, value) not in _VALUES:
        return f"{'no' if value == 'none' else value} {_name(key)}"
    if key == "train.loss":
        return _value(key, value) + (" loss" if value == "focal" else "")
    return _value(key, value)


def _value(key: str, value: Any) -> str:
    if not isinstance(value, list) and (key, value) in _VALUES:
        return _VALUES[key, value]
    if isinstance(value, bool):
        return "yes" if value else "no"
    if _is_number(value):
        return f"{value:,}" if isinstance(value, int) else np.format_float_positional(value, trim="-")
    if key == "train.groups":
        return _groups(value)
    if isinstance(value, list):
        return ", ".join(map(_raw, value))
    return _PROPER.get(value, value) or "–"


def _groups(groups: Sequence[Any]) -> str:
    """Returns the parts of a network that learn: ``head + block5``."""
    learning = [entry[0] for entry in groups or [("head/.*", 1.0)] if entry[1] > 0]
    return " + ".join(part.removeprefix("backbone/").removesuffix(".*").strip("/") or "backbone" for part in learning)


def _name(key: str) -> str:
    group, _, name = key.rpartition(".")
    return _NAMES.get(key) or (group if name in ("name", "path") else name).replace("_", " ")


def _differing(keys: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[int]:
    return [column for column in range(len(keys)) if len({_key(row[column]) for row in rows}) > 1]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _raw(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _key(value: Any) -> str:
    return json.dumps(value)


def _plain(value: Any) -> Any:
    """Returns a value as it comes back from JSON, where tuples are lists."""
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value
