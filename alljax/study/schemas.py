"""The JSON files of a work folder: the keys that alljax reads and their types."""

import math
import re
from pathlib import Path
from types import FunctionType
from typing import Any

from alljax.config import problem_of
from alljax.errors import WorkdirError
from alljax.evaluation.metrics import METRICS

ANY = "*"
"""In a schema: every key that is not listed."""

NUMBER = int | float
INTERVALS = {ANY: [NUMBER, NUMBER]}
RULE = {
    **dict.fromkeys((*METRICS, "weighted_precision", "weighted_recall"), NUMBER),
    **dict.fromkeys(("auc", "weighted_auc", "pr_auc", "brier_scaled"), NUMBER | None),
    "confusion": [[NUMBER]], "intervals": INTERVALS,
    "per_class": [{
        "precision": NUMBER, "recall": NUMBER, "f1": NUMBER, "auc": NUMBER | None, "pr_auc": NUMBER | None,
        "count": int,
    }],
}  # fmt: skip
PROTOCOL = {"name": str, "folds": int, "repeats": int, "fingerprint": str, "leaky": bool, "test_images": [int]}
RULES = {"majority": RULE, ANY: RULE}
DIVISION = {"protocol": PROTOCOL, "leaks": {ANY: int}, "baselines": RULES}
DATASET = {
    "name": str, "source": str, "classes": [str], "class_names": [str], "images": int, "subject_names": int,
    "subjects": int, "by_class": {ANY: {"images": int, "subjects": int}}, "notes": [str], "image_size": [int, int],
    "file_properties": {ANY: {"balanced_accuracy": NUMBER, "values": {ANY: str}}}, "sha256": str,
}  # fmt: skip
WEIGHTS = {"backbone": str, "name": str, "path": str, "sha256": str, "preprocessing": dict}
RESULT = RULE | {
    "std": {ANY: NUMBER | None}, "interval_unit": str, "weights": (WEIGHTS,), "split": str, "seconds": NUMBER,
    "size_improvement": {ANY: {"value": NUMBER, "interval": [NUMBER, NUMBER]}},
    "tuned_on": str, "temperature": NUMBER | None, "fold_temperatures": [NUMBER],
    "operating_points": [{"target": str, "value": NUMBER, "threshold": NUMBER, "thresholds": [NUMBER]}],
}  # fmt: skip
SUMMARY = DIVISION | {
    "dataset": DATASET, "splits": {ANY: DIVISION}, "trials": {ANY: RESULT}, "missing": [str], "failed": {ANY: str},
}  # fmt: skip
EVALUATION = {"trials": {ANY: dict}, "selection": dict | None}
ENVIRONMENT = {"alljax": str, "command": str, "devices": [str], "packages": {ANY: str}, "inputs": {ANY: str}}
CHECKSUMS = {ANY: {"sha256": str, "bytes": int, "modified": int}}

WORDS: dict[Any, str] = {
    str: "text", int: "an integer", NUMBER: "a number", NUMBER | None: "a number or null", bool: "true or false",
    list: "a list", dict: "an object", dict | None: "an object or null",
}  # fmt: skip


def flat_config(value: Any) -> str:
    """Returns what is wrong with a flattened config; empty if it is valid."""
    if not isinstance(value, dict):
        return "is not an object"
    problems = (problem_of(key, tuple(entry) if isinstance(entry, list) else entry) for key, entry in value.items())
    return next(filter(None, problems), "")


def trial_name(value: Any) -> str:
    """Returns what is wrong with the name of a trial, which is also that of its folder; empty if it is valid."""
    valid = isinstance(value, str) and re.fullmatch(r"[\w+=-][\w.+=-]*", value)
    return "" if valid else f"is {value!r:.80}, which cannot be the name of a trial and its folder"


TRIALS = [{"name": trial_name, "config": flat_config}]


def check(value: Any, schema: Any, path: Path, key: str = "content") -> None:
    """Raises `WorkdirError` where the JSON of a file lacks a key that alljax reads, or has a value of another type.

    A schema is a type, a function that returns what is wrong, a list of the schema of all entries (or of the entries of
    a pair), a dictionary from keys to schemas, where other keys are allowed, or a tuple of a schema that may be null.
    """
    if isinstance(schema, tuple):
        if value is None:
            return
        (schema,) = schema
    if problem := _problem(value, schema):
        raise WorkdirError(f"{path}: {key} {problem}; the file is damaged, or of another program or version of alljax")
    if isinstance(schema, list):
        for number, entry in enumerate(value):
            check(entry, schema[0], path, f"{key}[{number}]")
    elif isinstance(schema, dict):
        for name in value if ANY in schema else schema:
            check(value[name], schema.get(name, schema.get(ANY)), path, f"{key}.{name}".removeprefix("content."))


def _problem(value: Any, schema: Any) -> str:
    if isinstance(schema, FunctionType):
        return str(schema(value))
    wanted: Any = type(schema) if isinstance(schema, dict | list) else schema
    if not isinstance(value, wanted) or (isinstance(value, float) and not math.isfinite(value)):
        return f"is {WORDS.get(type(value), f'{value!r:.40}')}, not {WORDS[wanted]}"
    if isinstance(schema, list) and len(schema) > 1 and len(value) != len(schema):
        return f"has {len(value)} entries instead of {len(schema)}"
    if isinstance(schema, dict) and (missing := schema.keys() - value.keys() - {ANY}):
        return f"lacks {min(missing)!r}"
    return ""
