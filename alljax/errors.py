"""Errors a person can mend.

The command line prints a `UserError` as one line and exits with code 2.  Any
other exception is a fault of ours and stays a traceback.
"""


class UserError(Exception):
    """What is wrong, where, and what to do about it, in one line."""


class Stopped(BaseException):
    """A run that was asked to stop and has saved itself; the same command goes on from there, exit code 0.

    As with `KeyboardInterrupt`, ``except Exception`` lets it pass: where a decoder is asked to stop, the image
    is not damaged.
    """


class ConfigError(UserError):
    """An unknown key, a value of the wrong type, or keys that contradict each other."""


class DataError(UserError):
    """A source, an image or a label that cannot be used as it is."""


class LeakError(DataError):
    """A protocol that would put one person on both sides of a split."""


class WeightsError(UserError):
    """A weight file that is missing, damaged, of another network or not to be trusted."""


class WorkdirError(UserError):
    """A working directory that cannot be written, or that holds another run."""
