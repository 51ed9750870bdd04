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
from alljax.data import pipeline
from alljax.data.records import Dataset
from alljax.models.head import pool
from alljax.progress import Advance
from alljax.training.network import Network


def make_extractor(network: Network) -> Callable[[Any, jax.Array], jax.Array]:
    """Returns a compiled function: variables, uint8 (B, S, S, 3) → float32 features (B, D)."""

    @jax.jit
    def extract(variables: Any, images: jax.Array) -> jax.Array:
        stages: Any = network.backbone.module.apply(variables, network.preprocessing(images), last=network.stage)
        return pool(stages[network.stage], network.pool)

    return extract


def compute_features(network: Network, dataset: Dataset, batch_size: int, advance: Advance) -> np.ndarray:
    """Returns float32 (N, D): one row a record, in the order of the records."""
    extract = make_extractor(network)
    variables = jax.device_put(network.variables)
    rows = []
    size, interpolation = network.preprocessing.image_size, network.preprocessing.interpolation
    for batch in pipeline.batches(dataset, size, interpolation, batch_size):
        features = np.asarray(extract(variables, jnp.asarray(batch.images)))[batch.mask]
        rows.append(features)
        advance(len(features))
    return np.concatenate(rows)


def features_key(network: Network, digests: tuple[str, ...]) -> str:
    """Returns the hash of all that features depend on.

    The images' bytes, the backbone, its weights, the stage, the pooling, the preprocessing, the
    code that makes features of them, and the libraries and back end that round differently.
    """
    parts = {
        "images": digests,
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
    sources = [*package.glob("models/*.py"), *package.glob("weights/*.py"), package / "data/pipeline.py"]
    texts = [path.read_bytes() for path in sorted([*sources, Path(__file__)])]
    return hashlib.sha256(b"".join(texts)).hexdigest()


def load_features(key: str, rows: int) -> np.ndarray | None:
    """Returns the stored features (rows, D), or None where there are none or they are damaged."""
    try:
        features = np.load(files.cache_dir() / "features" / f"{key}.npy", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return features if features.ndim == 2 and len(features) == rows else None


def store_features(key: str, features: np.ndarray) -> None:
    """Keeps features (N, D) for the next run."""
    with files.atomic(files.cache_dir() / "features" / f"{key}.npy", "wb") as file:
        np.save(file, features)
