"""Trees of arrays on disk, written by Orbax and verified against the ``checksums.json`` beside them."""

import contextlib
import copy
import json
import logging as stdlib_logging
import os
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils

from alljax.errors import WorkdirError, first_few
from alljax.files import sha256, write_text

CHECKSUMS = "checksums.json"
"""The SHA-256 of each file by its path relative to the folder of this file."""


def save(folder: Path, tree: Any) -> None:
    """Writes a tree of NumPy arrays, which is equal in all processes; `folder` appears when it is complete.

    Raises:
        WorkdirError: the folder cannot be written.
    """
    with _write_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)  # Orbax waits for minutes for a folder it cannot create
        _orbax().save(folder.resolve(), jax.tree.map(np.asarray, tree), overwrite=True)
        _record_checksums(folder)
        multihost_utils.sync_global_devices(f"{folder} is saved")  # all processes may read it now


def load(folder: Path) -> Any:
    """Returns the tree of NumPy arrays in `folder`.

    Raises:
        WorkdirError: the folder does not exist or is damaged.
    """
    if not folder.is_dir():
        raise WorkdirError(f"{folder}: no checkpoint; run `alljax study` (or `alljax train`) with this workdir first")
    with _read_errors(folder):
        if _recorded(folder) != _computed(folder):  # Orbax does not detect all damage
            raise ValueError("checksums differ")
        return _orbax().load(folder.resolve())


def is_saved(folder: Path) -> bool:
    """Returns whether `save` has completed: the checksums are written last."""
    return bool(_recorded(folder))


class CheckpointManager:
    """The checkpoints of one training run, ``folder/STEP``, written in the background.

    A checkpoint appears when it is complete; older ones are removed after that.
    """

    def __init__(self, folder: Path, keep_latest: int, keep_best: int, abstract: Any, note: str = "") -> None:
        """Creates the folder if necessary; removes incomplete and damaged checkpoints.

        Args:
            folder: of this run only.
            keep_latest: number of newest checkpoints that are kept.
            keep_best: number of checkpoints with the lowest ``loss`` that are kept; of equal ones the earlier.
            abstract: the state's shapes, types and placements (`JitMesh.abstract`).
            note: what else must be equal in a run that resumes from these checkpoints.

        Raises:
            WorkdirError: the folder cannot be created or read.
        """
        self.folder, self._abstract = folder.resolve(), abstract
        named = jax.tree.leaves_with_path(abstract)
        self._layout = [note, *(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}" for path, leaf in named)]
        with _write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            for step in self.folder.iterdir() if jax.process_index() == 0 else ():
                if step.name.isdecimal() and _recorded(step) not in ({}, _computed(step)):
                    logging.info(f"{step}: damaged checkpoint, removed")
                    shutil.rmtree(step)
            multihost_utils.sync_global_devices("damaged checkpoints are removed")
            training = _orbax().training
            policies = training.preservation_policies
            best = policies.BestN(
                get_metric_fn=lambda metrics: (-metrics["loss"], -metrics["step"]),
                n=keep_best,
                keep_checkpoints_without_metrics=False,
            )
            self._orbax = training.Checkpointer(
                self.folder,
                save_decision_policy=training.save_decision_policies.FixedIntervalPolicy(1),
                preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep_latest), best]),
                cleanup_tmp_directories=True,
            )
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    def save(self, step: int, state: Any, record: dict[str, Any], loss: float | None = None) -> None:
        """Starts to write a checkpoint, after the previous one is complete.

        Args:
            step: number of optimizer steps done.
            state: arrays like `abstract`; they may be donated after this call.
            record: what else is needed to resume, JSON.
            loss: of the validation rows, if it was computed at this step.

        Raises:
            WorkdirError: this checkpoint or the previous one cannot be written.
        """
        self.wait()
        tree = {f"{number:05d}": leaf for number, leaf in enumerate(jax.tree.leaves(state))}
        with _write_errors(self.folder / str(step)):
            response = self._orbax.save_checkpointables_async(
                step,
                {"state": tree},
                metrics=None if loss is None else {"loss": loss, "step": step},
                custom_metadata=copy.deepcopy(record) | {"layout": self._layout},
            )
        self._pending = self._writer.submit(self._finish, self.folder / str(step), response)

    def wait(self) -> None:
        """Waits until the checkpoint in progress is complete.

        Raises:
            WorkdirError: it cannot be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Waits like `wait`, then releases all resources."""
        try:
            self.wait()
        finally:
            self._writer.shutdown()
            with contextlib.suppress(OSError, ValueError, RuntimeError):  # `wait` has raised it
                self._orbax.close()

    @property
    def latest(self) -> int:
        """The newest step that was saved; 0 if none was."""
        return self._orbax.latest.step if self._orbax.latest else 0

    def load(self, step: int) -> tuple[Any, dict[str, Any]]:
        """Returns the state at a step, placed as described by `abstract`, and its record.

        Raises:
            WorkdirError: no such checkpoint, or one of another network, optimizer or number of steps per epoch.
        """
        folder = self.folder / str(step)
        leaves, structure = jax.tree.flatten(self._abstract)
        if not folder.is_dir():
            raise WorkdirError(f"{folder}: this checkpoint does not exist; remove {self.folder} to restart this run")
        with _read_errors(folder):
            record = self._orbax.metadata(step).custom_metadata
            if different := sorted({*self._layout} ^ {*record.get("layout", [])}):
                raise WorkdirError(
                    f"{folder} does not fit this config (only one of them has: {first_few(different)}); undo the "
                    f"change of the config, or remove {self.folder} to restart this run"
                )
            abstract = {f"{number:05d}": leaf for number, leaf in enumerate(leaves)}
            tree = self._orbax.load_checkpointables(step, {"state": abstract})["state"]
        return jax.tree.unflatten(structure, [tree[name] for name in sorted(tree)]), record

    def _finish(self, folder: Path, response: Any) -> None:
        with _write_errors(folder):
            response.result()
            _record_checksums(folder)


