"""Backbones, data sets, metrics and others from outside the package, which settings name as ``package.module:Name``."""

import contextlib
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alljax.errors import ConfigError, UserError

REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_reference(value: str) -> bool:
    """Returns whether a value has the form ``package.module:Name``."""
    return bool(REFERENCE.fullmatch(value))


@contextlib.contextmanager
def checked(setting: str, reference: str) -> Iterator[None]:
    """Turns what code from outside raises into a `ConfigError` of one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # it may raise anything
        reason = " ".join(str(error).split())
        raise ConfigError(f"{setting}={reference}: {type(error).__name__}: {reason:.300}") from error


def load(setting: str, reference: str) -> Any:
    """Returns what a reference names, in an installed package or in the current folder; `ConfigError` if it cannot."""
    if not is_reference(reference):
        raise ConfigError(f"{setting}={reference} is not of the form package.module:Name")
    module, _, name = reference.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    with checked(setting, reference):
        try:
            imported = importlib.import_module(module)
        except ModuleNotFoundError as error:
            fix = "install the package that has it, or run alljax in the folder that contains it"
            raise ConfigError(f"{setting}={reference}: no module {error.name!r}; {fix}") from error
        return getattr(imported, name)


def call(setting: str, reference: str, *arguments: Any) -> Any:
    """Returns the result of the function that a reference names."""
    function = load(setting, reference)
    if not callable(function):
        raise ConfigError(f"{setting}={reference}: is no function but of type {type(function).__name__}")
    with checked(setting, reference):
        return function(*arguments)
