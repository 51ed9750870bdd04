"""Costs of fine-tuning: a step compared with PyTorch's, a checkpoint, and communication between devices.

    .venv/bin/python tests/benchmarks/training.py [steps] [checkpoint] [devices]

Without a name all three.  Rounds are interleaved, so that other work on a shared machine affects both sides equally;
minimum, median, maximum.  PyTorch and torchvision are used if installed.  Weights are random.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from alljax import config as configs
from alljax.data.splits import Fold
from alljax.models.backbones import get_backbone
from alljax.models.preprocessing import get_preprocessing
from alljax.training import sharding
from alljax.training.fine_tuning import FineTuner
from alljax.training.loop import FoldLoader, train
from alljax.training.network import Network
from alljax.training.sampling import make_fold_rows
from alljax.training.step import Batch, RunInputs

BACKBONES = ("vgg16", "resnet50")
SIZE, BATCH, ROUNDS = 224, 8, 5
SMALL = 64
"""Image size in pixels of checkpoints."""
STEPS, EVERY = 20, 5
DEVICES, GLOBAL = (1, 2, 4, 8), 32


def settings(backbone: str, **train: Any) -> ConfigDict:
    """Returns a config that trains all parameters with Adam."""
    config = configs.vary(configs.default_config(), {"model.backbone": backbone, "train.mode": "finetune"})
    config.train.update(groups=((".*", 1.0),), optimizer="adam", batch_size=BATCH, epochs=1, loggers=(), **train)
    return config


def random_network(backbone: str, size: int) -> Network:
    """Returns a network with random weights."""
    found = get_backbone(backbone)
    init = jax.jit(lambda key: found.module.init(key, jnp.zeros((1, SMALL, SMALL, 3)), last=found.stages[-1]))
    variables = dict(init(jax.random.key(0)))
    pixels = get_preprocessing(next(iter(found.layouts.values())).preprocessing)
    pixels = type(pixels)(**{**vars(pixels), "image_size": size})
    nowhere: Any = None
    return Network(found, found.stages[-1], "average", pixels, pixels, nowhere, "", lambda: variables)


def make_tuner(backbone: str, size: int, mesh: sharding.Mesh) -> tuple[FineTuner, RunInputs]:
    """Returns a tuner for two classes and the inputs of a run of 1,000 steps."""
    tuner = FineTuner(settings(backbone), random_network(backbone, size), 2, mesh)
    return tuner, tuner.inputs(jax.random.key(0), np.ones(2, np.float32), 1000)


def noise(size: int, count: int = BATCH) -> Batch:
    """Returns a batch of noise."""
    images = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)
    order: Any = np.arange(count, dtype=np.int32)
    arrays: tuple[Any, ...] = (images, order % 2, np.ones(count, bool), order)
    return Batch(*arrays)


def our_step(backbone: str) -> Callable[[], float]:
    """Returns a function that times one step of alljax, in images per second."""
    mesh = sharding.Mesh()
    (tuner, run), batch = make_tuner(backbone, SIZE, mesh), noise(SIZE)
    state = tuner.init(run)

    def work() -> Any:
        nonlocal state
        state = tuner.step(state, mesh.shard(batch), run, epoch=0)
        return jax.block_until_ready(state)

    return timed(work)


def torch_step(backbone: str) -> Callable[[], float]:
    """Returns a function that times the same step of PyTorch: same layers and head, channels last, fused Adam."""
    import torch
    from paper_work import WIDTHS, torch_backbone, torch_head, torch_pixels

    body = torch_backbone(backbone)
    model = torch.nn.Sequential(body, torch_head(WIDTHS[backbone])).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)
    batch = noise(SIZE)
    images, labels = torch.from_numpy(np.asarray(batch.inputs)), torch.from_numpy(np.asarray(batch.labels)).long()

    def work() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(torch_pixels(images)), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return timed(work)


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """Returns a function that times `work`, once it has been compiled and warmed up, in images per second."""
    work()
    work()

    def rate() -> float:
        start = time.perf_counter()
        work()
        return BATCH / (time.perf_counter() - start)

    return rate


def steps() -> None:
    """Compares steps; one backbone after the other, to save memory."""
    print(f"a step of fine-tuning, {SIZE} × {SIZE} pixels, batch {BATCH}, all parameters trainable, Adam; images/s")
    for backbone in BACKBONES:
        timers = {"alljax": our_step(backbone)}
        try:
            timers["PyTorch"] = torch_step(backbone)
        except ImportError as error:
            print(f"  not compared with PyTorch: {error}; `pip install torch torchvision`")
        rounds = [{name: timer() for name, timer in timers.items()} for _ in range(ROUNDS)]
        for name in timers:
            show(f"{backbone}, {name}", [each[name] for each in rounds])
        if "PyTorch" in timers:
            show(f"{backbone}, alljax / PyTorch", [each["alljax"] / each["PyTorch"] for each in rounds])


def step_times(network: Network, every: int) -> np.ndarray:
    """Returns milliseconds of wall and of processor time of the steps 2 to STEPS − 1 of a real training."""
    config, key, mesh = settings("vgg16", checkpoint_steps=every, log_steps=1), jax.random.key(0), sharding.Mesh()
    batch, rows, ends = noise(SMALL, STEPS * BATCH), np.arange(STEPS * BATCH), list[tuple[float, float]]()
    images: Any = SimpleNamespace(labels=batch.labels, take=lambda rows, mask: batch.inputs[rows])
    fold = make_fold_rows(config, images.labels, 2, [Fold(0, 0, rows, rows[:BATCH])])[0]
    loader, tuner = FoldLoader(config, images, fold, key, mesh), FineTuner(config, network, 2, mesh)

    def update(count: int, note: str = "") -> None:
        if count:
            ends.append((time.perf_counter(), time.process_time()))

    with tempfile.TemporaryDirectory() as folder:
        train(tuner, loader, tuner.inputs(key, fold.class_weights, STEPS), Path(folder), update)
    return 1000 * (np.array(ends[-2]) - np.array(ends[0]))


def checkpoint() -> None:
    """Compares training with and without checkpoints."""
    network, saved = random_network("vgg16", SMALL), (STEPS - 2) // EVERY
    rounds = [(step_times(network, EVERY), step_times(network, 10**6)) for _ in range(ROUNDS)]
    count = sum(leaf.size for leaf in jax.tree.leaves(network.variables))
    print(f"a checkpoint of VGG16 and Adam, about {12 * count / 1e6:,.0f} MB, while it trains at {SMALL} × {SMALL}; ms")
    for place, what in enumerate(("", ", processor time of all threads")):
        show(f"a step without{what}", [without[place] / (STEPS - 2) for _, without in rounds])
        show(f"added by a checkpoint{what}", [(saving - without)[place] / saved for saving, without in rounds])


def moved(text: str) -> dict[str, float]:
    """Returns the megabytes of float32 numbers that the collectives of a compiled module give, by kind."""
    kinds, found = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute", dict[str, float]()
    for result, kind in re.findall(rf"= (.+?) ({kinds})(?:-start)?\(", text):
        sizes = [np.prod([int(side) for side in sides.split(",")]) for sides in re.findall(r"f32\[([\d,]+)\]", result)]
        found[kind] = found.get(kind, 0.0) + 4e-6 * sum(sizes)
    return found


class Modules(sharding.Mesh):
    """Returns the compiled module of the training step instead of calling it."""

    def jit(self, function: Callable[..., Any], donate: int | None = None) -> Callable[..., Any]:
        """See `Mesh`."""
        compiled: Any = super().jit(function, donate)
        return compiled if donate is None else lambda *arguments: compiled.lower(*arguments).compile()


def sent(backbone: str, fsdp: int) -> None:
    """Prints what the devices communicate in a step, and what each keeps."""
    mesh = Modules(fsdp)
    tuner, run = make_tuner(backbone, SIZE, mesh)
    state = tuner.init(run)
    module: Any = tuner.step(state, mesh.shard(noise(SIZE, GLOBAL)), run, epoch=0)
    results = {kind: f"{size:,.1f} MB" for kind, size in moved(module.as_text()).items() if size > 0.05}
    held, working = sharding.bytes_per_device(state), module.memory_analysis().temp_size_in_bytes
    print(f"{results}, state {held / 1e6:,.0f} MB, working memory {working / 1e6:,.0f} MB")


def scaling() -> None:
    """Reads from the compiled modules what each number of devices communicates and holds."""
    for backbone in BACKBONES:
        print(f"{backbone}, {SIZE} × {SIZE} pixels, {GLOBAL} images per step over all devices; results of collectives")
        for count in DEVICES:
            for shared in sorted({1, count}):
                print(f"  {count} devices, mesh.fsdp={shared}:", end=" ", flush=True)
                flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}", "JAX_PLATFORMS": "cpu"}
                command = [sys.executable, __file__, "_sent", backbone, str(shared)]
                subprocess.run(command, env=os.environ | flags, check=True)


def show(name: str, numbers: Sequence[float]) -> None:
    """Prints minimum, median and maximum."""
    print(f"  {name:<52} {min(numbers):9,.2f} {statistics.median(numbers):9,.2f} {max(numbers):9,.2f}", flush=True)


PARTS = {"steps": steps, "checkpoint": checkpoint, "devices": scaling}


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["_sent", backbone, fsdp]:
            sent(backbone, int(fsdp))
        case names:
            for name in names or PARTS:
                PARTS[name]()