def _record_checksums(folder: Path) -> None:
    """Adds the files in `folder` to the checksums, and removes files that no longer exist."""
    if jax.process_index() == 0:
        kept = {name: value for name, value in _read(folder.parent).items() if (folder.parent / name).exists()}
        write_text(folder.parent / CHECKSUMS, json.dumps(kept | _computed(folder), indent=1, sort_keys=True) + "\n")


def _recorded(folder: Path) -> dict[str, str]:
    return {name: value for name, value in _read(folder.parent).items() if Path(name).parts[0] == folder.name}


def _read(folder: Path) -> dict[str, str]:
    try:
        return json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _computed(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder.parent).as_posix(): sha256(path) for path in files}


def _orbax() -> Any:
    """Returns Orbax; a failed save, which also raises, would log a thousand lines, some of them through asyncio."""
    from orbax.checkpoint import v1

    for name in ("absl", "asyncio"):
        stdlib_logging.getLogger(name).addFilter(_is_not_orbax)
    return v1


def _is_not_orbax(record: stdlib_logging.LogRecord) -> bool:
    return "/orbax/" not in record.pathname + record.getMessage()


@contextlib.contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        code = re.search(r"os_error_code='(\d+)'", str(error))  # in a page of text by TensorStore
        number = int(code[1]) if code else getattr(error, "errno", None)
        reason = os.strerror(number) if number else " ".join(str(error).split())[:200]
        message = f"cannot write the checkpoint {folder}: {reason}; free some space or change the folder's permissions"
        raise WorkdirError(message) from error


@contextlib.contextmanager
def _read_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        message = f"{folder}: damaged checkpoint; remove {folder.parent} and run the study again"
        raise WorkdirError(message) from error
