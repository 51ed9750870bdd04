"""The features of a study: each network's once, kept on disk, all stages and poolings of it in one pass."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from alljax import files, interrupts, progress
from alljax.data import decoded_cache
from alljax.data.loader import ImageSource
from alljax.errors import ConfigError, WorkdirError
from alljax.progress import Update
from alljax.study.sources import Sources
from alljax.training import feature_extraction
from alljax.training.network import Network, open_network


class Features:
    """Gives the features of a study's networks, computed when they are first asked for."""

    def __init__(
        self, config: ConfigDict, wanted: Iterable[tuple[Network, str]], digests: tuple[str, ...], sources: Sources,
    ) -> None:  # fmt: skip
        """Computes nothing yet.

        Args:
            config: ``features`` and ``data.workers`` are read.
            wanted: the networks of all cells, each with its ``features.augment``.
            digests: of the images.
            sources: gives the images.
        """
        self._config, self._digests, self._sources = config, digests, sources
        self._wanted = {self.key(network, views): (network, views) for network, views in wanted}
        self._opened: dict[str, np.ndarray] = {}
        self._told: set[str] = set()
        self._placed: tuple[np.ndarray | None, jax.Array | None] = None, None

    def key(self, network: Network, views: str) -> str:
        """Returns what these features are kept under."""
        return feature_extraction.features_key(network, self._digests, views)

    def of(self, network: Network, views: str) -> np.ndarray:
        """Returns float32 (N, V, D), V views of each image; it stays on disk until it is read.

        Raises:
            ConfigError: there is room for them neither on disk nor in memory.
            DataError: an image that cannot be read.
        """
        key = self.key(network, views)
        if key in self._opened:  # the same object each time: heads keep it on the device
            return self._opened[key]
        name, rows = network.backbone.name, len(self._digests)
        if key not in self._told and network.mismatch():
            logging.info(f"{name}: its weights expect another preprocessing: {network.mismatch()}")
        matrix = feature_extraction.load_features(key, rows)
        if matrix is None:
            self._compute(network, views)
            matrix = self._opened[key] if key in self._opened else feature_extraction.load_features(key, rows)
            if matrix is None:
                raise WorkdirError("the features were removed while the study ran; run the same command again")
        elif key not in self._told:
            of_views = f" of {matrix.shape[1]} views" if matrix.shape[1] > 1 else ""
            logging.info(f"features {name}: {matrix.shape[0]:,} × {matrix.shape[2]:,}{of_views} computed before")
        self._told.add(key)
        self._opened[key] = matrix
        return matrix

    def place(self, network: Network, config: ConfigDict) -> np.ndarray | jax.Array:
        """Returns float32 (N, V, D): on the device, or a NumPy array if heads are to read them from disk."""
        matrix = self.of(network, config.features.augment)
        if reason := on_disk(config.features.memory, matrix.nbytes):
            logging.info(f"features {matrix.shape[0]:,} × {matrix.shape[2]:,} stay on disk during training: {reason}")
            return matrix
        if self._placed[0] is not matrix:
            self._placed = None, None  # frees the memory of the previous features first
            self._placed = matrix, jax.device_put(matrix)
        assert self._placed[1] is not None
        return self._placed[1]

    def missing(self) -> list[tuple[list[Network], str]]:
        """Returns what no pass was made for yet: networks that share one, with the views."""
        passes: dict[str, tuple[list[Network], str]] = {}
        for key, (network, views) in self._wanted.items():
            if feature_extraction.load_features(key, len(self._digests)) is None:
                passes.setdefault(self._pass(network, views), ([], views))[0].append(network)
        return list(passes.values())

    def _compute(self, network: Network, views: str) -> None:
        """Computes the features of a network and of all others that the same pass through the backbone gives."""
        name, source = f"features {network.backbone.name}", self._sources.of(network)
        try:
            with feature_extraction.lock(self._pass(network, views)):  # another shard may be at it
                own = self._pass(network, views)
                together = next(
                    (networks for networks, each in self.missing() if self._pass(networks[0], each) == own), []
                )
                if not together:
                    return
                keys = [self.key(one, views) for one in together]
                shapes = [(len(self._digests), feature_extraction.VIEWS[views], one.feature_count) for one in together]
                size = 4 * sum(int(np.prod(shape)) for shape in shapes)
                if size <= feature_extraction.room():
                    with progress.bar(name, len(self._digests), "images") as advance:
                        feature_extraction.store_features(keys, shapes, self._blocks(together, source, views, advance))
                    return
                problem = (
                    f"the features of {network.backbone.name} take {size / 1e9:,.1f} GB, fewer are free on the disk"
                )
        except WorkdirError as error:
            problem = str(error)
        size = 4 * len(self._digests) * feature_extraction.VIEWS[views] * network.feature_count
        advice = "ALLJAX_CACHE_DIR names the folder"
        if size > decoded_cache.host_memory() / 2:
            raise ConfigError(
                f"{problem}, and they do not fit into memory; {advice}, model.pool=average makes them small"
            )
        logging.info(f"the features are not kept for the next run: {problem} ({advice})")
        with progress.bar(name, len(self._digests), "images") as advance:
            self._opened[self.key(network, views)] = feature_extraction.compute_features(
                network, source, self._config.features.batch_size, advance, views, self._config.data.workers
            )

    def _pass(self, network: Network, views: str) -> str:
        """Returns the same name for networks whose features come from one pass through the backbone."""
        parts = network.backbone.name, network.weights.sha256, asdict(network.preprocessing), views, self._digests
        return hashlib.sha256(f"{parts} {jax.default_backend()}".encode()).hexdigest()

    def _blocks(
        self, networks: Sequence[Network], source: ImageSource, views: str, advance: Update
    ) -> Iterator[list[np.ndarray]]:
        batch_size, workers = self._config.features.batch_size, self._config.data.workers
        for block in feature_extraction.feature_blocks(networks, source, batch_size, views, workers):
            yield block
            interrupts.check()
            advance(len(block[0]))


