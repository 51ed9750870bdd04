"""The learning-rate finder of a config: a table of rates on its first split."""

from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from alljax import config as configs
from alljax import files
from alljax.study import sweep, workdir
from alljax.study.experiment import open_experiment
from alljax.training import lr_finder, sharding
from alljax.training.feeding import Feed
from alljax.training.sampling import make_fold_rows

STEPS = 50


def find_rate(config: ConfigDict, out: Path) -> float:
    """Trains briefly at many constant rates, writes ``learning_rate, step, loss`` and returns the best rate.

    The first cell of the study, its first split and seed are taken, and `STEPS` steps, over as many epochs as that
    needs.  In the frozen mode the backbone runs too: its features are not computed beforehand.

    Args:
        config: from `alljax.config.load`, either mode.
        out: the CSV to write.

    Raises:
        UserError: the source or the weights cannot be used, `out` cannot be written, or no rate learns.
    """
    import pandas

    files.check_output(out)
    trial = sweep.expand(config)[0]
    config, experiment = trial.config, open_experiment(trial.config, [trial])
    network, classes = experiment.network(trial), experiment.num_classes
    fold = make_fold_rows(config, experiment.labels, classes, experiment.folds(trial))[0]
    key = jax.random.key(config.seed)
    enough = configs.vary(config, {"train.epochs": STEPS})  # an epoch may be a single step
    source = experiment.images(trial, again=True)
    feed = Feed(enough, source, fold, key, sharding.JitMesh())
    logging.info(f"{STEPS} steps at each of {len(lr_finder.RATES)} learning rates …")
    losses = lr_finder.sweep(config, network, classes, feed, np.asarray(fold.class_weights), key, STEPS)
    steps = pandas.DataFrame(_rows(losses), columns=["learning_rate", "step", "loss"])
    workdir.write_csv(out, steps)
    for rate, first, end in zip(lr_finder.RATES, losses[:, 0], lr_finder.ends(losses), strict=True):
        logging.info(f"{rate:9.2e}   loss {first:.3f} → {end:.3f}")
    return lr_finder.best(losses)


def _rows(losses: np.ndarray) -> Iterator[tuple[str, int, str]]:
    for rate, of_rate in zip(lr_finder.RATES, losses, strict=True):
        for step, loss in enumerate(of_rate, start=1):
            yield f"{rate:.6g}", step, f"{loss:.9g}"
