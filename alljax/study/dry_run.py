"""What a study would do, before it does it: its cells, what they share, and how long that takes here."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from alljax.data.splits import Split
from alljax.data.tree import counted
from alljax.progress import Say, duration
from alljax.study import extraction, grid, heads, run
from alljax.study.heads import Run
from alljax.training import features, frozen, optim
from alljax.training.fold import make_folds, steps_per_epoch
from alljax.training.network import Network

STEPS, ROUNDS = 24, 3
"""Steps of a measurement, and how often it is made; the fastest counts."""


def dry_run(config: ConfigDict, folder: Path, say: Say, shard: tuple[int, int] = (0, 1)) -> None:
    """Prints the cells of a study, what they share, and the time that follows from rates measured now.

    The images are looked at, nothing is written.

    Args:
        config: from `alljax.config.load`.
        folder: the working directory; cells that are done in it are not counted.
        say: prints a line.
        shard: i and n, as in `run.run_study`.

    Raises:
        UserError: the source, the weights or the folder cannot be used.
    """
    study = run.open_study(config, folder, say)
    runs = grid.runs(study.cells)
    own = [tuple(cell for cell in each if not study.done(cell)) for each in runs[shard[0] :: shard[1]]]
    own = [each for each in own if each]
    say(f"\n{counted(len(study.cells), 'cell')} in {counted(len(runs), 'run')}:")
    for line in _runs(runs):
        say(line)
    if shard[1] > 1 or sum(map(len, own)) < len(study.cells):
        say(
            f"of these {counted(sum(map(len, own)), 'cell')} would be run now: those of shard {shard[0]}/{shard[1]} "
            "that are not done yet"
        )
    say("\nimages:")
    for line in _divisions(study):
        say(line)
    frozen_runs = [each for each in own if each[0].config.train.regime == "frozen"]
    seconds = 0.0
    for lines, of_lines in (_features(study, config, frozen_runs), _heads(study, frozen_runs)):
        for line in lines:
            say(line)
        seconds += of_lines
    if len(frozen_runs) < len(own):
        say("fine-tuned cells: not estimated; their progress bars tell after the first steps")
    say(f"\ntogether about {duration(seconds)}, besides evaluation and the report")


def _runs(runs: Sequence[Run]) -> Iterator[str]:
    for each in runs:
        epochs = ", ".join(str(cell.config.train.epochs) for cell in each)
        shared = f", beginnings of one run of {each[-1].config.train.epochs}" if len(each) > 1 else ""
        yield f"  {heads.run_name(each)}: {epochs} epochs{shared}"


def _divisions(study: run.Study) -> Iterator[str]:
    of_split = {cell.split: cell for cell in study.cells}
    for name, cell in of_split.items():
        material, size = study.materials[cell.name], cell.config.train.batch_size
        sides = [f"{len(split.train):,} / {len(split.test):,}" for split in material.splits]
        several = f", … ({len(sides)} folds)" if len(sides) > 1 else ""
        steps = steps_per_epoch(len(material.splits[0].train), size)
        yield f"  {name}: learned from / tested: {sides[0]}{several}; {steps:,} steps an epoch"


def _features(study: run.Study, config: ConfigDict, runs: Sequence[Run]) -> tuple[list[str], float]:
    """Returns what is said of the features, and the seconds of those that are missing."""
    lines, seconds = ["\nfeatures:"], 0.0
    used = {id(network) for network in (study.networks[each[0].name] for each in runs)}
    passes = [
        (needed, views) for networks, views in study.features.missing()
        if (needed := [network for network in networks if id(network) in used])
    ]  # fmt: skip
    count = len(next(iter(study.materials.values())).labels)
    for networks, views in passes:
        rate = _images_per_second(networks, config.features.batch_size) / features.VIEWS[views]
        took = count / rate
        seconds += took
        for network in networks:
            size = 4 * count * features.VIEWS[views] * network.feature_count
            where = extraction.on_disk(config.features.memory, size)
            read = f"; heads read them from disk: {where}" if where else ""
            lines.append(
                f"  {network.backbone.name} {network.stage} {network.pool}: {count:,} × {network.feature_count:,}, "
                f"{size / 1e6:,.0f} MB{read}"
            )
        lines.append(f"  one pass of {networks[0].backbone.name}: {rate:,.1f} images/s, about {duration(took)}")
    return lines if passes else ["\nfeatures: none to compute"], seconds


def _heads(study: run.Study, runs: Sequence[Run]) -> tuple[list[str], float]:
    """Returns what is said of the heads, and their seconds."""
    lines, seconds = ["\nheads:"], 0.0
    rates: dict[str, float] = {}
    said: list[tuple[float, str]] = []
    for group in heads.together(runs, study.alike):
        config, material = group[0][-1].config, study.materials[group[0][0].name]
        width = study.networks[group[0][0].name].feature_count
        key = f"{grid.compiled_alike(config)} {width} {len(group)}"
        if key not in rates:
            rates[key] = _steps_per_second(group, width)
            said.append((rates[key], f"  {config.train.optimizer} on {width:,} features: {rates[key]:,.0f} steps/s"))
        steps = config.train.epochs * sum(
            steps_per_epoch(len(split.train), config.train.batch_size) for split in material.splits
        )
        seconds += steps / rates[key] * len(group) * config.study.seeds
    return lines + [line for _, line in sorted(said)] if said else [], seconds


def _images_per_second(networks: Sequence[Network], batch_size: int) -> float:
    extract = features.make_extractor(networks)
    variables, side = jax.device_put(networks[0].variables), networks[0].preprocessing.image_size
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (batch_size, side, side, 3), np.uint8))
    return batch_size / _fastest(lambda: extract(variables, images))


def _steps_per_second(group: Sequence[Run], width: int) -> float:
    """Returns optimizer steps a second, over all heads that are trained at once."""
    config, seeds = group[0][-1].config, group[0][-1].config.study.seeds
    rows = np.arange(STEPS * config.train.batch_size)
    drawn = np.random.default_rng(0)
    matrix = jnp.asarray(drawn.normal(size=(len(rows), width)).astype(np.float32))
    labels = (rows % 2).astype(np.int32)
    fold = make_folds(config, labels, 2, [Split(0, 0, rows, rows[:2])])[0]
    trainer = frozen.make_heads(config, 2)
    keys = jax.vmap(jax.random.key)(jnp.arange(len(group) * seeds))
    numbers = optim.stack([optim.numbers(each[0].config) for each in group for _ in range(seeds)])
    states = trainer.start(keys, numbers, matrix[:1])
    arguments = states, keys, numbers, matrix, jnp.asarray(labels), fold, jnp.arange(1)
    return STEPS * len(keys) / _fastest(lambda: trainer.epochs(*arguments))


def _fastest(call: Callable[[], Any]) -> float:
    jax.block_until_ready(call())  # compiles
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return min(times)
