"""Learning rate finder: a short run at each of many constant rates."""

import itertools

import jax
import numpy as np
import pandas
from absl import logging
from ml_collections import ConfigDict

from alljax import config as configs
from alljax import interrupts
from alljax.data.loader import ImageSource
from alljax.errors import ConfigError
from alljax.training.fine_tuning import FineTuner
from alljax.training.loop import FoldLoader
from alljax.training.network import Network
from alljax.training.sampling import FoldRows
from alljax.training.sharding import make_mesh

RATES = np.logspace(-6, 0, 13).astype(np.float32)
"""Two per decade from 1e-6 to 1."""

STEPS = 50
"""Of the run at each rate.  Rates are compared by the mean loss of the last fifth of them."""


def find_learning_rate(config: ConfigDict, network: Network, images: ImageSource, fold: FoldRows) -> np.ndarray:
    """Returns the mean loss of the batch before each step at each of `RATES`, float32 (R, STEPS), in nats.

    All runs start from the same parameters and see the same batches; the step is compiled once.  (After Smith 2015,
    arXiv 1506.01186, who raises the rate during one run; here each rate has its own run.)  In the frozen mode the
    backbone runs too: features are not computed beforehand.  Learning rate and schedule of the config are ignored.
    """
    changes = {"schedule": "constant", "learning_rate": 1.0, "warmup_steps": 0, "ema_decay": 0.0, "epochs": STEPS}
    config = configs.vary(config, {f"train.{name}": value for name, value in changes.items()})
    mesh, key = make_mesh(config), jax.random.key(config.seed)
    tuner = FineTuner(config, network, len(fold.class_weights), mesh)
    loader = FoldLoader(config, images, fold, key, mesh)
    run, losses = tuner.inputs(key, fold.class_weights, STEPS), np.empty((len(RATES), STEPS), np.float32)
    for row, rate in zip(losses, RATES, strict=True):
        numbers = run.hyperparameters.replace(learning_rate=mesh.replicate(rate))  # type: ignore[attr-defined]
        inputs, state = run.replace(hyperparameters=numbers), tuner.init(run)  # type: ignore[attr-defined]
        for step, batch in enumerate(itertools.islice(loader.train(0), STEPS)):
            interrupts.check()
            state = tuner.step(tuner.reset_metrics(state), batch, inputs, epoch=0)
            row[step] = mesh.gather(state.metrics).means[0]
        logging.info(f"{rate:9.2e}   loss {row[0]:.3f} → {row[-STEPS // 5 :].mean():.3f}")
    return losses


def best_rate(losses: np.ndarray) -> float:
    """Returns the one of `RATES` with the lowest mean loss of the last steps; raises `ConfigError` if all diverged."""
    final = losses[:, -STEPS // 5 :].mean(1)
    finite = np.isfinite(final)
    if not finite.any():
        raise ConfigError(
            f"the loss became NaN or infinite at every learning rate from {RATES.min():.3g} to {RATES.max():.3g}; set "
            "train.clip_norm, or check preprocessing and train.groups"
        )
    return float(RATES[np.where(finite, final, np.inf).argmin()])


def table(losses: np.ndarray) -> pandas.DataFrame:
    """Returns the losses as a table with the columns ``learning_rate, step, loss``."""
    rates, steps = np.meshgrid([f"{rate:.6g}" for rate in RATES], np.arange(1, STEPS + 1), indexing="ij")
    return pandas.DataFrame({"learning_rate": rates.ravel(), "step": steps.ravel(), "loss": losses.ravel()})
