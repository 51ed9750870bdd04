"""Backbones, data sets, metrics and classifiers from outside the package, which settings name as ``module:Name``."""

import contextlib
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alljax.errors import ConfigError, UserError


def is_reference(value: str) -> bool:
    """Returns whether a value has the form ``package.module:Name``."""
    return bool(re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", value))


@contextlib.contextmanager
def checked(setting: str, reference: str) -> Iterator[None]:
    """Turns what code from outside raises into a `ConfigError` of one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # it may raise anything
        missing = isinstance(error, ModuleNotFoundError)
        fix = "; install its package, or run alljax in the folder that contains it" if missing else ""
        reason = f"{type(error).__name__}: {' '.join(str(error).split()):.300}{fix}"
        raise ConfigError(f"{setting}={reference}: {reason}") from error


def load(setting: str, reference: str) -> Any:
    """Returns what a reference names, in an installed package or in the current folder."""
    if not is_reference(reference):
        raise ConfigError(f"{setting}={reference} is not of the form package.module:Name")
    module, _, name = reference.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    with checked(setting, reference):
        return getattr(importlib.import_module(module), name)


def call(setting: str, reference: str, *arguments: Any) -> Any:
    """Returns the result of the function that a reference names."""
    with checked(setting, reference):
        return load(setting, reference)(*arguments)
