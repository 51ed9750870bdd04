"""All contact with Orbax: trees of arrays to a folder and back, with checksums."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from alljax.errors import WorkdirError
from alljax.files import file_digest, write_text
from alljax.progress import Say


def save(folder: Path, tree: Any) -> None:
    """Writes a tree of arrays; `folder` appears when it is complete.

    Beside it stands ``NAME.sha256``, the checksums of its files as sha256sum writes them.

    Raises:
        WorkdirError: the place cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)  # Orbax would wait minutes for a place it cannot make
        ocp.save(folder.resolve(), jax.tree.map(np.asarray, tree), overwrite=True)
    except (OSError, ValueError) as error:
        raise _unwritable(folder, error) from error
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

    A checkpoint counts when its checksums stand beside it, which is the last thing written.
    """

    def __init__(self, folder: Path, keep_latest: int, keep_best: int) -> None:
        """Opens or makes the folder.

        Args:
            folder: of this run alone.
            keep_latest: newest checkpoints kept.
            keep_best: checkpoints kept besides, of the lowest ``loss``.

        Raises:
            WorkdirError: it cannot be made.
        """
        policies = ocp.training.preservation_policies
        kept = [policies.LatestN(keep_latest)]
        if keep_best:
            lowest = policies.BestN(
                get_metric_fn=lambda metrics: metrics["loss"],
                reverse=True,
                n=keep_best,
                keep_checkpoints_without_metrics=False,
            )
            kept.append(lowest)
        self.folder = folder.resolve()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._orbax = ocp.training.Checkpointer(
                self.folder,
                save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
                preservation_policy=policies.AnyPreservationPolicy(kept),
                cleanup_tmp_directories=True,
            )
        except (OSError, ValueError) as error:
            raise _unwritable(self.folder, error) from error
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def save(self, step: int, leaves: list[np.ndarray], record: dict[str, Any], loss: float | None = None) -> None:
        """Begins to write a checkpoint, after the one before is written.

        Args:
            step: optimizer steps done.
            leaves: the state's arrays.
            record: what else is needed to go on, JSON.
            loss: of the validation cells, where it was computed at this step.

        Raises:
            WorkdirError: this one or the one before cannot be written.
        """
        self.wait()
        record = record | {"leaves": len(leaves)}
        tree = {"state": {f"{number:05d}": np.asarray(leaf) for number, leaf in enumerate(leaves)}}
        metrics = None if loss is None else {"loss": loss}
        try:
            response = self._orbax.save_checkpointables_async(
                step, tree, metrics=metrics, custom_metadata=record, overwrite=True
            )
        except (OSError, ValueError) as error:
            raise _unwritable(self.folder / str(step), error) from error
        self._writing = self._writer.submit(self._finish, step, response)

    def check(self) -> None:
        """Raises what went wrong in the background; returns at once.

        Raises:
            WorkdirError: a checkpoint cannot be written.
        """
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Waits until the checkpoint on its way is written.

        Raises:
            WorkdirError: it cannot be written.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def close(self) -> None:
        """Waits as `wait` does, and ends the background thread."""
        try:
            self.wait()
        finally:
            self._writer.shutdown()
            self._orbax.close()

    def newest(self, say: Say) -> Saved | None:
        """Returns the newest checkpoint that is whole, or None; says which damaged ones it passed over."""
        for metadata in sorted(self._orbax.checkpoints, key=lambda each: each.step, reverse=True):
            if (saved := self._load(metadata.step)) is not None:
                return saved
            say(f"{self.folder / str(metadata.step)}: damaged or unfinished checkpoint, the one before is used")
        return None

    @property
    def latest(self) -> int | None:
        """The newest step that was saved; None where none was."""
        return self._orbax.latest.step if self._orbax.latest else None

    def load(self, step: int) -> Saved:
        """Returns the checkpoint of a step.

        Raises:
            WorkdirError: there is none, or it is damaged.
        """
        if (saved := self._load(step)) is None:
            raise _damaged(self.folder / str(step))
        return saved

    def _load(self, step: int) -> Saved | None:
        folder = self.folder / str(step)
        try:
            if not _sealed(folder):
                return None
            record = self._orbax.metadata(step).custom_metadata
            count = record["leaves"]
            wanted = {f"{number:05d}": np.empty(()) for number in range(count)}
            tree = self._orbax.load_checkpointables(step, {"state": wanted})["state"]
        except (OSError, ValueError, KeyError):
            return None
        return Saved(step, [np.asarray(tree[name]) for name in sorted(tree)], record)

    def _finish(self, step: int, response: Any) -> None:
        folder = self.folder / str(step)
        try:
            response.result()
            if jax.process_index() == 0:
                _seal(folder)
                for checksums in self.folder.glob("*.sha256"):
                    if not checksums.with_suffix("").is_dir():
                        checksums.unlink()
        except (OSError, ValueError, RuntimeError) as error:
            raise _unwritable(folder, error) from error


def _checksums(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.sha256")


def _seal(folder: Path) -> None:
    write_text(_checksums(folder), "".join(f"{digest}  {name}\n" for name, digest in _digests(folder).items()))


def _sealed(folder: Path) -> bool:
    lines = _checksums(folder).read_text(encoding="utf-8").splitlines()
    return [f"{digest}  {name}" for name, digest in _digests(folder).items()] == lines


def _digests(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file below `folder` by its path from the folder that holds it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder.parent).as_posix(): file_digest(path) for path in files}


def _unwritable(folder: Path, error: Exception) -> WorkdirError:
    reason = str(error).partition("[")[0].strip()[:200]  # tensorstore tells a full disk on a page
    return WorkdirError(f"cannot write the checkpoint {folder}: {reason}; free space or mend the folder")


def _damaged(folder: Path) -> WorkdirError:
    return WorkdirError(f"{folder}: damaged checkpoint; remove {folder.parent} and run the study again")