def on_disk(setting: str, size: int) -> str:
    """Decides whether heads read features of `size` bytes from disk; returns why, or nothing where they fit.

    ``auto`` takes the device's memory where they fill at most a quarter of what is free: heads, their optimizer's
    state and gradients come yet.

    Args:
        setting: ``features.memory``: auto, device or disk.
        size: in bytes.
    """
    if setting == "disk":
        return "features.memory=disk"
    free = decoded_cache.device_memory() or decoded_cache.host_memory()
    if setting == "device" or size <= free / 4:
        return ""
    return f"{size / 1e9:,.1f} GB do not fit beside the heads, {free / 1e9:,.1f} GB are free"


def write_features(config: ConfigDict, out: Path) -> tuple[int, int]:
    """Writes ``features`` float32 (N, D), ``paths``, ``labels`` and ``subjects`` (N,) to an .npz.

    With ``features.augment=dihedral`` also ``views`` float32 (N, 8, D), the first of which is ``features``.

    Returns:
        The shape of the features.

    Raises:
        UserError: the source or the weights cannot be used, or `out` cannot be written.
    """
    from alljax.study.experiment import open_images

    files.check_output(out)
    network = open_network(config)
    dataset, inspection = open_images(config)
    sources = Sources(config, dataset, [network])
    matrix = Features(config, [(network, config.features.augment)], inspection.digests, sources).of(
        network, config.features.augment
    )
    arrays: dict[str, Any] = {
        "features": matrix[:, 0],
        "paths": np.array([record.path for record in dataset.records]),
        "labels": np.array([record.label for record in dataset.records], np.int32),
        "subjects": np.array([record.subject for record in dataset.records]),
    }
    if matrix.shape[1] > 1:
        arrays["views"] = matrix
    with files.atomic_write(out, "wb") as file:
        np.savez(file, **arrays)
    return matrix.shape[0], matrix.shape[2]
