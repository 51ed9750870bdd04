"""Errors that a user can fix, printed as one line with exit code 2, and helpers for their messages."""

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator


class UserError(Exception):
    """One line: what is wrong, where, and how to fix it."""


class ConfigError(UserError):
    """An unknown setting, a value of the wrong type, or settings that contradict each other."""


class DataError(UserError):
    """A data source, an image or a label that cannot be used."""


class LeakError(DataError):
    """A protocol that would put one subject on both sides of a split."""


class WeightsError(UserError):
    """A weight file that is missing, damaged, for another network or not safe to read."""


class MissingWeightsError(WeightsError):
    """Weights that are not on this machine, and how to get them."""


class WorkdirError(UserError):
    """An output file or folder that cannot be written, or that belongs to another run."""


class Stopped(BaseException):
    """A signal ended the run after its progress was saved; passes ``except Exception``, as `KeyboardInterrupt` does."""


class Problems:
    """Collects user errors, so that all of them are reported together."""

    def __init__(self) -> None:
        self.errors: list[UserError] = []

    @contextlib.contextmanager
    def collect(self) -> Iterator[None]:
        """Keeps a `UserError` of the block instead of raising it."""
        try:
            yield
        except UserError as error:
            if str(error) not in map(str, self.errors):
                self.errors.append(error)

    def report(self) -> None:
        """Raises what was collected: the only error, or one error with a line per problem."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise UserError("\n  ".join([f"{len(self.errors)} problems:", *map(str, self.errors)]))


def printable(text: object) -> str:
    r"""Returns a text whose control characters are escapes such as ``\x1b``, except line breaks."""
    unsafe = r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
    return re.sub(unsafe, lambda match: match[0].encode("unicode_escape").decode(), str(text))


def plural(number: int, noun: str) -> str:
    """Returns ``1 image`` or ``2,000 images``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def first_few(names: Iterable[str]) -> str:
    """Returns the first five names and the number of further ones."""
    names = list(names)
    rest = f" and {len(names) - 5:,} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + rest


def unknown_name(kind: str, name: str, known: Iterable[str], help: str = "") -> str:
    """Returns a message for a name that does not exist, with the nearest existing one, or `help`, or all names."""
    fix, known = help, list(known)
    if near := difflib.get_close_matches(name, known, n=1, cutoff=0.5):
        fix = f"did you mean {near[0]!r}?"
    return f"unknown {kind} {name!r}: {fix or 'choose from ' + ', '.join(known)}"
