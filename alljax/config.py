"""Configs: from a file and the command line to checked values of every setting in settings.py.

A run is described by one `ConfigDict`.  A file in ``configs/`` starts from
`default_config` and sets what differs; ``--config.key=value`` on the command
line sets the rest.  No other place holds a default.
"""

import ast
import difflib
import importlib.util
import itertools
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alljax.errors import ConfigError, UserError
from alljax.settings import SETTINGS, VARIABLE, Setting

LARGEST = 2**31 - 1
"""No whole number may be larger: seeds beyond it wrap around in JAX or are refused by scikit-learn."""


def default_config() -> ConfigDict:
    """Returns a config with every setting at its default, locked against unknown keys."""
    config = ConfigDict()
    for key, setting in SETTINGS.items():
        *groups, name = key.split(".")
        group = config
        for part in groups:
            if part not in group:
                group[part] = ConfigDict()
            group = group[part]
        group[name] = setting.default
    return config.lock()


def load(file: str, overrides: Sequence[tuple[str, str]] = ()) -> ConfigDict:
    """Returns the checked config of ``FILE[:argument]`` with overrides set.

    Args:
        file: a Python file with ``get_config(argument)``, for example
            ``configs/quickstart.py:cnmc``; the argument is the text after the colon.
        overrides: pairs of a dotted key and its value as text.

    Raises:
        ConfigError: no such file, an unknown key or argument, or a value of the wrong type.
    """
    path, _, argument = file.partition(":")
    return override(_get_config(Path(path).expanduser())(argument), overrides)


def override(config: ConfigDict, overrides: Sequence[tuple[str, str]]) -> ConfigDict:
    """Sets keys of `config` from text and returns it checked.

    Args:
        config: is changed.
        overrides: pairs of a dotted key and its value as text.

    Raises:
        ConfigError: an unknown key or a value of the wrong type.
    """
    for key, text in overrides:
        setting = _setting(key)
        _assign(config, key, _parse(key, setting, text))
    return check(config)


def flatten(config: ConfigDict) -> dict[str, Any]:
    """Returns the config as one dictionary from dotted keys to values."""
    return {key: _value(config, key) for key in SETTINGS}


def unflatten(values: dict[str, Any]) -> ConfigDict:
    """Returns the checked config that `flatten` gave, after a way through JSON, where tuples are lists.

    Raises:
        ConfigError: a key that is no setting, or a value its setting does not allow.
    """
    config = default_config()
    for key, value in values.items():
        _setting(key)
        _assign(config, key, _tuples(value))
    return check(config)


def check(config: ConfigDict) -> ConfigDict:
    """Returns `config` if every value is one its setting allows.

    Raises:
        ConfigError: names the key, the value and what is allowed.
    """
    for key, value in flatten(config).items():
        check_value(key, value)
    if not 0 < config.split.test_fraction < 1:
        raise ConfigError(f"split.test_fraction={config.split.test_fraction} must lie between 0 and 1")
    if not config.split.validation < 1:
        raise ConfigError(f"split.validation={config.split.validation} must be 0 or more and below 1")
    if not 0 < config.evaluation.level < 1:
        raise ConfigError(f"evaluation.level={config.evaluation.level} must lie between 0 and 1")
    if 0 < config.preprocessing.image_size < 32:  # five halvings leave a pixel
        raise ConfigError(f"preprocessing.image_size={config.preprocessing.image_size} must be 0 or at least 32")
    for pair in config.train.boundaries:
        if not (isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], int) and pair[1] > 0):
            raise ConfigError(f"train.boundaries holds {pair!r}; each entry is a pair (step, factor above 0)")
    if config.train.patience and not (config.split.validation and config.train.keep_best):
        raise ConfigError(
            "train.patience needs validation cells (split.validation above 0) and train.keep_best of at least 1; "
            "stopping by the test cells would flatter them"
        )
    variations(config)
    return config


def check_value(key: str, value: Any) -> None:
    """Checks one value against its setting.

    Raises:
        ConfigError: unknown key, wrong type, not among the choices, or too small.
    """
    setting = _setting(key)
    wanted = type(setting.default)
    right = isinstance(value, int | float) if wanted is float else isinstance(value, wanted)
    if not right or (isinstance(value, bool) and wanted is not bool):
        raise ConfigError(f"{key}={value!r} is of the wrong type; it takes {_type_name(setting)} ({setting.help})")
    if wanted is int and abs(value) > LARGEST:
        raise ConfigError(f"{key}={value!r} is too large; it must be at most {LARGEST}")
    if setting.choices and value not in setting.choices:
        raise ConfigError(f"{key}={value!r} is none of its choices: {', '.join(setting.choices)}")
    if setting.minimum is not None and not value >= setting.minimum:
        raise ConfigError(f"{key}={value!r} is too small; it must be at least {setting.minimum:g}")


def variations(config: ConfigDict) -> list[dict[str, Any]]:
    """Returns the overrides of each cell of the study: the product of the entries of ``study.sweep``.

    An entry is a pair (key, values), or a list: (keys, rows), each row with a value for every key.

    Raises:
        ConfigError: an entry that is neither, an unknown key, or a value its setting does not allow.
    """
    named: set[str] = set()
    lists = []
    for entry in config.study.sweep:
        keys, rows = _entry(entry)
        for key in keys:
            if not str(key).startswith(VARIABLE):
                raise ConfigError(
                    f"study.sweep cannot vary {key!r}; it takes keys that begin with {', '.join(VARIABLE)}"
                )
            if key in named:
                raise ConfigError(f"study.sweep names {key} twice; list all its values in one pair")
            named.add(key)
        for row in rows:
            for key, value in zip(keys, row, strict=True):
                check_value(key, value)
        lists.append([dict(zip(keys, row, strict=True)) for row in rows])
    return [{key: value for row in rows for key, value in row.items()} for rows in itertools.product(*lists)]


