"""The checkpoints of a training run, written by Orbax in the background; parameters of finished runs as .npz files."""

import contextlib
import functools
import hashlib
import json
import logging
import os
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from alljax.data.archive import read_arrays
from alljax.errors import WorkdirError, first_few
from alljax.files import atomic_write, write_errors


def save_arrays(path: Path, tree: Any) -> None:
    """Writes nested dictionaries of arrays as an .npz whose names are "/"-joined; only one process calls this."""
    with atomic_write(path) as file:
        np.savez(file, **flatten_dict(tree, sep="/"))


def load_arrays(path: Path, shapes: Mapping[str, tuple[int, ...]] | None = None) -> dict[str, Any]:
    """Returns what `save_arrays` wrote, without empty dictionaries; other arrays than in `shapes` are refused."""
    with _read_errors(path):
        return unflatten_dict(read_arrays(path, shapes=shapes), sep="/")


class CheckpointManager:
    """The checkpoints of one training run, ``folder/STEP``; each appears when it is complete."""

    def __init__(self, folder: Path, train: ConfigDict, abstract: Any, note: str = "") -> None:
        """Creates the folder; `abstract` is from `Mesh.abstract`, `note` what else must be equal in a resumed run."""
        self.folder, self._abstract = folder.resolve(), abstract
        named = jax.tree.leaves_with_path(abstract)
        self._layout = [note, *(f"{jax.tree_util.keystr(path)} {leaf.dtype} {leaf.shape}" for path, leaf in named)]
        with _write_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with _read_errors(self.folder):
            training = _orbax().training
            policies = training.preservation_policies
            best = policies.BestN(
                get_metric_fn=lambda metrics: (-metrics["loss"], -metrics["step"]),
                n=train.keep_best,
                keep_checkpoints_without_metrics=False,
            )
            kept = policies.AnyPreservationPolicy([policies.LatestN(train.keep_latest), best])
            self._orbax = training.Checkpointer(self.folder, preservation_policy=kept, cleanup_tmp_directories=True)
        self._wait: Callable[[], Any] = lambda: None

    def save(self, step: int, state: Any, record: dict[str, Any], loss: float | None = None) -> None:
        """Starts to write a checkpoint when the previous one is complete; `loss` is the validation loss, if known."""
        self.wait()
        with _write_errors(self.folder), jax.transfer_guard("allow"):  # Orbax copies arrays of a GPU implicitly
            leaves = jax.tree.leaves(state)
            metrics = None if loss is None else {"loss": loss, "step": step}
            metadata = record | {"layout": self._layout, "digest": _digest(leaves, record)}
            response = self._orbax.save_async(step, leaves, force=True, metrics=metrics, custom_metadata=metadata)
        self._wait = response.result

    def wait(self) -> None:
        """Waits until the checkpoint in progress is complete; raises `WorkdirError` if it cannot be written."""
        with _write_errors(self.folder):
            self._wait()

    def close(self) -> None:
        """Waits like `wait`, then releases all resources."""
        with _write_errors(self.folder):
            self._orbax.close()

    @property
    def latest(self) -> int:
        """The newest step that was saved; 0 if none was."""
        return self._orbax.latest.step if self._orbax.latest else 0

    def load(self, step: int) -> tuple[Any, dict[str, Any]]:
        """Returns the state at a step, placed as described by `abstract`, and its record."""
        folder = self.folder / str(step)
        leaves, structure = jax.tree.flatten(self._abstract)
        with _read_errors(folder):
            record = dict(self._orbax.metadata(step).custom_metadata)
            digest = record.pop("digest")
            if different := sorted({*self._layout} ^ {*record.pop("layout")}):
                fix = f"undo the change of the config, or remove {self.folder} to restart this run"
                raise WorkdirError(f"{folder} does not fit this config ({first_few(different)} differ); {fix}")
            leaves = self._orbax.load(step, leaves)
            if _digest(leaves, record) != digest:
                raise ValueError("not the values that were saved")
            return jax.tree.unflatten(structure, leaves), record


def _digest(leaves: list[Any], record: Any) -> str:
    """Returns a hash of what is saved: Orbax does not notice changed bits in arrays and records."""
    sums = [int(value) for value in jax.device_get(_sum_bytes(leaves))]
    return hashlib.sha256(json.dumps([sums, record], sort_keys=True).encode()).hexdigest()


@jax.jit
def _sum_bytes(leaves: list[Any]) -> list[jax.Array]:
    """Returns the sum of the bytes of each array, over all its shards."""
    return [jnp.sum(jax.lax.bitcast_convert_type(leaf, jnp.uint8), dtype=jnp.uint32) for leaf in leaves]


@functools.cache
def _orbax() -> Any:
    """Returns Orbax; a failed save, which also raises, would log a thousand lines, some of them through asyncio."""
    from orbax.checkpoint import v1

    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(lambda record: "/orbax/" not in record.pathname + record.getMessage())
    # TensorStore reports arrays that were still being written when the first failed.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited")
    report = sys.unraisablehook
    sys.unraisablehook = lambda failure: None if str(failure.exc_value) == "Event loop is closed" else report(failure)
    return v1


@contextlib.contextmanager
def _write_errors(folder: Path) -> Iterator[None]:
    with write_errors(folder):
        try:
            yield
        except jax.errors.JaxRuntimeError:  # another process was lost
            raise
        except (OSError, ValueError, RuntimeError) as error:
            code = re.search(r"os_error_code='(\d+)'", str(error))  # in a page of text by TensorStore
            number = int(code[1]) if code else getattr(error, "errno", None)
            reason = (number, os.strerror(number)) if number else (" ".join(str(error).split())[:200],)
            raise OSError(*reason) from error


@contextlib.contextmanager
def _read_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise WorkdirError(f"{folder} is damaged; remove it and run the same command again") from error
