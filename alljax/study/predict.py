"""New images through the heads of a finished study."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alljax import config as configs
from alljax.data import pipeline, tree
from alljax.data.records import Dataset, Record
from alljax.errors import DataError, WorkdirError
from alljax.models.head import Head
from alljax.progress import Say
from alljax.study import grid, workdir
from alljax.study.material import inspect_images
from alljax.study.run import cell_features
from alljax.training import checkpoint
from alljax.training.network import open_network


def predict(folder: Path, name: str, images: Sequence[Path], out: Path, say: Say) -> int:
    """Writes a CSV ``path, predicted, prob_<class>…`` for images outside the study.

    The probability is the mean over all heads of the cell, one a seed and fold.

    Args:
        folder: the working directory of a finished study.
        name: the cell whose heads are asked; empty for the one with the highest accuracy.
        images: image files, and folders that are searched for them.
        out: the file to write.
        say: prints a line.

    Returns:
        The number of images.

    Raises:
        WorkdirError: no finished study there, no such cell, or weights other than the study's.
        DataError: no image found, or one that cannot be read.
    """
    stored = workdir.read_json(folder / "config.json")
    results = workdir.read_json(folder / "metrics.json")["cells"]
    name = name or max(results, key=lambda cell: results[cell]["accuracy"])
    config = next((cell.config for cell in grid.cells(configs.unflatten(stored)) if cell.name == name), None)
    if config is None or name not in results:
        raise WorkdirError(f"{folder} has no cell {name!r}; it has {', '.join(results)}")
    network = open_network(config)
    if network.weights.sha256 != results[name]["weights"]["sha256"]:
        raise WorkdirError(
            f"{network.weights.path} is not the weight file the study {folder} used (SHA-256 differs); "
            "put the old one back or run the study again"
        )
    say(f"heads of {name}")
    dataset = _dataset(images, tuple(stored["data.classes"]))
    inspection = inspect_images(dataset, say)
    matrix = cell_features(network, dataset, inspection.digests, config, say)
    saved = checkpoint.load(folder / "cells" / name / "checkpoint")
    probabilities = mean_probabilities(saved, matrix, Head(config.model.hidden, len(dataset.classes)))
    header = ["path", "predicted", *(f"prob_{name}" for name in dataset.classes)]
    rows = (
        [record.path, dataset.classes[int(row.argmax())], *(f"{value:.9g}" for value in row)]
        for record, row in zip(dataset.records, probabilities, strict=True)
    )
    workdir.write_csv(out, header, rows)
    return len(dataset.records)


def mean_probabilities(saved: Any, matrix: np.ndarray, head: Head) -> np.ndarray:
    """Returns float32 (N, C): softmax outputs averaged over seeds and folds.

    Args:
        saved: what `checkpoint.load` gives: ``heads``, ``mean`` and ``scale``, one a fold.
        matrix: features (N, D).
        head: as it was trained.
    """

    @jax.jit
    @jax.vmap
    def of_seed(params: Any, mean: jax.Array, scale: jax.Array) -> jax.Array:
        logits = head.apply({"params": params}, (jnp.asarray(matrix) - mean[None]) * scale[None])
        return jax.nn.softmax(logits)

    each = []
    for params, mean, scale in zip(saved["heads"], saved["mean"], saved["scale"], strict=True):
        seeds = len(jax.tree.leaves(params)[0])
        each.append(of_seed(params, np.stack([mean] * seeds), np.stack([scale] * seeds)))
    return np.asarray(jnp.concatenate(each).mean(0))


def _dataset(images: Sequence[Path], classes: tuple[str, ...]) -> Dataset:
    paths: list[Path] = []
    for image in images:
        if image.is_dir():
            found = [image / path for path in tree.open_tree(image).images()]
            if not found:
                raise DataError(f"{image}: no image in this folder")
            paths += found
        elif image.is_file():
            paths.append(image)
        else:
            raise DataError(f"{image}: no such file or folder")
    if twice := [path for path, count in Counter(paths).items() if count > 1]:
        raise DataError(f"{twice[0]} is named twice; name each image once")
    records = tuple(Record(path.as_posix(), label=-1) for path in paths)
    return Dataset("images", classes, records, read=lambda record: Path(record.path).read_bytes())
