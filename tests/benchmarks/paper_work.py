"""The work that paper.py measures, in processes of their own.

    python tests/benchmarks/paper_work.py slices alljax|keras|torch IMAGES     in the Python that has the library
    python tests/benchmarks/paper_work.py flatten WIDTH FOLDER                 heads of alljax on features on disk

`slices` answers ``["features", "vgg16"]`` and ``["head", "vgg16", "adam"]`` with seconds by name, and ``["versions"]``;
`flatten` prints one line.  Imports nothing that its library does not need.
"""

import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import rounds

IMAGES, TRAINING_IMAGES, BATCH, SIZE = 10_661, 8_528, 32, 224
"""The paper's split and batches: 267 steps per epoch."""
WIDTHS = {"vgg16": 512, "resnet50": 2048}
"""Number of features of a backbone with average pooling."""
OPTIMIZERS = ("adam", "rmsprop")
RATE, DECAY_STEPS, DECAY = 1e-4, 900, 0.95
EPOCHS = 2
"""Epochs of a head in a slice."""
OUR_BATCH = 16
"""Images per batch of our backbone, the default of ``features.batch_size``."""
LABELS = np.arange(IMAGES, dtype=np.int32) % 2
ORDER = np.random.default_rng(0).permutation(IMAGES)
TRAINING, TEST = np.sort(ORDER[:TRAINING_IMAGES]), np.sort(ORDER[TRAINING_IMAGES:])

Slices = dict[str, Callable[..., Any]]
"""Kinds of work of a library; each returns seconds by name, or its versions."""


def pixels(count: int) -> np.ndarray:
    """Returns uint8 noise (count, 224, 224, 3)."""
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def random_features(width: int, start: int = 0, stop: int = IMAGES) -> np.ndarray:
    """Returns float32 features of the images from `start` to `stop`: noise about the mean of the class, at least 0."""
    means = np.random.default_rng(1).standard_normal((2, width), np.float32) * np.float32(1.2 / np.sqrt(width))
    noise = np.random.default_rng((2, start)).standard_normal((stop - start, width), np.float32)
    return np.maximum(noise + means[LABELS[start:stop]], 0)


def head_inputs(optimizer: str, features: np.ndarray) -> tuple[Any, ...]:
    """Returns the arguments of `HeadTrainer.train`: one seed, `EPOCHS` epochs, the paper's settings; and its config."""
    import jax

    from alljax import config as configs
    from alljax.data.splits import Fold
    from alljax.training.head_training import make_runs
    from alljax.training.sampling import make_fold_rows

    changes = {"train.optimizer": optimizer, "train.epochs": EPOCHS, "train.learning_rate": RATE,
               "train.batch_size": BATCH, "train.decay_steps": DECAY_STEPS, "train.decay_rate": DECAY}  # fmt: skip
    config = configs.vary(configs.default_config(), changes)
    rows = make_fold_rows(config, LABELS, 2, [Fold(0, 0, TRAINING, TEST)])[0]
    return config, ((EPOCHS,), make_runs(jax.random.key(0)[None], [config], rows), features, LABELS, rows)


def alljax_slices(images: int) -> Slices:
    """Slices of alljax."""
    import jax
    import jax.numpy as jnp
    from training import random_network

    from alljax.training import feature_extraction
    from alljax.training.head_training import HeadTrainer

    @cache
    def extractor(backbone: str) -> tuple[Any, Any]:
        network = random_network(backbone, SIZE)
        return feature_extraction.make_extractor((network,)), jax.device_put(network.variables)

    def features(backbone: str) -> dict[str, float]:
        (extract, variables), noise = extractor(backbone), pixels(images)
        start = time.perf_counter()
        for first in range(0, images, OUR_BATCH):
            np.asarray(extract(variables, jnp.asarray(noise[first : first + OUR_BATCH]))[0])
        return {"image": (time.perf_counter() - start) / images}

    @cache
    def prepared(backbone: str, optimizer: str) -> tuple[Any, ...]:
        width = WIDTHS[backbone]
        config, arguments = head_inputs(optimizer, jax.device_put(random_features(width)))
        return HeadTrainer(config, 2, width), arguments

    def head(backbone: str, optimizer: str) -> dict[str, float]:
        trainer, arguments = prepared(backbone, optimizer)
        start = time.perf_counter()
        trainer.train(*arguments)
        return {"epoch": (time.perf_counter() - start) / EPOCHS}

    return {"features": features, "head": head, "versions": lambda: f"jax {jax.__version__}"}


