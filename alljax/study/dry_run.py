"""What a study would do, before it does it: its cells, what they share, and how long that takes here."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
from absl import logging
from ml_collections import ConfigDict

from alljax.errors import plural
from alljax.progress import duration
from alljax.study import estimate, extraction, run, sweep, trials
from alljax.study.sweep import Trial
from alljax.study.trials import Run
from alljax.training import feature_extraction, parameter_groups
from alljax.training.fold import steps_per_epoch


def dry_run(config: ConfigDict, folder: Path, shard: tuple[int, int] = (0, 1)) -> None:
    """Prints the cells of a study, what they share, and the time that follows from rates measured now.

    The images are looked at, nothing is written.

    Args:
        config: from `alljax.config.load`.
        folder: the working directory; cells that are done in it are not counted.
        shard: i and n, as in `run.run_study`.

    Raises:
        UserError: the source, the weights or the folder cannot be used.
    """
    study = run.open_study(config, folder)
    runs = sweep.runs(study.trials)
    own = [tuple(trial for trial in each if not study.done(trial)) for each in runs[shard[0] :: shard[1]]]
    own = [each for each in own if each]
    logging.info(f"\n{plural(len(study.trials), 'trial')} in {plural(len(runs), 'run')}:")
    for line in _runs(runs):
        logging.info(line)
    if shard[1] > 1 or sum(map(len, own)) < len(study.trials):
        logging.info(
            f"of these {plural(sum(map(len, own)), 'trial')} would be run now: those of shard {shard[0]}/{shard[1]} "
            "that are not done yet"
        )
    logging.info("\nimages:")
    for line in _divisions(study):
        logging.info(line)
    frozen = [each for each in own if each[0].config.train.mode == "frozen"]
    networks = [each[0] for each in own if each[0].config.train.mode == "finetune"]
    seconds = 0.0
    for lines, of_lines in (_features(study, config, frozen), _heads(study, frozen), _networks(study, networks)):
        for line in lines:
            logging.info(line)
        seconds += of_lines
    logging.info(f"\ntogether about {duration(seconds)}, besides evaluation and the report")


def _runs(runs: Sequence[Run]) -> Iterator[str]:
    for each in runs:
        epochs = ", ".join(str(trial.config.train.epochs) for trial in each)
        shared = f", beginnings of one run of {each[-1].config.train.epochs}" if len(each) > 1 else ""
        yield f"  {trials.run_name(each)}: {epochs} epochs{shared}"


def _divisions(study: run.Plan) -> Iterator[str]:
    of_split = {trial.split: trial for trial in study.trials}
    for name, trial in of_split.items():
        material, size = study.materials[trial.name], trial.config.train.batch_size
        sides = [f"{len(split.train):,} / {len(split.test):,}" for split in material.splits]
        several = f", … ({len(sides)} folds)" if len(sides) > 1 else ""
        steps = steps_per_epoch(len(material.splits[0].train), size)
        yield f"  {name}: learned from / tested: {sides[0]}{several}; {steps:,} steps an epoch"


def _features(study: run.Plan, config: ConfigDict, runs: Sequence[Run]) -> tuple[list[str], float]:
    """Returns what is said of the features, and the seconds of those that are missing."""
    lines, seconds = ["\nfeatures:"], 0.0
    used = {id(network) for network in (study.networks[each[0].name] for each in runs)}
    passes = [
        (needed, views) for networks, views in study.features.missing()
        if (needed := [network for network in networks if id(network) in used])
    ]  # fmt: skip
    count = len(next(iter(study.materials.values())).labels)
    for networks, views in passes:
        rate = estimate.images_per_second(networks, config.features.batch_size) / feature_extraction.VIEWS[views]
        took = count / rate
        seconds += took
        for network in networks:
            size = 4 * count * feature_extraction.VIEWS[views] * network.feature_count
            where = extraction.on_disk(config.features.memory, size)
            read = f"; heads read them from disk: {where}" if where else ""
            lines.append(
                f"  {network.backbone.name} {network.stage} {network.pool}: {count:,} × {network.feature_count:,}, "
                f"{size / 1e6:,.0f} MB{read}"
            )
        lines.append(f"  one pass of {networks[0].backbone.name}: {rate:,.1f} images/s, about {duration(took)}")
    return lines if passes else ["\nfeatures: none to compute"], seconds


def _heads(study: run.Plan, runs: Sequence[Run]) -> tuple[list[str], float]:
    """Returns what is said of the heads, and their seconds."""
    lines, seconds = ["\nheads:"], 0.0
    rates: dict[str, float] = {}
    said: list[tuple[float, str]] = []
    for group in trials.together(runs, study.alike):
        config, material = group[0][-1].config, study.materials[group[0][0].name]
        width = study.networks[group[0][0].name].feature_count
        key = f"{sweep.compiled_alike(config)} {width} {len(group)}"
        if key not in rates:
            rates[key] = estimate.head_steps_per_second(group, width)
            said.append((rates[key], f"  {config.train.optimizer} on {width:,} features: {rates[key]:,.0f} steps/s"))
        steps = config.train.epochs * sum(
            steps_per_epoch(len(split.train), config.train.batch_size) for split in material.splits
        )
        seconds += steps / rates[key] * len(group) * config.study.seeds
    return lines + [line for _, line in sorted(said)] if said else [], seconds


def _networks(study: run.Plan, trials: Sequence[Trial]) -> tuple[list[str], float]:
    """Returns what is said of the fine-tuned networks, and their seconds."""
    lines, seconds = ["\nfine-tuned networks:"], 0.0
    paces: dict[str, estimate.NetworkPace] = {}
    for trial in trials:
        config, network = trial.config, study.networks[trial.name]
        phases = parameter_groups.phases(parameter_groups.read(config.train.groups), config.train.epochs)
        key = f"{id(network)} {phases} {config.augment} {config.parallel} {config.mesh} {sweep.compiled_alike(config)}"
        try:
            paces[key] = paces.get(key) or estimate.network_pace(config, network)
        except jax.errors.JaxRuntimeError as error:
            lines.append(f"  {trial.name}: the device gave up: {run.first_line(error)}")
            continue
        found, size, took = paces[key], config.train.batch_size, 0.0
        for split in study.materials[trial.name].splits:
            watched = split.validation if len(split.validation) else split.test
            of_validation, of_test = (-(-len(rows) // size) for rows in (watched, split.test))
            steps = steps_per_epoch(len(split.train), size)
            took += config.study.seeds * found.of_run(config.train.epochs, steps, of_validation, of_test)
        each = ", then ".join(f"{size / step:,.1f}" for step in found.steps.values())
        lines.append(
            f"  {trial.name}: {each} images/s, at most {found.start:.0f} s to start each, about {duration(took)}"
        )
        seconds += took
    return lines if trials else [], seconds
