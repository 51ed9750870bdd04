"""Configs: from a file and the command line to checked values of every setting in settings.py."""

import ast
import contextlib
import difflib
import functools
import itertools
import operator
import re
import runpy
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alljax import config_files
from alljax.errors import ConfigError, Problems, UserError
from alljax.settings import HEADS, SETTINGS, SWEEPABLE

BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}


def default_config() -> ConfigDict:
    """Returns a config with every setting at its default, locked against unknown keys."""
    nested: dict[str, Any] = {}
    for key, setting in SETTINGS.items():
        *groups, name = key.split(".")
        functools.reduce(lambda group, part: group.setdefault(part, {}), groups, nested)[name] = setting.default
    return ConfigDict(nested).lock()


def load(file: str = "", overrides: Sequence[str] = (), problems: Problems | None = None) -> ConfigDict:
    """Returns the checked config of ``NAME[:argument]`` or ``FILE.py[:argument]``, or the defaults, and `overrides`.

    Overrides are words such as ``--config.train.epochs=7``.  Errors in settings, which then have their defaults, are
    collected in `problems`; without it they are raised together.
    """
    found, changes = problems or Problems(), {}
    config = _read(*config_files.find(file)) if file else default_config()
    for word in overrides:
        with found.collect():
            key, value = _parse(word)
            changes[key] = value
    config = check(vary(config, changes), found)
    if problems is None:
        found.report()
    return config


def load_config(file: str = "", /, **settings: Any) -> ConfigDict:
    """Returns the config of a study, which `alljax.run_study` runs: that of a file, or the defaults, with changes.

    Args:
        file: What ``alljax study --config=`` accepts.
        **settings: Those that ``alljax study --settings`` lists, with ``__`` for a dot, as in scikit-learn.

    Raises:
        ConfigError: An unknown setting, a value of another type, or settings that contradict each other.

    >>> config = alljax.load_config(split__folds=3, train__epochs=7)
    >>> config.train.learning_rate = 1e-3
    >>> config.split.folds, config.train.epochs, config.train.optimizer
    (3, 7, 'adam')
    """
    changes, found = {key.replace("__", "."): tuples(value) for key, value in settings.items()}, Problems()
    found.errors += [ConfigError(problem) for key, value in changes.items() if (problem := problem_of(key, value))]
    found.report()
    return check(vary(load(file), changes))


def _parse(word: str) -> tuple[str, Any]:
    """Returns key and value of ``--config.key=text``."""
    key, equals, text = word.removeprefix("--config.").partition("=")
    if not word.startswith("--config."):
        raise ConfigError(f"unknown argument {word!r}; `alljax --help` lists the commands and their arguments")
    if not equals:
        raise ConfigError(f"{word} needs a value: {word}=VALUE")
    parsers: dict[type, Callable[[str], Any]] = {bool: lambda word: BOOLEANS[word.lower()], tuple: _parse_list}
    try:
        kind = type(SETTINGS[key].default)
        return key, parsers.get(kind, kind)(text)
    except (ValueError, KeyError) as error:
        raise ConfigError(problem_of(key, text)) from error


def _parse_list(text: str) -> tuple:
    """Returns a Python literal as a tuple; other texts, such as ``(1) AML,(2) ALL``, are split at commas."""
    if text.lstrip().startswith(("(", "[")):
        with contextlib.suppress(SyntaxError, ValueError):
            value = ast.literal_eval(text.strip())
            if isinstance(value, tuple | list):
                return tuples(value)
    return tuple(filter(None, (part.strip() for part in text.split(","))))


def _read(path: Path, argument: str) -> ConfigDict:
    """Returns the config of a file; an error in it becomes one line with its place."""
    try:
        with config_files.importable(path):
            get_config = runpy.run_path(str(path)).get("get_config", lambda *arguments: None)
            config = get_config(argument) if argument else get_config()
    except UserError:
        raise
    except SyntaxError as error:
        raise ConfigError(f"{error.filename}:{error.lineno}: {error.msg}") from error
    except Exception as error:  # the user's file may raise anything
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        unknown = re.search(r'Key "(\w+)" does not exist', str(error))
        reason = problem_of(unknown[1], None) if unknown else " ".join(str(error).split())
        raise ConfigError(f"{path}:{lines[-1] if lines else 1}: {type(error).__name__}: {reason}") from error
    if not isinstance(config, ConfigDict) or config.keys() != default_config().keys():
        raise ConfigError(f"{path}: its get_config() does not return a config of alljax.config.default_config()")
    return config


def flatten(config: ConfigDict) -> dict[str, Any]:
    """Returns the config as one dictionary from dotted keys to values."""
    return {key: operator.attrgetter(key)(config) for key in SETTINGS}


def vary(config: ConfigDict, changes: dict[str, Any]) -> ConfigDict:
    """Returns a copy of `config` with `changes` (dotted key to value) applied; lists, as in JSON, become tuples."""
    if unknown := changes.keys() - SETTINGS.keys():
        raise ConfigError(problem_of(min(unknown), None))
    changed = config.copy_and_resolve_references()
    changed.update_from_flattened_dict({key: tuples(value) for key, value in changes.items()})
    return changed


