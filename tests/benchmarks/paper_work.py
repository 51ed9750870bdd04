"""What paper.py measures, each in a process of its own: a slice of the work by one library, or all head runs of ours.

    python tests/benchmarks/paper_work.py alljax|keras|torch      slices, in the Python that has the library
    python tests/benchmarks/paper_work.py heads|flatten '{...}'   head runs of alljax

A library answers each line of JSON on standard input, ``["features", "vgg16"]`` or ``["head", 512, "adam"]``, with a
line of seconds; head runs print a line of JSON for each thing done.  Needs nothing that its library does not.
"""

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np

CELLS, TRAINED, BATCH, SIZE = 10_661, 8_528, 32, 224
"""The paper's split, 8,528 and 2,133 cells, and its batches: 267 steps an epoch."""
WIDTHS = {"vgg16": 512, "resnet50": 2048}
"""Features a backbone gives under average pooling."""
OPTIMIZERS = ("adam", "rmsprop")
RATE, DECAY_STEPS, DECAY = 1e-4, 900, 0.95
EPOCHS = 2
"""Epochs of a head in a slice."""
OUR_BATCH = 16
"""Images through our backbone at once, the default of ``features.batch_size``."""

Slices = dict[str, Callable[..., dict[str, float]]]
"""Kinds of work a library does; each returns seconds by name."""


def pixels(count: int) -> np.ndarray:
    """Returns uint8 noise (count, 224, 224, 3)."""
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def made_up(labels: np.ndarray, people: np.ndarray, width: int, rows: slice) -> np.ndarray:
    """Returns float32 rows of features: what is left above zero of noise about a mean of the class and the person.

    Args:
        labels: int (N,), 0 or 1.
        people: int (N,).
        width: D.
        rows: which of the N are returned.
    """
    shared, scale = np.random.default_rng(1), np.float32(1.2 / np.sqrt(width))  # the classes overlap at every width
    of_class = shared.standard_normal((2, width), np.float32) * scale
    of_person = shared.standard_normal((people.max() + 1, width), np.float32) * scale
    drawn = np.random.default_rng((2, rows.start)).standard_normal((len(labels[rows]), width), np.float32)
    drawn += of_class[labels[rows]]
    drawn += of_person[people[rows]]
    return np.maximum(drawn, 0, out=drawn)


def alljax_slices(images: int) -> tuple[Slices, str]:
    """Slices of alljax."""
    import jax
    import jax.numpy as jnp

    from alljax import config as configs
    from alljax.data.splits import Fold
    from alljax.models.backbones import get_backbone
    from alljax.models.preprocessing import get_preprocessing
    from alljax.training import feature_extraction
    from alljax.training.head_training import FoldData, HeadTrainer, make_runs
    from alljax.training.network import Network
    from alljax.training.sampling import make_fold_rows

    @cache
    def extractor(backbone: str) -> tuple[Any, Any]:
        found = get_backbone(backbone)
        init = jax.jit(lambda key: found.module.init(key, jnp.zeros((1, 64, 64, 3)), last=found.stages[-1]))
        usual, nowhere = get_preprocessing(next(iter(found.layouts.values())).preprocessing), Any
        variables = dict(init(jax.random.key(0)))
        network = Network(found, found.stages[-1], "average", usual, usual, nowhere, "", lambda: variables)  # type: ignore[arg-type]
        return feature_extraction.make_extractor([network]), jax.device_put(network.variables)

    def of_backbone(backbone: str) -> dict[str, float]:
        (extract, variables), noise = extractor(backbone), pixels(images)
        start = time.perf_counter()
        for first in range(0, images, OUR_BATCH):
            np.asarray(extract(variables, jnp.asarray(noise[first : first + OUR_BATCH]))[0])
        return {"an image": (time.perf_counter() - start) / images}

    @cache
    def prepared(width: int, optimizer: str) -> tuple[Any, ...]:
        config = configs.vary(configs.default_config(), {"train.optimizer": optimizer, "train.epochs": EPOCHS})
        labels, people = np.arange(CELLS, dtype=np.int32) % 2, np.arange(CELLS) % 73
        order = np.random.default_rng(0).permutation(CELLS)
        split = Fold(0, 0, np.sort(order[:TRAINED]), np.sort(order[TRAINED:]))
        features = made_up(labels, people, width, slice(0, CELLS))[:, None]
        fold = make_fold_rows(config, labels, 2, [split])[0]
        runs, data = make_runs(jax.random.key(0)[None], [config], fold), FoldData(features, labels, fold)
        return HeadTrainer(config, 2, width), runs, jax.device_put(data)

    def head(width: int, optimizer: str) -> dict[str, float]:
        trainer, runs, data = prepared(width, optimizer)
        start = time.perf_counter()
        trainer.train((EPOCHS,), runs, data)
        return {"an epoch": (time.perf_counter() - start) / EPOCHS}

    return {"features": of_backbone, "head": head}, f"jax {jax.__version__}"


