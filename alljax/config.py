"""Configs: from a file and the command line to checked values of every setting in settings.py.

A run is described by one `ConfigDict`.  A file in ``configs/`` starts from `default_config` and sets what differs;
``--config.key=value`` on the command line sets the rest.  Defaults are defined only in settings.py.
"""

import functools
import itertools
import math
import operator
import re
import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from alljax.errors import ConfigError, UserError, unknown_name
from alljax.settings import SETTINGS, SWEEPABLE, Setting

TYPE_NAMES = {bool: "true or false", int: "an integer", float: "a number", str: "text", tuple: "a list (a,b)"}


def default_config() -> ConfigDict:
    """Returns a config with every setting at its default, locked against unknown keys."""
    nested: dict[str, Any] = {}
    for key, setting in SETTINGS.items():
        *groups, name = key.split(".")
        functools.reduce(lambda group, part: group.setdefault(part, {}), groups, nested)[name] = setting.default
    return ConfigDict(nested).lock()


def load(file: str = "", overrides: Sequence[str] = ()) -> ConfigDict:
    """Returns the checked config of ``FILE[:argument]`` with overrides applied.

    Args:
        file: a Python file with ``get_config(argument)``, for example ``configs/quickstart.py:cnmc``. Empty: defaults.
        overrides: words of the command line, for example ``["--config.train.epochs=7"]``.

    Raises:
        ConfigError: missing file, unknown setting or argument, wrong type, or an error inside the file.
    """
    config = _read(*file.partition(":")[::2]) if file else default_config()
    for word in overrides:
        if word.startswith("--config."):
            _setting(word.removeprefix("--config.").partition("=")[0])
    values, words = flags.FlagValues(), list(overrides)
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=words)
    try:
        if unknown := values(["alljax", *words])[1:]:
            raise flags.Error(f"unknown argument {unknown[0]!r}")
    except flags.Error as error:
        if match := re.match(r"flag --config\.([\w.]+)=(.*?): ", str(error)):
            raise _wrong_type(match[1], match[2]) from error
        raise ConfigError(f"{error}; `alljax --help` lists the commands and their arguments") from error
    for key, value in flatten(config).items():  # config_flags takes a,b for one text
        if isinstance(value, tuple) and len(value) == 1 and isinstance(value[0], str):
            config.update_from_flattened_dict({key: tuple(filter(None, value[0].split(",")))})
    return check(config)


def _read(path: str, argument: str) -> ConfigDict:
    """Returns the config of a file; an error in it becomes one line with its place."""
    path = str(Path(path).expanduser())
    if not Path(path).is_file():
        raise ConfigError(f"{path}: no such config file; examples are in configs/")
    if (root := str(Path(path).resolve().parent.parent)) not in sys.path:
        sys.path.append(root)  # for `import configs.common`
    try:
        get_config = runpy.run_path(path).get("get_config", lambda *arguments: None)
        config = get_config(argument) if argument else get_config()
    except UserError:
        raise
    except SyntaxError as error:
        raise ConfigError(f"{error.filename}:{error.lineno}: {error.msg}") from error
    except Exception as error:  # the user's file may raise anything
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        reason = re.sub(r"Other fields present: .*?(?=Did you mean|$)|\s+", " ", str(error))
        raise ConfigError(f"{path}:{lines[-1] if lines else 1}: {type(error).__name__}: {reason}") from error
    if not isinstance(config, ConfigDict) or config.keys() != default_config().keys():
        raise ConfigError(f"{path}: its get_config() does not return a config of alljax.config.default_config()")
    return config


def flatten(config: ConfigDict) -> dict[str, Any]:
    """Returns the config as one dictionary from dotted keys to values."""
    return {key: operator.attrgetter(key)(config) for key in SETTINGS}


def vary(config: ConfigDict, changes: dict[str, Any]) -> ConfigDict:
    """Returns a copy of `config` with `changes` (dotted key to value) applied; lists, as in JSON, become tuples.

    Raises:
        ConfigError: an unknown setting, as in a study of another version of alljax.
    """
    for key in changes:
        _setting(key)
    changed = config.copy_and_resolve_references()
    changed.update_from_flattened_dict({key: _tuples(value) for key, value in changes.items()})
    return changed