def check(config: ConfigDict, problems: Problems | None = None) -> ConfigDict:
    """Returns `config` with the defaults of invalid settings, which are collected in `problems` or raised together."""
    found = problems or Problems()
    for key, value in flatten(config).items():
        if problem := problem_of(key, value):
            found.errors.append(ConfigError(problem))
            config = vary(config, {key: SETTINGS[key].default})
    with found.collect():
        sweep_axes(config)
    if config.train.patience and not (config.split.validation and config.train.keep_best):
        error = "train.patience needs validation images (split.validation above 0) and train.keep_best of at least 1; "
        found.errors.append(ConfigError(error + "early stopping on test images would bias the result"))
    found.errors += map(ConfigError, _problems_of_pipeline(config))
    if problems is None:
        found.report()
    return config


def _problems_of_pipeline(config: ConfigDict) -> Iterator[str]:
    """Yields what is wrong with the features, the classifier and the selection of a trial."""
    name, extractor = config.classifier.name, config.features.extractor
    if config.study.select == "nested" and (config.train.mode != "frozen" or config.evaluation.inner_folds < 2):
        yield "study.select=nested needs heads (train.mode=frozen) and inner folds (evaluation.inner_folds above 1)"
    if config.train.mode == "finetune" and name not in HEADS:
        yield f"classifier.name={name} is fitted to features; set train.mode=frozen"
    if not extractor:
        yield "features.extractor is empty; name at least one, for example backbone"
    steps = extractor == ("dct",) or (extractor == ("backbone",) and config.model.pool == "flatten")
    if name == "lstm" and not (steps and set(config.features.select) <= {"standardize"}):
        pixels = "the pixels of a feature map (features.extractor=backbone, model.pool=flatten)"
        blocks = "blocks of pixels (features.extractor=dct)"
        yield f"classifier.name=lstm needs a sequence: {pixels} or {blocks}, selected by standardize only"


def problem_of(key: str, value: Any) -> str:
    """Returns a setting with what is wrong with it or its value; empty if both are valid."""
    if key not in SETTINGS:
        near = nearest(key)
        help = f"did you mean {near!r}?" if near else "`alljax study --settings` lists all settings"
        return f"unknown setting {key!r}: {help}"
    problem = SETTINGS[key].problem(value)
    written = key if isinstance(value, tuple) else f"{key}={value!r}"
    return f"{written} {problem}" if problem else ""


def sweep_axes(config: ConfigDict) -> list[list[dict[str, Any]]]:
    """Returns the changes (dotted key to value) of each entry of ``study.sweep``: (key, values) or (keys, rows)."""
    axes: list[list[dict[str, Any]]] = []
    for entry in config.study.sweep:
        match entry:
            case [str() as key, tuple() | list() as values] if values:
                keys, rows = [key], [(value,) for value in values]
            case [[*keys], [_, *_] as rows] if all(isinstance(r, tuple | list) and len(r) == len(keys) for r in rows):
                pass
            case _:
                raise ConfigError(f"study.sweep: {entry!r} is no pair (key, tuple of values) or (keys, rows of values)")
        for key in keys:
            if not str(key).startswith(SWEEPABLE):
                raise ConfigError(f"study.sweep cannot contain {key!r}; allowed are keys below {', '.join(SWEEPABLE)}")
            if any(key in axis[0] for axis in axes):
                raise ConfigError(f"study.sweep contains {key} twice; list all its values in one pair")
        axes.append([dict(zip(keys, row, strict=True)) for row in rows])
        for key, value in itertools.chain.from_iterable(row.items() for row in axes[-1]):
            if problem := problem_of(key, value):
                raise ConfigError(f"study.sweep: {problem}")
    return axes


def nearest(name: str) -> str:
    """Returns the setting that is probably meant: ``train.learning_rate`` for ``train.lr``; empty if unknown."""
    last_parts = {"lr": "train.learning_rate"} | {key.rpartition(".")[2]: key for key in reversed(SETTINGS)}
    near = difflib.get_close_matches(name, SETTINGS, n=1, cutoff=0.8)
    near += difflib.get_close_matches(name.rpartition(".")[2], last_parts, n=1, cutoff=0.7)
    return last_parts.get(near[0], near[0]) if near else ""


def tuples(value: Any) -> Any:
    """Returns a value of JSON with tuples for lists."""
    return tuple(tuples(part) for part in value) if isinstance(value, tuple | list) else value


def compile_pattern(setting: str, pattern: str, repeats: int) -> re.Pattern[str]:
    """Returns a regular expression; raises `ConfigError` if matching could take too long, as with a repeated group."""
    plain = re.sub(r"\\.|\[[^]]*\]|\(\?", "x", pattern)  # without escapes, sets of characters and names of groups
    many = len(re.findall("[*+{]", plain)) > repeats or len(re.findall("[?|]", plain)) > 8
    if len(pattern) > 200 or many or re.search(r"\)[*+{]", plain):
        limits = f"at most 200 characters, {repeats} of * + {{}} and 8 of ? |, and repeat no group"
        raise ConfigError(f"{setting}: matching {pattern!r:.80} could take too long; use {limits}")
    try:
        return re.compile(pattern)
    except (re.error, OverflowError) as error:
        raise ConfigError(f"{setting}: {pattern!r} is not a regular expression: {error}") from error
