"""The work of alljax, through the functions that its commands call."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import workload
from ml_collections import ConfigDict
from workers import Clock, Run
from workload import Sizes

from alljax import config as configs
from alljax.data.dataset import Dataset, Record
from alljax.data.loader import ImageReader, Sampler, load_batches
from alljax.data.splits import Fold
from alljax.models.backbones import get_backbone
from alljax.models.preprocessing import get_preprocessing
from alljax.training.feature_extraction import feature_blocks
from alljax.training.fine_tuning import FineTuner
from alljax.training.head_training import HeadTrainer, make_runs
from alljax.training.network import Network
from alljax.training.sampling import make_fold_rows
from alljax.training.sharding import Mesh
from alljax.training.step import Batch
from alljax.weights import conversion


def make_network(backbone: str, size: int) -> Network:
    """Returns a network with seeded weights whose features are those of the last stage."""
    found, nowhere = get_backbone(backbone), None
    variables = conversion.convert(workload.weights(backbone), backbone).variables
    scaling = get_preprocessing(next(iter(found.layouts.values())).preprocessing)
    scaling = dataclasses.replace(scaling, image_size=size)
    return Network(found, found.stages[-1], "average", scaling, scaling, nowhere, "", lambda: variables)  # type: ignore[arg-type]


def image_source(images: np.ndarray) -> ImageReader:
    """Returns a reader of images that are already decoded, uint8 (N, S, S, 3)."""
    records = tuple(map(Record, map(str, range(len(images))), workload.labels(len(images)).tolist()))
    dataset = Dataset("noise", ("0", "1"), records, lambda record: b"")
    return ImageReader(dataset, images.shape[1], cached=images)


def features(sizes: Sizes, backbone: str) -> Run:
    """Images through a backbone; preparations and the first batches, which only fill the pipeline, are not counted."""
    network, first = make_network(backbone, sizes.image_size), 2 * sizes.batch
    images = workload.pixels(first + sizes.images, sizes.image_size)
    config = configs.vary(configs.default_config(), {"features.batch_size": sizes.batch})

    def compute(count: int) -> np.ndarray:
        return np.concatenate([block for (block,) in feature_blocks([network], image_source(images[:count]), config)])

    def run(clock: Clock) -> tuple[int, Any]:
        compute(first)
        clock.start(less=clock.read())
        return sizes.images, compute(first + sizes.images)[: sizes.images]

    return run


def head_config(optimizer: str, epochs: int) -> ConfigDict:
    """Returns the paper's training of a head."""
    changes = {"train.optimizer": optimizer, "train.epochs": epochs, "train.learning_rate": workload.RATE,
               "train.batch_size": workload.BATCH, "train.decay_steps": workload.DECAY_STEPS,
               "train.decay_rate": workload.DECAY, "model.hidden": workload.HIDDEN}  # fmt: skip
    return configs.vary(configs.default_config(), changes)


def heads(sizes: Sizes, width: int, optimizer: str, count: int, features: Any = None) -> Run:
    """Epochs of `count` heads that differ in the seed, each followed by the accuracy on the test rows."""
    config, labels = head_config(optimizer, sizes.epochs), workload.labels(sizes.cells)
    (rows,) = make_fold_rows(config, labels, 2, [Fold(0, 0, *workload.split(sizes))])
    runs = make_runs(jax.random.split(jax.random.key(0), count), config, rows)
    matrix = jax.device_put(workload.features(sizes.cells, width)) if features is None else features
    trainer = HeadTrainer(config, 2, width)

    def run(clock: Clock) -> tuple[int, Any]:
        trainer.train((sizes.epochs,), runs, matrix, labels, rows, lambda count, accuracy: None)
        return count * sizes.epochs * workload.steps(sizes), None

    return run


def data(sizes: Sizes, folder: str, antialias: bool) -> Run:
    """Files to batches of images."""
    paths = {path.name: path for path in sorted(Path(folder).glob("*.bmp"))}
    records = tuple(Record(name, 0) for name in paths)
    dataset = Dataset("folder", ("cell",), records, lambda record: paths[record.path].read_bytes())
    source = ImageReader(dataset, sizes.image_size, "bilinear", antialias)
    once = Sampler(np.arange(len(paths)), workload.BATCH)

    def run(clock: Clock) -> tuple[int, Any]:
        batches = [batch.images for batch in load_batches(source, once)]
        return len(paths), batches[0] / np.float32(255)

    return run


def finetune(sizes: Sizes, backbone: str, compute: str = "float32") -> Run:
    """A step of all parameters with Adam."""
    config = configs.vary(configs.default_config(), {"model.backbone": backbone, "train.mode": "finetune"})
    config.train.update(groups=((".*", 1.0),), optimizer="adam", compute=compute, batch_size=sizes.batch, loggers=())
    mesh, order = Mesh(), np.arange(sizes.batch, dtype=np.int32)
    tuner = FineTuner(config, make_network(backbone, sizes.image_size), 2, mesh)
    inputs = tuner.inputs(jax.random.key(0), np.ones(2, np.float32), 1000)
    arrays: Any = workload.pixels(sizes.batch, sizes.image_size), order % 2, np.ones(sizes.batch, bool), order
    batch, state = Batch(*arrays), tuner.init(inputs)

    def run(clock: Clock) -> tuple[int, Any]:
        nonlocal state
        state = jax.block_until_ready(tuner.step(state, mesh.shard(batch), inputs, epoch=0))
        return 1, None

    return run


WORKS = {"features": features, "heads": heads, "data": data, "finetune": finetune}