def difference(stored: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Returns one line ``key: stored → wanted`` per key that differs between two flattened configs."""
    return [
        f"{key}: {stored.get(key)!r} → {wanted.get(key)!r}"
        for key in sorted(stored.keys() | wanted.keys())
        if _tuples(stored.get(key)) != _tuples(wanted.get(key))
    ]


def check(config: ConfigDict) -> ConfigDict:
    """Returns `config` if every value is allowed, else raises a `ConfigError` that names the setting and its value."""
    for key, value in flatten(config).items():
        _check_value(key, value)
    if 0 < config.preprocessing.image_size < 32:  # backbones halve the image five times
        raise ConfigError(f"preprocessing.image_size={config.preprocessing.image_size} must be 0 or at least 32")
    for pair in config.train.boundaries:
        match pair:
            case [int(), int() | float() as factor] if factor > 0:
                continue
        raise ConfigError(f"train.boundaries contains {pair!r}; each entry is a pair (step, factor above 0)")
    if config.train.patience and not (config.split.validation and config.train.keep_best):
        raise ConfigError(
            "train.patience needs validation images (split.validation above 0) and train.keep_best of at least 1; "
            "early stopping on test images would bias the result"
        )
    sweep_rows(config)
    return config


def _check_value(key: str, value: Any) -> None:
    setting = _setting(key)
    wanted = type(setting.default)
    correct = isinstance(value, int | float) if wanted is float else isinstance(value, wanted)
    if not correct or (isinstance(value, bool) and wanted is not bool):
        raise _wrong_type(key, repr(value))
    if setting.choices and value not in setting.choices:
        raise ConfigError(f"{key}={value!r} is not one of the choices {', '.join(map(repr, setting.choices))}")
    if wanted in (int, float) and not setting.minimum <= value < setting.below:
        limit = "" if setting.below == math.inf else f" and below {setting.below:g}"
        raise ConfigError(f"{key}={value!r} is out of range; it must be at least {setting.minimum:g}{limit}")


def sweep_rows(config: ConfigDict) -> list[dict[str, Any]]:
    """Returns the changes (dotted key to value) of each trial: the product of the entries of ``study.sweep``.

    An entry is a pair (key, values) or a pair (keys, rows) where each row has one value per key.

    Raises:
        ConfigError: a malformed entry, an unknown setting, or a value that is not allowed.
    """
    axes: list[list[dict[str, Any]]] = []
    for entry in config.study.sweep:
        match entry:
            case [str() as key, tuple() | list() as values] if values:
                keys, rows = [key], [(value,) for value in values]
            case [[*keys], [_, *_] as rows] if all(isinstance(r, tuple | list) and len(r) == len(keys) for r in rows):
                pass
            case _:
                raise ConfigError(
                    f"study.sweep contains {entry!r}; each entry is a pair (key, tuple of values) or (keys, rows of "
                    "values)"
                )
        for key in keys:
            if not str(key).startswith(SWEEPABLE):
                raise ConfigError(f"study.sweep cannot contain {key!r}; allowed are keys below {', '.join(SWEEPABLE)}")
            if any(key in axis[0] for axis in axes):
                raise ConfigError(f"study.sweep contains {key} twice; list all its values in one pair")
        axes.append([dict(zip(keys, row, strict=True)) for row in rows])
        for key, value in itertools.chain.from_iterable(row.items() for row in axes[-1]):
            _check_value(key, value)
    return [{key: value for row in rows for key, value in row.items()} for rows in itertools.product(*axes)]


def _setting(key: str) -> Setting:
    if key not in SETTINGS:
        raise ConfigError(unknown_name("setting", key, SETTINGS, "`alljax study --settings` lists all settings"))
    return SETTINGS[key]


def _wrong_type(key: str, value: str) -> ConfigError:
    kind = TYPE_NAMES[type(SETTINGS[key].default)]
    return ConfigError(f"{key}={value} has the wrong type; it takes {kind} ({SETTINGS[key].help})")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, tuple | list) else value