def _entry(entry: Any) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    """Returns the keys of an entry of ``study.sweep`` and its rows, one value a key."""

    def listed(value: Any) -> bool:
        return isinstance(value, tuple | list)

    if not (listed(entry) and len(entry) == 2 and listed(entry[1])):
        raise ConfigError(f"study.sweep holds {entry!r}; each entry is a pair (key, values) or (keys, rows)")
    keys, rows = entry
    if not rows or not keys:
        raise ConfigError(f"study.sweep holds {entry!r}, which has no value, so the study would have no cell; add one")
    if not listed(keys):
        return (keys,), [(value,) for value in rows]
    for row in rows:
        if not (listed(row) and len(row) == len(keys)):
            raise ConfigError(f"study.sweep holds the row {row!r} for the {len(keys)} keys {', '.join(keys)}")
    return tuple(keys), [tuple(row) for row in rows]


def vary(config: ConfigDict, changes: dict[str, Any]) -> ConfigDict:
    """Returns a copy of `config` with `changes` (dotted key to value) set."""
    changed = config.copy_and_resolve_references()
    for key, value in changes.items():
        _assign(changed, key, value)
    return changed


def difference(stored: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """Returns a line ``key: stored → wanted`` for each key of two flattened configs that differs.

    A key that `stored` does not know yet counts as its default: it came with a later version.
    """
    missing = "(absent)"
    stored = {key: setting.default for key, setting in SETTINGS.items()} | stored
    return [
        f"{key}: {stored[key]!r} → {wanted.get(key, missing)!r}"
        for key in sorted(stored)
        if _tuples(stored[key]) != _tuples(wanted.get(key, missing))
    ]


def describe() -> Iterator[str]:
    """Yields one line a setting for ``--help``: key, default, meaning, choices."""
    for key, setting in SETTINGS.items():
        choices = f" [{', '.join(setting.choices)}]" if setting.choices else ""
        yield f"  --config.{key}={setting.default!r}\n      {setting.help}{choices}"


def _get_config(path: Path) -> Any:
    if not path.is_file():
        raise ConfigError(f"{path}: no such config file; those of the project are in configs/")
    specification = importlib.util.spec_from_file_location(f"alljax_config_{path.stem}", path)
    loader = specification.loader if specification else None
    if specification is None or loader is None:
        raise ConfigError(f"{path}: a config is a Python file (.py) with a function get_config")
    module = importlib.util.module_from_spec(specification)

    def get_config(argument: str) -> ConfigDict:
        try:
            if (root := str(path.resolve().parent.parent)) not in sys.path:
                sys.path.append(root)  # so that a config can import another of its folder: configs.common
            loader.exec_module(module)
            config = module.get_config(argument)
            if not isinstance(config, ConfigDict):
                raise TypeError(f"get_config gives {type(config).__name__}, not a ConfigDict")
            return config
        except UserError:
            raise
        except Exception as error:  # whatever a person's config file raises is theirs to mend
            raise ConfigError(f"{path}:{_line(error, path)}: {_reason(error)}") from error

    return get_config


def _line(error: Exception, path: Path) -> int:
    """Returns the last line of `path` that `error` passed through."""
    if isinstance(error, SyntaxError):
        return error.lineno or 0
    frames = traceback.extract_tb(error.__traceback__)
    return next(
        (frame.lineno or 0 for frame in reversed(frames) if Path(frame.filename).resolve() == path.resolve()),
        0,
    )


def _reason(error: Exception) -> str:
    """Returns what went wrong in one line; a locked ConfigDict already says "Did you mean"."""
    cause = error.args[0] if error.args and isinstance(error.args[0], Exception) else error
    text = " ".join(str(cause.args[0] if cause.args else cause).split())
    text = re.sub(r' Other fields present: ".*?"(?= |$)', ";", text)
    return f"{text or type(error).__name__}; `alljax study --settings` lists the keys"


def _setting(key: str) -> Setting:
    if key in SETTINGS:
        return SETTINGS[key]
    names = difflib.get_close_matches(key, SETTINGS, n=1, cutoff=0.5) or [
        known for known in SETTINGS if known.rpartition(".")[2] == key.rpartition(".")[2]
    ]
    mend = f"did you mean {names[0]}?" if names else "`alljax study --settings` lists the keys"
    raise ConfigError(f"unknown config key {key!r}; {mend}")


def _parse(key: str, setting: Setting, text: str) -> Any:
    """Reads a value from the command line as the setting's type."""
    try:
        if isinstance(setting.default, bool):
            return {"true": True, "false": False}[text.lower()]
        if isinstance(setting.default, tuple):
            return _tuple(text)
        return type(setting.default)(text)
    except (ValueError, KeyError, SyntaxError) as error:
        raise ConfigError(
            f"--config.{key}={text} is of the wrong type; it takes {_type_name(setting)} ({setting.help})"
        ) from error


def _tuple(text: str) -> tuple:
    """Reads ``a,b`` as two strings and ``(...)`` as a Python tuple."""
    if not text.startswith(("(", "[")):
        return tuple(part for part in text.split(",") if part)
    value = ast.literal_eval(text)
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _type_name(setting: Setting) -> str:
    names = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        tuple: "a list (a,b)",
    }
    return names[type(setting.default)]


def _value(config: ConfigDict, key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, tuple | list) else value


def _assign(config: ConfigDict, key: str, value: Any) -> None:
    *groups, name = key.split(".")
    for part in groups:
        config = config[part]
    config[name] = float(value) if isinstance(SETTINGS[key].default, float) else value
