"""All contact with Orbax: trees of arrays to a folder and back, with checksums."""

import contextlib
import copy
import functools
import logging as stdlib_logging
import os
import re
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from alljax.errors import WorkdirError
from alljax.files import sha256, write_text


def save(folder: Path, tree: Any) -> None:
    """Writes a tree of arrays; `folder` appears when it is complete.

    Several processes call it together, with the same tree.  Beside it stands ``NAME.sha256``, the checksums
    of its files as sha256sum writes them.

    Raises:
        WorkdirError: the place cannot be written.
    """
    _hush()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)  # Orbax would wait minutes for a place it cannot make
        ocp.save(folder.resolve(), jax.tree.map(np.asarray, tree), overwrite=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unwritable(folder, error) from error
    if jax.process_index() == 0:
        _seal(folder)


def load(folder: Path) -> Any:
    """Returns the tree of NumPy arrays in `folder`.

    The checksums are compared first: Orbax does not notice every damage, and what it does notice
    it tells in several tracebacks.

    Raises:
        WorkdirError: no checkpoint there, or a damaged one.
    """
    if not folder.is_dir():
        raise WorkdirError(f"{folder}: no checkpoint; run `alljax study` (or `alljax train`) with this workdir first")
    try:
        if _sealed(folder):
            return ocp.load(folder.resolve())
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(folder) from error
    raise _damaged(folder)


class Saved(NamedTuple):
    """One checkpoint of a run.

    Attributes:
        step: optimizer steps done.
        leaves: the state's arrays, NumPy, in the order of `jax.tree.leaves`.
        record: what else was told of it, JSON.
    """

    step: int
    leaves: list[np.ndarray]
    record: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run: ``folder/STEP`` with ``folder/STEP.sha256``, written in the background.

    A checkpoint counts when its checksums stand beside it, which is the last thing written; only then are
    those removed that need not be kept, so that at any moment a whole one is there.
    """

    def __init__(self, folder: Path, keep_latest: int, keep_best: int, layout: Sequence[str]) -> None:
        """Opens or makes the folder; removes damaged and unfinished checkpoints and says which.

        Args:
            folder: of this run alone.
            keep_latest: newest checkpoints kept.
            keep_best: checkpoints kept besides, of the lowest ``loss``; of equals the earlier.
            layout: a line for each array of the state, and what else a checkpoint must have in common with this run.

        Raises:
            WorkdirError: it cannot be made or read.
        """
        _hush()
        self.folder, self._layout = folder.resolve(), list(layout)
        self._keep_latest, self._keep_best = keep_latest, keep_best
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if jax.process_index() == 0:
                _remove_damaged(self.folder)
            multihost_utils.sync_global_devices("checkpoints are looked through")
            always = ocp.training.save_decision_policies.FixedIntervalPolicy(1)
            self._orbax = ocp.training.Checkpointer(
                self.folder, save_decision_policy=always, cleanup_tmp_directories=True
            )
        except (OSError, ValueError) as error:
            raise _unwritable(self.folder, error) from error
        self._opened = contextlib.ExitStack()
        self._opened.enter_context(contextlib.suppress(OSError, ValueError, RuntimeError))  # `wait` has raised it
        self._opened.callback(self._orbax.close)
        self._writer = self._opened.enter_context(ThreadPoolExecutor(1, thread_name_prefix="checkpoint"))
        self._writing: Future[None] | None = None

    def save(self, step: int, leaves: Sequence[np.ndarray], record: dict[str, Any], loss: float | None = None) -> None:
        """Begins to write a checkpoint, after the one before is written.

        Args:
            step: optimizer steps done.
            leaves: the state's arrays, one a line of the layout that names an array.
            record: what else is needed to go on, JSON.
            loss: of the validation cells, where it was computed at this step.

        Raises:
            WorkdirError: this one or the one before cannot be written.
        """
        self.wait()
        record = copy.deepcopy(record) | {"layout": self._layout}
        tree = {"state": {f"{number:05d}": np.asarray(leaf) for number, leaf in enumerate(leaves)}}
        metrics = None if loss is None else {"loss": loss}
        try:
            response = self._orbax.save_checkpointables_async(step, tree, metrics=metrics, custom_metadata=record)
        except (OSError, ValueError, RuntimeError) as error:
            raise _unwritable(self.folder / str(step), error) from error
        self._writing = self._writer.submit(self._finish, step, response)

    def check(self) -> None:
        """Raises what went wrong in the background; returns at once.

        Raises:
            WorkdirError: a checkpoint cannot be written.
        """
        if self._writing is not None and self._writing.done():
            self._writing.result()

    def wait(self) -> None:
        """Waits until the checkpoint on its way is written, and removes those that need not be kept.

        Raises:
            WorkdirError: it cannot be written.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()
            try:
                self._prune()
            except OSError as error:
                raise _unwritable(self.folder, error) from error

    def close(self) -> None:
        """Waits as `wait` does, and ends the background thread."""
        with self._opened:
            self.wait()

    @property
    def latest(self) -> int | None:
        """The newest step that was saved; None where none was."""
        return self._orbax.latest.step if self._orbax.latest else None

    def load(self, step: int) -> Saved:
        """Returns the checkpoint of a step.

        Raises:
            WorkdirError: there is none, or it is of another network, optimizer or number of steps an epoch.
        """
        folder = self.folder / str(step)
        if not folder.is_dir():
            raise WorkdirError(f"{folder}: this checkpoint is gone; remove {self.folder} to begin this run anew")
        try:
            record = self._orbax.metadata(step).custom_metadata
        except (OSError, ValueError) as error:
            raise _damaged(folder) from error
        if (stored := record.get("layout", [])) != self._layout:
            other = sorted({*self._layout} ^ {*stored})
            raise WorkdirError(
                f"{folder} does not fit this config (on one side only: {', '.join(other[:1])}; {len(other)} in all); "
                f"take back what was changed, or remove {self.folder} to begin this run anew"
            )
        try:
            tree = self._orbax.load_checkpointables(step)["state"]  # told of a type, Orbax would convert to it
        except (OSError, ValueError, KeyError) as error:
            raise _damaged(folder) from error
        return Saved(step, [np.asarray(tree[name]) for name in sorted(tree)], record)

    def _finish(self, step: int, response: Any) -> None:
        folder = self.folder / str(step)
        try:
            response.result()
            if jax.process_index() == 0:
                _seal(folder)
        except (OSError, ValueError, RuntimeError) as error:
            raise _unwritable(folder, error) from error

    def _prune(self) -> None:
        written = self._orbax.checkpoints
        kept = {each.step for each in written[-self._keep_latest :]}
        losses = sorted((each.metrics["loss"], each.step) for each in written if each.metrics)
        kept |= {step for _, step in losses[: self._keep_best]}
        for each in written:
            if each.step not in kept:
                _checksums(self.folder / str(each.step)).unlink(missing_ok=True)
                self._orbax.delete(each.step)


def _remove_damaged(folder: Path) -> None:
    for step in (each for each in folder.iterdir() if each.name.isdecimal() and each.is_dir()):
        if not _sealed(step):
            logging.info(f"{step}: {'damaged' if _checksums(step).exists() else 'unfinished'} checkpoint, removed")
            _checksums(step).unlink(missing_ok=True)
            shutil.rmtree(step)


def _checksums(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.sha256")


def _seal(folder: Path) -> None:
    write_text(_checksums(folder), _listed(folder))


def _sealed(folder: Path) -> bool:
    try:
        return _checksums(folder).read_bytes() == _listed(folder).encode()
    except FileNotFoundError:
        return False


def _listed(folder: Path) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in _digests(folder).items())


def _digests(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file below `folder` by its path from the folder that holds it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder.parent).as_posix(): sha256(path) for path in files}


@functools.cache
def _hush() -> None:
    """Keeps back, from now on, what Orbax and tensorstore print of a failed save: a thousand lines, ours among them.

    tensorstore's come from its own threads, some of them after the failure was told; asyncio's from the writes
    that failed beside the one that was told.
    """
    for name in ("absl", "asyncio"):
        stdlib_logging.getLogger(name).setLevel(stdlib_logging.CRITICAL)
    hook = sys.unraisablehook

    def heard(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    sys.unraisablehook = heard


def _unwritable(folder: Path, error: Exception) -> WorkdirError:
    told = re.search(r"os_error_code='(\d+)'", str(error))  # tensorstore tells a full disk on a page
    number = int(told[1]) if told else getattr(error, "errno", None)
    reason = os.strerror(number) if number else " ".join(str(error).split())[:200]
    return WorkdirError(f"cannot write the checkpoint {folder}: {reason}; free space or mend the folder")


def _damaged(folder: Path) -> WorkdirError:
    return WorkdirError(f"{folder}: damaged checkpoint; remove {folder.parent} and run the study again")
