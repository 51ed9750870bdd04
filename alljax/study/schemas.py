"""The JSON files of a work folder: the keys that alljax reads and their types."""

import math
import re
from pathlib import Path
from typing import Any

from alljax.errors import WorkdirError
from alljax.evaluation.metrics import METRICS
from alljax.settings import SETTINGS

ANY = "*"
"""In a schema: every key that is not listed."""

NUMBER = int | float
INTERVALS = {ANY: [NUMBER, NUMBER]}
SCORES = {
    **dict.fromkeys(METRICS, NUMBER),
    "auc": NUMBER | None,
    "confusion": [[NUMBER]],
    "per_class": [{"precision": NUMBER, "recall": NUMBER, "f1": NUMBER, "count": int}],
}
RULE = SCORES | {"intervals": INTERVALS}
PROTOCOL = {
    "name": str, "folds": int, "repeats": int, "fingerprint": str, "leaky": bool, "training_images": [int],
    "test_images": [int],
}  # fmt: skip
RULES = {"majority": RULE, "size_threshold": RULE, ANY: RULE}
DIVISION = {"protocol": PROTOCOL, "leaks": {ANY: int}, "baselines": RULES}
DATASET = {
    "name": str, "source": str, "classes": [str], "class_names": [str], "images": int, "subject_names": int,
    "subjects": int, "by_class": {ANY: {"images": int, "subjects": int}}, "notes": [str], "image_size": [int, int],
    "file_properties": {ANY: {"balanced_accuracy": NUMBER, "values": {ANY: str}}}, "sha256": str,
}  # fmt: skip
WEIGHTS = {"backbone": str, "name": str, "path": str, "sha256": str, "preprocessing": dict}
RESULT = SCORES | {
    "std": {ANY: NUMBER | None}, "per_seed": [SCORES], "intervals": INTERVALS, "interval_unit": str, "level": NUMBER,
    "size_improvement": {ANY: {"value": NUMBER, "interval": [NUMBER, NUMBER]}}, "weights": WEIGHTS, "split": str,
    "seconds": NUMBER, "feature_seconds": NUMBER,
}  # fmt: skip
FAILURE = {"failed": str}
SUMMARY = DIVISION | {
    "dataset": DATASET, "splits": {ANY: DIVISION}, "trials": {ANY: RESULT}, "missing": [str], "failed": {ANY: str},
}  # fmt: skip
ENVIRONMENT = {"alljax": str, "command": str, "devices": [str], "packages": {ANY: str}, "inputs": {ANY: str}}
CHECKSUMS = {ANY: {"sha256": str, "bytes": int, "modified": int}}


class Config:
    """In a schema: a flattened config."""


class Name:
    """In a schema: the name of a trial, which is also the name of its folder."""


TRIALS = [{"name": Name, "split": str, "config": Config}]

WORDS: dict[Any, str] = {
    str: "text", int: "an integer", NUMBER: "a number", NUMBER | None: "a number or null", bool: "true or false",
    list: "a list", dict: "an object",
}  # fmt: skip


def check(value: Any, schema: Any, path: Path, key: str = "content") -> None:
    """Raises `WorkdirError` where the JSON of a file lacks a key that alljax reads, or has a value of another type.

    A schema is a type, a list of the schema of all entries (or of the entries of a pair), or a dictionary from keys to
    schemas; other keys are allowed.
    """
    wanted: Any = type(schema) if isinstance(schema, dict | list) else {Config: dict, Name: str}.get(schema, schema)
    if not isinstance(value, wanted) or (isinstance(value, float) and not math.isfinite(value)):
        found = WORDS.get(type(value), f"{value!r:.40}")
        raise WorkdirError(f"{path}: {key} is {found}, not {WORDS[wanted]}; the file is damaged or of another program")
    if schema is Name and not re.fullmatch(r"[\w+=-][\w.+=-]*", value):
        raise WorkdirError(f"{path}: {key} is {value!r:.80}, which cannot be the name of a trial and its folder")
    if schema is Config:
        _check_config(value, path, key)
    elif isinstance(schema, list):
        if len(schema) > 1 and len(value) != len(schema):
            raise WorkdirError(f"{path}: {key} has {len(value)} entries instead of {len(schema)}")
        for number, entry in enumerate(value):
            check(entry, schema[0], path, f"{key}[{number}]")
    elif isinstance(schema, dict):
        if missing := schema.keys() - value.keys() - {ANY}:
            raise WorkdirError(f"{path}: {key} lacks {min(missing)!r}; the file is damaged or of another program")
        for name in value if ANY in schema else schema:
            check(value[name], schema.get(name, schema.get(ANY)), path, f"{key}.{name}".removeprefix("content."))


def _check_config(config: dict[str, Any], path: Path, place: str) -> None:
    for key, value in config.items():
        if key not in SETTINGS:
            raise WorkdirError(f"{path}: {place} has the unknown setting {key!r}; it is of another version of alljax")
        if problem := SETTINGS[key].problem(tuple(value) if isinstance(value, list) else value):
            raise WorkdirError(f"{path}: {place}: {key} {problem}")
