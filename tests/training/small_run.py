"""A small fine-tuning run for tests: 52 noisy images of three classes, two stages of EfficientNet-Lite0 and a head."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding
from ml_collections import ConfigDict

from alljax.config import default_config
from alljax.data.splits import Fold
from alljax.models.backbones import get_backbone
from alljax.models.preprocessing import get_preprocessing
from alljax.progress import Update
from alljax.training.checkpoints import CheckpointManager
from alljax.training.fine_tuning import FineTuner
from alljax.training.loop import FoldLoader, train
from alljax.training.network import Network
from alljax.training.sampling import make_fold_rows
from alljax.training.sharding import Mesh

SIZE, CLASSES, STAGE = 32, 3, "stage1"
ROWS = np.arange(52)
SPLIT = Fold(0, 0, ROWS[:21], ROWS[40:], validation=ROWS[21:40])
"""21 training images in batches of 8: three steps per epoch, the last with five images."""
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
    lite = dataclasses.replace(get_preprocessing("lite"), image_size=SIZE)
    return Network(backbone, STAGE, "average", lite, lite, None, "", lambda: variables)  # type: ignore[arg-type]


class Images:
    """Images uint8 (N, S, S, 3) and labels int32 (N,); classes differ by `contrast` gray values."""

    cached = None

    def __init__(self, contrast: int = 20) -> None:
        generator = np.random.default_rng(3)
        self.labels = generator.integers(0, CLASSES, len(ROWS)).astype(np.int32)
        noise = generator.integers(0, 200, (len(ROWS), SIZE, SIZE, 3))
        self.images = (noise + contrast * self.labels[:, None, None, None]).astype(np.uint8)

    def take(self, rows: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.where(mask[:, None, None, None], self.images[rows], 0)


class OneDevice(Mesh):
    """One of the eight devices: the reference for the meshes."""

    def __init__(self) -> None:
        self.device_count, self._fsdp, self._batch = 1, 1, SingleDeviceSharding(jax.devices()[0])

    def sharding(self, leaf: Any) -> Any:
        return self._batch

    def jit(self, function: Any, batch: int | None = None, donate: int | tuple[()] = ()) -> Any:
        return jax.jit(function, donate_argnums=donate)


ONE = OneDevice()
_tuners: dict[str, FineTuner] = {}


def tuner_of(config: ConfigDict, network: Network, mesh: Any = ONE) -> FineTuner:
    """Returns a tuner; runs of the same config and mesh share one, and so its compiled functions."""
    key = f"{config.to_json()} {id(network)} {id(mesh)}"
    if key not in _tuners:
        _tuners[key] = FineTuner(config, network, CLASSES, mesh)
    return _tuners[key]


def ignore(images: int, note: str = "") -> None:
    """An `Update` that shows nothing."""


class Run:
    """One run of a config, as a new process starts or resumes it."""

    def __init__(
        self, config: ConfigDict, network: Network, folder: Path = Path(), mesh: Any = ONE, contrast: int = 20,
        seed: int = 7,
    ) -> None:  # fmt: skip
        self.config, self.folder = config, folder
        images, key = Images(contrast), jax.random.key(seed)
        fold = make_fold_rows(config, images.labels, CLASSES, [SPLIT])[0]
        self.tuner = tuner_of(config, network, mesh)
        self.loader = FoldLoader(config, images, fold, key, mesh)
        self.inputs = self.tuner.inputs(key, fold.class_weights, config.train.epochs * self.loader.steps_per_epoch)

    def train(self, update: Update = ignore) -> dict[str, Any]:
        return train(self.tuner, self.loader, self.inputs, self.folder, update)

    def steps(self, count: int, state: Any = None) -> Any:
        """Returns the state after some steps of the first epoch."""
        state = self.tuner.init(self.inputs) if state is None else state
        for _, batch in zip(range(count), self.loader.train(0), strict=False):
            state = self.tuner.step(state, batch, self.inputs, epoch=0)
        return state

    def saved(self) -> list[int]:
        return sorted(int(path.name) for path in (self.folder / "checkpoints").iterdir() if path.is_dir())

    def state_at(self, step: int) -> dict[str, np.ndarray]:
        """Returns the arrays of a checkpoint by their names."""
        note = f"{self.loader.steps_per_epoch} steps per epoch"
        abstract = ONE.abstract(self.tuner.abstract)
        manager = CheckpointManager(self.folder / "checkpoints", self.config.train, abstract, note)
        with contextlib.closing(manager):
            loaded, _ = manager.load(step)
        return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(loaded)}


class Interrupted(Exception):
    """Ends a run in a test as a crash would."""


def after(steps: int) -> Update:
    """Returns an `Update` that interrupts at the end of so many steps."""
    done = 0

    def update(images: int, note: str = "") -> None:
        nonlocal done
        done += 0 < images <= 8  # a resumed run first reports what was done before
        if done == steps:
            raise Interrupted

    return update


def identical(first: Any, second: Any) -> bool:
    """Returns whether two trees or results of runs have the same bits."""
    return bool(jax.tree.all(jax.tree.map(np.array_equal, first, second)))
