"""The learning rate finder: its losses are those of ordinary runs, the best rate is chosen, `alljax lr-find`."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from training.small_run import CLASSES, GROUPS, SPLIT, Images, Run, settings, small_network

from alljax.cli import main
from alljax.errors import ConfigError
from alljax.training import loop
from alljax.training.sampling import make_fold_rows
from alljax.training.sharding import Mesh

STEPS = 6
RATES = (3e-3, 1e-4, 1e30)
TOY = [
    f"--config={Path(__file__).resolve().parents[2] / 'configs/finetune.py'}:toy", "--config.model.stage=stem",
    "--config.preprocessing.image_size=32", "--config.data.synthetic.images=24", "--config.data.synthetic.subjects=8",
    "--config.split.test_fraction=0.25", "--config.split.validation=0.25", "--config.train.batch_size=8",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "STEPS", STEPS)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw", "weight_decay": 0.1, "accumulation_steps": 2, "clip_norm": 0.5},
        {"optimizer": "sgd", "groups": (GROUPS[0], ("backbone/.*", 0.0)), "schedule": "cosine", "ema_decay": 0.9},
    ],
)
def test_losses_equal_those_of_single_runs(
    changes: dict[str, Any], compilations: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "RATES", RATES)
    network, images, config = small_network(), Images(), settings(**changes)
    fold = make_fold_rows(config, images.labels, CLASSES, [SPLIT])[0]
    table = loop.find_learning_rate(config, network, images, fold)
    losses = table["loss"].to_numpy().reshape(-1, STEPS)
    assert compilations.count("jit(step)") == 1
    assert not np.isfinite(losses[2, -1])
    assert loop.best_rate(table) == RATES[0]
    plain = {"learning_rate": RATES[0], "schedule": "constant", "ema_decay": 0.0}
    single = Run(settings(**(changes | plain)), network, seed=0, mesh=Mesh())
    state = single.tuner.init(single.inputs)
    for batch, expected in zip(single.loader.train(0), losses[0], strict=False):
        state = single.tuner.step(single.tuner.reset_metrics(state), batch, single.inputs, epoch=0)
        np.testing.assert_allclose(state.metrics.loss / state.metrics.count, expected, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_best_rate_ignores_divergence_and_uses_the_last_steps(bad: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "STEPS", 10)
    losses = np.tile(np.linspace(1.0, 0.5, 10), (4, 1))
    losses[0, :8] = 0.0  # low only in the first steps
    losses[1, -1] = bad
    losses[2, -2:] = 0.4
    losses[3] = bad
    table = pandas.DataFrame({"learning_rate": np.repeat([1e-4, 1e-3, 1e-2, 1e-1], 10), "loss": losses.ravel()})
    table["step"] = np.tile(np.arange(1, 11), 4)
    assert loop.best_rate(table) == 1e-2
    table["loss"] = table["loss"].where(table["step"] < 10, bad)
    with pytest.raises(ConfigError, match="NaN or infinite at every learning rate;"):
        loop.best_rate(table)


@pytest.mark.parametrize("mode", ["finetune", "frozen"])
def test_verb_writes_each_step_of_each_rate(mode: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where an epoch has fewer steps than a run."""
    out = tmp_path / "new" / "rates.csv"
    groups = "(('head/.*', 1.0), ('backbone/.*', 0.3))" if mode == "finetune" else "()"
    arguments = [f"--config.train.groups={groups}", f"--config.train.mode={mode}", "--config.train.epochs=1"]
    assert main(["lr-find", *TOY, *arguments, f"--out={out}"]) == 0
    table = pandas.read_csv(out)
    assert table["step"].to_list() == list(range(1, STEPS + 1)) * len(loop.RATES)
    np.testing.assert_allclose(table["learning_rate"], loop.RATES.repeat(STEPS), rtol=1e-5)
    losses = table["loss"].to_numpy().reshape(-1, STEPS)
    assert np.ptp(losses[:, 0]) < 1e-5, "the first loss is before the first step"
    assert np.ptp(losses[:, -1]) > 0.01
    assert f"train.learning_rate={loop.best_rate(table):.3g}" in capsys.readouterr().out
