"""Limits on what is read into memory and kept on the disk, set by environment variables in GB."""

import contextlib
import os

from alljax.errors import ConfigError, DataError

DEFAULTS = {"ALLJAX_READ_GB": 4.0, "ALLJAX_CACHE_GB": 20.0}
"""Memory for what is read at once: an array, or images and members of zips in all threads; size of the cache folder."""

THREADS = 16
"""Maximal number of threads that read images; each may use an equal share of ALLJAX_READ_GB."""


def limit(variable: str) -> int:
    """Returns a limit in bytes: the value of an environment variable, else its default."""
    text = os.environ.get(variable) or str(DEFAULTS[variable])
    with contextlib.suppress(ValueError, OverflowError):
        if (size := int(float(text) * 1e9)) >= 0:
            return size
    raise ConfigError(f"{variable}={text!r} is no number of gigabytes; for example {variable}=10")


def check_size(what: str, size: int, threads: int = 1) -> None:
    """Raises `DataError` if `what` declares more bytes than may be read in each thread; called before allocating."""
    allowed = limit("ALLJAX_READ_GB") // threads
    if size > allowed:
        sizes = f"{size / 1e9:,.2f} GB of memory, more than {allowed / 1e9:,.2f} GB"
        shared = f", shared by {threads} threads" if threads > 1 else ""
        raise DataError(
            f"{what} needs {sizes} (ALLJAX_READ_GB={limit('ALLJAX_READ_GB') / 1e9:g}{shared}); replace or remove it"
        )
