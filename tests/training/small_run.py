"""A run small enough for a test: 52 noisy images of three classes, a stem of EfficientNet-Lite0 and a head."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from ml_collections import ConfigDict

from alljax.config import default_config
from alljax.data.splits import Split
from alljax.models.backbones import get_backbone
from alljax.models.preprocessing import get_preprocessing
from alljax.progress import Update, ignore
from alljax.training import checkpoints
from alljax.training.feeding import Feed
from alljax.training.learner import Learner
from alljax.training.loop import Trained, train_network
from alljax.training.network import Network
from alljax.training.sampling import make_fold_rows

SIZE, CLASSES, STAGE = 32, 3, "stage1"
ROWS = np.arange(52)
SPLIT = Split(0, 0, ROWS[:21], ROWS[40:], validation=ROWS[21:40])
"""21 cells in batches of 8: three steps an epoch, the last of five cells."""
STEPS = 3

GROUPS = (("head/.*", 1.0), ("backbone/stem/.*", 0.5), ("backbone/stage1/.*", 0.5))


def settings(**train: Any) -> ConfigDict:
    config = default_config()
    config.model.update(hidden=16, dropout=0.2)
    config.split.validation = 0.3
    config.train.update(
        mode="finetune", epochs=4, batch_size=8, learning_rate=1e-3, groups=GROUPS, checkpoint_steps=2, log_steps=2,
        loggers=(), bn_momentum=0.8,
    )  # fmt: skip
    config.train.update(**train)
    return config


def small_network() -> Network:
    backbone = get_backbone("efficientnet_lite0")
    images = jnp.zeros((1, SIZE, SIZE, 3))
    variables = jax.jit(lambda key: backbone.module.init(key, images, last=STAGE))(jax.random.key(5))
    lite = get_preprocessing("lite")
    lite = type(lite)(**{**vars(lite), "image_size": SIZE})
    return Network(backbone, STAGE, "average", lite, lite, None, "", variables)  # type: ignore[arg-type]


class Cells:
    """Images uint8 (N, S, S, 3) and labels int32 (N,), which the images tell by `told` shades; 0: not at all."""

    def __init__(self, told: int) -> None:
        generator = np.random.default_rng(3)
        self.labels = generator.integers(0, CLASSES, len(ROWS)).astype(np.int32)
        noise = generator.integers(0, 200, (len(ROWS), SIZE, SIZE, 3))
        self.images = (noise + told * self.labels[:, None, None, None]).astype(np.uint8)

    def take(self, rows: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.where(mask[:, None, None, None], self.images[rows], 0)


class One:
    """One device without a mesh: the plain reference."""

    axis, device_count = None, 1

    def replicate(self, tree: Any) -> Any:
        with jax.transfer_guard("allow"):
            return jax.tree.map(jnp.array, tree)

    shard = replicate

    def jit(self, function: Any, donate: int | None = None) -> Any:
        return jax.jit(function, donate_argnums=() if donate is None else donate)

    def gather(self, tree: Any) -> Any:
        return jax.device_get(tree)


class Run:
    """A run, made anew as a new process would make it."""

    def __init__(self, config: ConfigDict, network: Network, folder: Path, devices: Any = None, told: int = 20) -> None:
        self.config, self.folder, self.said = config, folder, list[str]()
        cells, devices, key = Cells(told), devices or One(), jax.random.key(7)
        self.fold = make_fold_rows(config, cells.labels, CLASSES, [SPLIT])[0]
        self.feed = Feed(config, cells, self.fold, key, devices)
        weights, total = np.asarray(self.fold.class_weights), config.train.epochs * self.feed.steps_per_epoch
        self.learner = Learner(config, network, CLASSES, key, weights, total, devices)

    def train(self, advance: Update = ignore) -> Trained:
        return train_network(self.config, self.learner, self.feed, self.folder, advance)

    def saved(self) -> list[int]:
        return sorted(int(path.stem) for path in (self.folder / "checkpoints").glob("*.sha256"))

    def state_at(self, step: int) -> dict[str, np.ndarray]:
        """Returns the arrays of a checkpoint by their names."""
        layout = [*self.learner.layout, f"{self.feed.steps_per_epoch} steps an epoch"]
        train, folder = self.config.train, self.folder / "checkpoints"
        saved = checkpoints.Checkpoints(folder, train.keep_latest, train.keep_best, layout)
        try:
            leaves = saved.load(step).leaves
        finally:
            saved.close()
        return {line.split(" ")[0]: leaf for line, leaf in zip(layout, leaves, strict=False)}


@contextlib.contextmanager
def compiled_once(folder: Path) -> Iterator[None]:
    """Keeps what is compiled within, so that the next run of the same steps finds it."""
    options = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for values in (options, before):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        if values is options:
            yield


class Interrupted(Exception):
    """What ends a run in a test as a crash would."""


def after(steps: int) -> Update:
    """Returns an `Update` that interrupts at the end of so many steps."""
    done = 0

    def advance(units: int, note: str = "") -> None:
        nonlocal done
        if units and units <= 8:  # not what was done before
            done += 1
        if done == steps:
            raise Interrupted

    return advance


def identical(first: Trained, second: Trained) -> bool:
    return first.history == second.history and bool(
        jax.tree.all(
            jax.tree.map(
                np.array_equal,
                (first.params, first.batch_stats, first.logits),
                (second.params, second.batch_stats, second.logits),
            )
        )
    )


def losses(trained: Sequence[Sequence[float]]) -> list[float]:
    """Returns the validation losses of a history."""
    return [row[2] for row in trained]