def torch_backbone(backbone: str) -> Any:
    """Returns a network of torchvision with random weights, average pooling and channels last."""
    import torch
    import torchvision

    torch.manual_seed(0)
    if backbone == "vgg16":
        body = torchvision.models.vgg16().features
        network = torch.nn.Sequential(body, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    else:
        network = torchvision.models.resnet50()
        network.fc = torch.nn.Identity()
    return network.to(memory_format=torch.channels_last)


def torch_head(width: int) -> Any:
    """Returns the paper's head."""
    from torch import nn

    return nn.Sequential(nn.Linear(width, 512), nn.ReLU(), nn.Linear(512, 2))


def torch_pixels(images: Any) -> Any:
    """Returns preprocessed images; NHWC in memory is what torch calls channels last."""
    import torch

    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((images.float() / 255 - mean) / deviation).permute(0, 3, 1, 2)


def torch_slices(images: int) -> Slices:
    """Slices of PyTorch: the backbone once; one training per head with the fastest form of the optimizer."""
    import torch
    from torch.nn import functional

    network = cache(lambda backbone: torch_backbone(backbone).eval())
    features_of = cache(lambda width: torch.from_numpy(random_features(width)))
    labels, training, test = (torch.from_numpy(array) for array in (LABELS.astype(np.int64), TRAINING, TEST))

    def features(backbone: str) -> dict[str, float]:
        module, noise = network(backbone), torch.from_numpy(pixels(images))
        start = time.perf_counter()
        with torch.inference_mode():
            for batch in noise.split(BATCH):
                module(torch_pixels(batch))
        return {"image": (time.perf_counter() - start) / images}

    def head(backbone: str, optimizer: str) -> dict[str, float]:
        matrix = features_of(WIDTHS[backbone])
        start = time.perf_counter()
        model = torch_head(WIDTHS[backbone])
        # Fused Adam is the fastest on a CPU; RMSprop has no fused form, and foreach is slower there.
        if optimizer == "adam":
            stepper: Any = torch.optim.Adam(model.parameters(), lr=RATE, eps=1e-7, fused=True)
        else:
            stepper = torch.optim.RMSprop(model.parameters(), lr=RATE, alpha=0.9, eps=1e-7)
        schedule = torch.optim.lr_scheduler.ExponentialLR(stepper, DECAY ** (1 / DECAY_STEPS))
        for _ in range(EPOCHS):
            total, correct = torch.zeros(()), torch.zeros((), dtype=torch.int64)
            for rows in training[torch.randperm(TRAINING_IMAGES)].split(BATCH):
                stepper.zero_grad()
                logits = model(matrix[rows])
                loss = functional.cross_entropy(logits, labels[rows])
                loss.backward()
                stepper.step()
                schedule.step()
                total += loss.detach() * len(rows)
                correct += (logits.argmax(1) == labels[rows]).sum()
            with torch.inference_mode():
                logits = model(matrix[test])
                functional.cross_entropy(logits, labels[test])
                (logits.argmax(1) == labels[test]).sum()
        return {"epoch": (time.perf_counter() - start) / EPOCHS}

    versions = f"torch {torch.__version__}, {torch.get_num_threads()} threads"
    return {"features": features, "head": head, "versions": lambda: versions}


def keras_slices(images: int) -> Slices:
    """Slices of Keras on TensorFlow: an epoch of `fit` with the frozen backbone inside, then its validation."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras
    import tensorflow as tf

    class Clock(keras.callbacks.Callback):
        """Times the two passes without the fixed costs of a call of `fit`."""

        def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
            self.training = time.perf_counter()

        def on_test_begin(self, logs: object = None) -> None:
            self.validation = time.perf_counter()
            self.training = self.validation - self.training

        def on_test_end(self, logs: object = None) -> None:
            self.validation = time.perf_counter() - self.validation

    @cache
    def model(backbone: str) -> Any:
        make = {"vgg16": keras.applications.VGG16, "resnet50": keras.applications.ResNet50}[backbone]
        base = make(include_top=False, weights=None, input_shape=(SIZE, SIZE, 3), pooling="avg")
        base.trainable = False
        dense = keras.layers.Dense
        found = keras.Sequential([base, dense(512, activation="relu"), dense(2, activation="softmax")])
        rate = keras.optimizers.schedules.ExponentialDecay(RATE, DECAY_STEPS, DECAY)
        found.compile(keras.optimizers.Adam(rate), loss="binary_crossentropy", metrics=["accuracy"])
        return found

    def fit(backbone: str) -> dict[str, float]:
        noise, clock = pixels(images).astype(np.float32) / 255, Clock()
        labels = np.eye(2, dtype=np.float32)[LABELS[:images]]
        model(backbone).fit(
            noise, labels, batch_size=BATCH, epochs=1, validation_data=(noise, labels), verbose=0, callbacks=[clock]
        )
        return {"image": clock.training / images, "validation image": clock.validation / images}

    return {"features": fit, "versions": lambda: f"keras {keras.__version__}, tensorflow {tf.__version__}"}


def serve(library: str, images: str) -> None:
    """Does slices of the work of a library."""
    slices = {"alljax": alljax_slices, "keras": keras_slices, "torch": torch_slices}[library](int(images))

    def work(kind: str, *arguments: str) -> tuple[Any, int]:
        return slices[kind](*arguments), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    rounds.serve(work)


def own_memory() -> int:
    """Returns the bytes in memory without pages of mapped files, which the system takes back when it needs them."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return sum(1024 * int(status[key].split()[0]) for key in ("RssAnon", "RssShmem"))


def flatten(width: str, folder: str) -> None:
    """Writes features of a flattened width, and trains two epochs on the file."""
    from alljax.training.head_training import HeadTrainer

    count, peaks, path = int(width), [0], Path(folder) / "features.npy"

    def watch() -> None:
        while True:
            peaks[-1] = max(peaks[-1], own_memory())
            time.sleep(0.05)

    threading.Thread(target=watch, daemon=True).start()
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (IMAGES, count)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, IMAGES, OUR_BATCH):
            file.write(random_features(count, start, min(start + OUR_BATCH, IMAGES)).tobytes())
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # it is read from the disk, as by a later process
    features, trainings = np.load(path, mmap_mode="r"), {}
    for optimizer in OPTIMIZERS:
        peaks.append(0)
        ends = [time.perf_counter()]
        config, arguments = head_inputs(optimizer, features)
        (outcome,) = HeadTrainer(config, 2, count).train(
            *arguments, lambda *done, ends=ends: ends.append(time.perf_counter())
        )
        trainings[optimizer] = {"epochs": np.diff(ends).tolist(), "own_memory": peaks[-1],
                                "accuracy": float(outcome.history.val_accuracy[0, -1])}  # fmt: skip
    print(json.dumps({"bytes": path.stat().st_size, "trainings": trainings}))


if __name__ == "__main__":
    {"slices": serve, "flatten": flatten}[sys.argv[1]](*sys.argv[2:])
