"""How fast the frozen mode is here: images a second through a backbone, steps a second of a head.

    .venv/bin/python tests/benchmarks/frozen.py [VGG16_WEIGHTS.pth]

Five interleaved rounds; minimum, median, maximum.  Single figures of a shared machine say little.
"""

import statistics
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from alljax import config as configs
from alljax.data.splits import Fold
from alljax.training import feature_extraction
from alljax.training.head_training import FoldData, HeadTrainer, make_runs
from alljax.training.network import open_network
from alljax.training.sampling import make_fold_rows, steps_per_epoch

BATCH, ROUNDS = 16, 5
CELLS, TRAINED, EPOCHS = 10_661, 8_528, 4  # the paper's split: 267 steps an epoch


def extraction(backbone: str, weights: str) -> Callable[[], float]:
    """Returns a function that times one batch of 224 × 224 pixels, in images a second."""
    changes = {"model.backbone": backbone, "weights.path": weights}
    network = open_network(configs.vary(configs.default_config(), changes))
    extract, variables = feature_extraction.make_extractor([network]), jax.device_put(network.variables)
    pixels = np.random.default_rng(0).integers(0, 256, (BATCH, 224, 224, 3), np.uint8)
    return _timed(lambda: extract(variables, jnp.asarray(pixels)), BATCH)


def head(width: int, seeds: int) -> Callable[[], float]:
    """Returns a function that times head runs on random features, in optimizer steps a second."""
    config = configs.vary(configs.default_config(), {"train.epochs": EPOCHS})
    features = np.random.default_rng(0).standard_normal((CELLS, 1, width)).astype(np.float32)
    labels = np.arange(CELLS, dtype=np.int32) % 2
    fold = make_fold_rows(config, labels, 2, [Fold(0, 0, np.arange(TRAINED), np.arange(TRAINED, CELLS))])[0]
    runs = make_runs(jax.vmap(jax.random.key)(jnp.arange(seeds)), [config] * seeds, fold)
    trainer, data = HeadTrainer(config, 2, width), jax.device_put(FoldData(features, labels, fold))
    steps = seeds * EPOCHS * steps_per_epoch(TRAINED, config.train.batch_size)
    return _timed(lambda: trainer.train((EPOCHS,), runs, data), steps)


def _timed(work: Callable[[], object], amount: int) -> Callable[[], float]:
    jax.block_until_ready(work())  # compile

    def rate() -> float:
        start = time.perf_counter()
        jax.block_until_ready(work())
        return amount / (time.perf_counter() - start)

    return rate


def main() -> None:
    timers = {"efficientnet_lite0, images/s": extraction("efficientnet_lite0", "")}
    if len(sys.argv) > 1:
        timers["vgg16, images/s"] = extraction("vgg16", sys.argv[1])
    for width in (512, 2048):
        for seeds in (1, 3):
            timers[f"head on {width} features, {seeds} seeds, steps/s"] = head(width, seeds)
    rounds = [{name: timer() for name, timer in timers.items()} for _ in range(ROUNDS)]
    for name in timers:
        rates = [each[name] for each in rounds]
        print(f"{name:<44} {min(rates):8,.1f} {statistics.median(rates):8,.1f} {max(rates):8,.1f}")


if __name__ == "__main__":
    main()
