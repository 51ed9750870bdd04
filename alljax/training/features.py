"""The backbone once: features of every image, kept under a hash of all that they depend on."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import alljax
from alljax import files
from alljax.data import augment
from alljax.data.pipeline import Source, batches
from alljax.models.head import pool
from alljax.progress import Advance
from alljax.training.network import Network

VIEWS = {"one": 1, "dihedral": augment.VIEWS}
"""How many views of an image the choices of ``features.views`` stand for; the first is the image itself."""


def make_extractor(network: Network) -> Callable[[Any, jax.Array], jax.Array]:
    """Returns a compiled function: variables, uint8 (B, S, S, 3) → float32 features (B, D)."""

    @jax.jit
    def extract(variables: Any, images: jax.Array) -> jax.Array:
        stages: Any = network.backbone.module.apply(variables, network.preprocessing(images), last=network.stage)
        return pool(stages[network.stage], network.pool)

    return extract


def compute_features(
    network: Network, source: Source, batch_size: int, advance: Advance, views: str, workers: int = 0
) -> np.ndarray:
    """Returns float32 (N, V, D): the views of each record, in the order of the records.

    Args:
        network: makes the features.
        source: the images at the network's size; each is read once, its views are made on the device.
        batch_size: images through the backbone at once.
        advance: told of each image.
        views: ``"one"``, the image as it is, or ``"dihedral"``, the eight of `augment.dihedral`.
        workers: processes that read and decode; 0 for threads.
    """
    extract, turn = make_extractor(network), jax.jit(jax.vmap(augment.dihedral, (0, None)))
    variables = jax.device_put(network.variables)
    size = network.preprocessing.image_size
    one_batch = jax.ShapeDtypeStruct((batch_size, size, size, 3), np.uint8)
    width = jax.eval_shape(extract, variables, one_batch).shape[1]
    # Filled in place: eight views of ten thousand images take most of a gigabyte.
    features, done = np.empty((len(source.labels), VIEWS[views], width), np.float32), 0
    for batch in batches(source, batch_size, workers):
        images, count = jnp.asarray(batch.images), int(batch.mask.sum())
        of_views = [extract(variables, turn(images, view)) for view in range(VIEWS[views])]
        features[done : done + count] = np.stack(of_views, 1)[batch.mask]
        done += count
        advance(count)
    return features


def features_key(network: Network, digests: tuple[str, ...], views: str) -> str:
    """Returns the hash of all that features depend on.

    The images' bytes and views, the backbone, its weights, the stage, the pooling, the preprocessing,
    the code that makes features of them, and the libraries and back end that round differently.
    """
    parts = {
        "images": digests,
        "views": views,
        "backbone": network.backbone.name,
        "weights": network.weights.sha256,
        "stage": network.stage,
        "pool": network.pool,
        "preprocessing": dataclasses.asdict(network.preprocessing),
        "code": _code_digest(),
        "versions": [importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax", "pillow")],
        "platform": jax.default_backend(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@functools.cache
def _code_digest() -> str:
    """Returns the hash of our own code between a file and its features: a mended bug there makes them anew."""
    package = Path(alljax.__file__).parent
    sources = [*package.glob("models/*.py"), *package.glob("weights/*.py"), Path(__file__)]
    sources += [
        package / "data" / name for name in ("augment.py", "images.py", "pipeline.py", "pixels.py", "resize.py")
    ]
    texts = [path.read_bytes() for path in sorted(sources)]
    return hashlib.sha256(b"".join(texts)).hexdigest()


def load_features(key: str, rows: int) -> np.ndarray | None:
    """Returns the stored features (rows, V, D), or None where there are none or they are damaged."""
    try:
        features = np.load(files.cache_dir() / "features" / f"{key}.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return features if features.ndim == 3 and len(features) == rows else None


def store_features(key: str, features: np.ndarray) -> None:
    """Keeps features (N, V, D) for the next run."""
    with files.atomic(files.cache_dir() / "features" / f"{key}.npy", "wb") as file:
        np.save(file, features)