def torch_slices(images: int) -> tuple[Slices, str]:
    """Slices of PyTorch: the backbone once, channels last; heads by the optimizer's fastest form, one fit a cell."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(0)

    class Bottleneck(nn.Module):
        def __init__(self, before: int, width: int, stride: int) -> None:
            super().__init__()
            after = 4 * width
            self.body = nn.Sequential(
                nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
                nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
                nn.Conv2d(width, after, 1, bias=False), nn.BatchNorm2d(after),
            )  # fmt: skip
            shortcut = (nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
            self.shortcut = nn.Sequential(*shortcut) if stride != 1 or before != after else nn.Identity()

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return functional.relu(self.body(hidden) + self.shortcut(hidden), inplace=True)

    def vgg16() -> Iterator[nn.Module]:
        before = 3
        for convolutions, width in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
            for _ in range(convolutions):
                yield nn.Conv2d(before, width, 3, padding=1)
                yield nn.ReLU(inplace=True)
                before = width
            yield nn.MaxPool2d(2)

    def resnet50() -> Iterator[nn.Module]:
        yield from (nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True))
        yield nn.MaxPool2d(3, 2, 1)
        before = 64
        for blocks, width, stride in ((3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2)):
            for block in range(blocks):
                yield Bottleneck(before, width, 1 if block else stride)
                before = 4 * width

    @cache
    def network(backbone: str) -> nn.Module:
        layers = {"vgg16": vgg16, "resnet50": resnet50}[backbone]()
        return (
            nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval().to(memory_format=torch.channels_last)
        )

    def of_backbone(backbone: str) -> dict[str, float]:
        mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        module, noise = network(backbone), torch.from_numpy(pixels(images))
        start = time.perf_counter()
        with torch.inference_mode():
            for batch in noise.split(BATCH):  # NHWC in memory is what torch calls channels last
                module(((batch.float() / 255 - mean) / deviation).permute(0, 3, 1, 2))
        return {"an image": (time.perf_counter() - start) / images}

    @cache
    def prepared(width: int) -> tuple[Any, ...]:
        labels, people = np.arange(CELLS) % 2, np.arange(CELLS) % 73
        matrix = torch.from_numpy(made_up(labels, people, width, slice(0, CELLS)))
        order = torch.randperm(CELLS)
        return matrix, torch.from_numpy(labels), order[:TRAINED], order[TRAINED:]

    def head(width: int, optimizer: str) -> dict[str, float]:
        matrix, labels, trained, tested = prepared(width)
        start = time.perf_counter()
        model = nn.Sequential(nn.Linear(width, 512), nn.ReLU(), nn.Linear(512, 2))
        # Fused Adam is the faster by far on a CPU; RMSprop has no fused form, and foreach is slower there.
        if optimizer == "adam":
            stepper: Any = torch.optim.Adam(model.parameters(), lr=RATE, eps=1e-7, fused=True)
        else:
            stepper = torch.optim.RMSprop(model.parameters(), lr=RATE, alpha=0.9, eps=1e-7)
        schedule = torch.optim.lr_scheduler.ExponentialLR(stepper, DECAY ** (1 / DECAY_STEPS))
        for _ in range(EPOCHS):
            total, right = torch.zeros(()), torch.zeros((), dtype=torch.int64)
            for rows in trained[torch.randperm(TRAINED)].split(BATCH):
                stepper.zero_grad()
                logits, told = model(matrix[rows]), labels[rows]
                loss = functional.cross_entropy(logits, told)
                loss.backward()
                stepper.step()
                schedule.step()
                total += loss.detach() * len(rows)
                right += (logits.argmax(1) == told).sum()
            with torch.inference_mode():
                logits = model(matrix[tested])
                functional.cross_entropy(logits, labels[tested])
                (logits.argmax(1) == labels[tested]).sum()
        return {"an epoch": (time.perf_counter() - start) / EPOCHS}

    return {"features": of_backbone, "head": head}, f"torch {torch.__version__}, {torch.get_num_threads()} threads"


def keras_slices(images: int) -> tuple[Slices, str]:
    """Slices of Keras on TensorFlow: an epoch of `fit` with the frozen backbone inside, then its validation."""
    os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="")
    import keras
    import tensorflow as tf

    class Clock(keras.callbacks.Callback):
        """Times the two passes without what `fit` does once a call."""

        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            self.trained = time.perf_counter()

        def on_test_begin(self, logs: object = None) -> None:
            self.tested = time.perf_counter()
            self.trained = self.tested - self.trained

        def on_test_end(self, logs: object = None) -> None:
            self.tested = time.perf_counter() - self.tested

    @cache
    def model(backbone: str) -> Any:
        make = {"vgg16": keras.applications.VGG16, "resnet50": keras.applications.ResNet50}[backbone]
        base = make(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3), pooling="avg")
        base.trainable = False
        dense = keras.layers.Dense
        whole = keras.Sequential([base, dense(512, activation="relu"), dense(2, activation="softmax")])
        rate = keras.optimizers.schedules.ExponentialDecay(RATE, DECAY_STEPS, DECAY)
        whole.compile(keras.optimizers.Adam(rate), loss="binary_crossentropy", metrics=["accuracy"])
        return whole

    def fit(backbone: str) -> dict[str, float]:
        noise, clock = pixels(images).astype(np.float32) / 255, Clock()
        told = np.eye(2, dtype=np.float32)[np.arange(images) % 2]
        model(backbone).fit(
            noise, told, batch_size=BATCH, epochs=1, validation_data=(noise, told), verbose=0, callbacks=[clock]
        )
        return {"an image": clock.trained / images, "a validation image": clock.tested / images}

    return {"features": fit}, f"keras {keras.__version__}, tensorflow {tf.__version__}"


def serve(library: str, images: int) -> None:
    """Says which versions run, then does a slice a line."""
    slices, versions = {"alljax": alljax_slices, "keras": keras_slices, "torch": torch_slices}[library](images)
    say(versions=f"{versions}, Python {platform.python_version()}")
    for line in sys.stdin:
        kind, *of_what = json.loads(line)
        seconds = slices[kind](*of_what)
        say(seconds=seconds, peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def real_names(config: Any) -> Any:
    """Returns labels, subjects and folds of the 10,661 training images by their names; no image is read."""
    from types import SimpleNamespace

    from alljax.data import cnmc_index
    from alljax.data.dataset import Dataset
    from alljax.data.splits import make_splits

    records = tuple(record for record in cnmc_index.expected() if record.subset == "train")
    dataset = Dataset("cnmc", cnmc_index.CLASSES, records, read=lambda record: b"")
    subjects = tuple(record.subject for record in records)
    folds = make_splits(dataset, subjects, config.split, config.seed)
    labels = np.array([record.label for record in records], np.int32)
    say(images={"trained": len(folds[0].train), "tested": len(folds[0].test)})
    return SimpleNamespace(labels=labels, subjects=subjects, folds=folds)


def heads(config: str) -> None:
    """Trains the 32 heads of the paper on features of the true widths, as `alljax study` does once it has features."""
    import jax

    from alljax import config as configs
    from alljax.study import sweep
    from alljax.study.trials import HeadClassifier, fold_keys
    from alljax.training.sampling import make_fold_rows

    settings = configs.load(config)
    data = real_names(settings)
    people = np.unique(data.subjects, return_inverse=True)[1]
    features = np.zeros((0, 0, 0), np.float32)
    for job in sweep.jobs(sweep.expand(settings)):
        width = WIDTHS[job.config.model.backbone]
        if features.shape[2] != width:
            features = made_up(data.labels, people, width, slice(0, len(people)))[:, None]
        start = time.perf_counter()
        on_device = jax.device_put(features)
        classifier = HeadClassifier(job, 2, on_device, lambda *done: None)
        fold = make_fold_rows(job.config, data.labels, 2, data.folds)[0]
        found = classifier.fit(on_device, data.labels, fold, fold_keys(job.config, fold))
        for trial, outcome in zip(job.trials, found, strict=True):
            correct = outcome.probabilities[0].argmax(1) == data.labels[fold.test]
            say(trial=trial.name, epochs=len(outcome.history.val_loss), accuracy=float(correct.mean()))
        say(curve=job.name, width=width, seconds=time.perf_counter() - start, jax=jax.__version__)


def flatten(config: str, width: int) -> None:
    """Keeps features of a flattened width where ALLJAX_CACHE_DIR says, and trains two epochs on the file."""
    import jax

    from alljax import config as configs
    from alljax import files
    from alljax.training import feature_cache
    from alljax.training.head_streaming import StreamingHeadTrainer
    from alljax.training.head_training import FoldData, make_runs
    from alljax.training.sampling import make_fold_rows, steps_per_epoch

    settings = configs.load(config)
    data = real_names(settings)
    labels, people = data.labels, np.unique(data.subjects, return_inverse=True)[1]
    rows, start = [slice(first, first + OUR_BATCH) for first in range(0, CELLS, OUR_BATCH)], time.perf_counter()
    blocks = ([made_up(labels, people, width, each)[:, None]] for each in rows)
    feature_cache.store_features(["made-up"], [(CELLS, 1, width)], blocks)
    path = files.cache_dir() / "features" / "made-up.npy"
    with path.open("rb") as file:  # what was just written is read from the disk, as it would be the day after
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    say(written=width, bytes=path.stat().st_size, seconds=time.perf_counter() - start)
    on_disk = feature_cache.load_features("made-up", CELLS)
    for optimizer in OPTIMIZERS:
        ends = [time.perf_counter()]
        own = configs.vary(settings, {"train.optimizer": optimizer, "train.epochs": EPOCHS})
        fold = make_fold_rows(own, labels, 2, data.folds)[0]
        runs, of_fold = make_runs(jax.random.key(own.seed)[None], [own], fold), FoldData(on_disk, labels, fold)
        (outcome,) = StreamingHeadTrainer(own, 2, width).train(
            (EPOCHS,), runs, of_fold, update=lambda *done, ends=ends: ends.append(time.perf_counter())
        )
        accuracy = float(outcome.history.val_accuracy[-1, 0])
        steps = steps_per_epoch(len(data.folds[0].train), own.train.batch_size)
        say(curve=f"flatten-{width}-{optimizer}", width=width, epochs=np.diff(ends).tolist(), steps=EPOCHS * steps,
            accuracy=accuracy)  # fmt: skip


def say(**values: Any) -> None:
    """Prints a line of JSON."""
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    work, given = sys.argv[1], json.loads(sys.argv[2])
    {"heads": heads, "flatten": flatten}.get(work, lambda **options: serve(work, **options))(**given)
