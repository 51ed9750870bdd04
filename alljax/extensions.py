"""Backbones, data sets and metrics from outside the package, which settings name as ``package.module:Name``."""

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
def loaded(setting: str, reference: str) -> Iterator[Any]:
    """Gives what a reference names, in an installed package or in the current folder; its errors become one line."""
    module, _, name = reference.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        if not is_reference(reference):
            raise ConfigError(f"{setting}={reference} is not of the form package.module:Name")
        yield getattr(importlib.import_module(module), name)
    except UserError:
        raise
    except Exception as error:  # code from outside may raise anything
        missing = isinstance(error, ModuleNotFoundError)
        fix = "; install its package, or run alljax in the folder that contains it" if missing else ""
        reason = f"{type(error).__name__}: {' '.join(str(error).split()):.300}{fix}"
        raise ConfigError(f"{setting}={reference}: {reason}") from error
