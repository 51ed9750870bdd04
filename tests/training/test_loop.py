"""The training loop: equal to the frozen mode where only the head is trained; resuming, stopping, learning rates."""

import gzip
import itertools
import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from training.small_run import (
    CLASSES,
    GROUPS,
    SPLIT,
    STEPS,
    Images,
    Interrupted,
    Run,
    after,
    identical,
    settings,
    small_network,
)  # fmt: skip

from alljax import interrupts
from alljax.cli import main
from alljax.errors import ConfigError, Stopped
from alljax.training import loop
from alljax.training.network import Network
from alljax.training.sampling import make_fold_rows
from alljax.training.sharding import Mesh, PmapMesh

REPOSITORY = Path(__file__).resolve().parents[2]
TOY = [
    f"--config={REPOSITORY / 'configs/quickstart.py'}", "--config.data.synthetic.images=96",
    "--config.data.synthetic.subjects=8", "--config.data.synthetic.image_size=32", "--config.model.stage=stem",
    "--config.preprocessing.image_size=32", "--config.evaluation.resamples=100", "--config.train.loggers=",
]  # fmt: skip
TRIAL = "efficientnet_lite0-adam"


@pytest.fixture(scope="module")
def network() -> Network:
    return small_network()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_equals_the_frozen_mode_with_a_frozen_backbone(dropout: float, tmp_path: Path) -> None:
    """The paper's Adam at 1e-4 with its decay, Dense 512, batches of 32 with a short last one, over 200 steps."""
    same = [
        *TOY, "--config.split.protocol=subject_holdout", "--config.split.validation=0.2", "--config.study.seeds=1",
        "--config.train.epochs=101", "--config.train.checkpoint_steps=1000", "--config.train.keep_best=0",
        f"--config.model.dropout={dropout}",
    ]  # fmt: skip
    for mode in ("frozen", "finetune"):
        assert main(["train", *same, f"--workdir={tmp_path / mode}", f"--config.train.mode={mode}"]) == 0
    for name in ("history.csv", "predictions.csv"):
        tuned, frozen = (pandas.read_csv(tmp_path / mode / "trials" / TRIAL / name) for mode in ("finetune", "frozen"))
        pandas.testing.assert_frame_equal(tuned, frozen, atol=1e-5, rtol=0)
        if name == "history.csv":
            assert tuned["train_loss"].nunique() > 90
            exact = ["train_accuracy", "val_accuracy", "learning_rate"]
            assert tuned[exact].equals(frozen[exact])


PHASES = settings(
    groups=(*GROUPS[:2], ("backbone/stage1/.*", 0.5, 1.0, 1)), ema_decay=0.9, checkpoint_steps=1, clip_norm=1.0
)
"""A group that is trained from the second epoch on, a moving average and clipping."""


@pytest.fixture(scope="module")
def complete(network: Network, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[Any]]:
    """The run of `PHASES` that was never interrupted, and what it logged."""
    folder = tmp_path_factory.mktemp("complete")
    return Run(PHASES, network, folder).train(), logged(folder)


def logged(folder: Path) -> list[dict[str, float]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line | {"images_per_second": 0.0} for line in lines]


@pytest.mark.parametrize("steps", [1, STEPS, 4 * STEPS])
def test_interrupted_run_resumes_to_the_same_bits(
    steps: int, complete: tuple[dict[str, Any], list[Any]], network: Network, tmp_path: Path, messages: list[str]
) -> None:
    """Results and logged metrics, whether or not the step was logged or ended an epoch."""
    with pytest.raises(Interrupted):
        Run(PHASES, network, tmp_path).train(after(steps))
    assert identical(Run(PHASES, network, tmp_path).train(), complete[0])
    assert f"resuming after step {steps}" in messages
    assert logged(tmp_path) == complete[1]


def test_history_keeps_the_learning_rates_that_were_used(network: Network, tmp_path: Path) -> None:
    """A run that resumes with another learning rate, as --resume=force allows."""
    first, second = (settings(schedule="constant", learning_rate=rate) for rate in (0.5, 0.25))
    with pytest.raises(Interrupted):
        Run(first, network, tmp_path).train(after(2 * STEPS))
    history = Run(second, network, tmp_path).train()["history"]
    assert [row.learning_rate for row in history] == [0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("mesh", [PmapMesh, lambda: Mesh(2)], ids=["pmap", "fsdp"])
def test_resumes_on_other_devices(mesh: Callable[[], Any], network: Network, tmp_path: Path) -> None:
    """From one device to eight and back."""
    complete = Run(settings(), network, tmp_path / "complete").train()
    with pytest.raises(Interrupted):
        Run(settings(), network, tmp_path / "parts").train(after(2))
    with pytest.raises(Interrupted):
        Run(settings(), network, tmp_path / "parts", mesh=mesh()).train(after(4))
    parts = Run(settings(), network, tmp_path / "parts").train()
    np.testing.assert_allclose(parts["history"], complete["history"], atol=1e-4)
    np.testing.assert_allclose(parts["logits"], complete["logits"], atol=1e-4)


def test_stop_request_saves_the_run(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is saved after the current step, whatever ``checkpoint_steps``."""
    config = settings(checkpoint_steps=1000, keep_best=0)
    complete = Run(config, network, tmp_path / "complete").train()

    def update(calls: list[int], needed: int, images: int, note: str = "") -> None:
        calls.append(images)
        if calls.count(8) == needed:
            monkeypatch.setattr(interrupts, "requested", signal.SIGTERM)

    for step in (1, 2):
        run = Run(config, network, tmp_path / "parts")
        with pytest.raises(Stopped, match=rf"stopped after step \d+ of {4 * STEPS}, saved in "):
            run.train(partial(update, [], step))  # the second run first reports the step at which it resumes
        monkeypatch.undo()
        assert step <= max(run.saved()) <= 7
    assert identical(Run(config, network, tmp_path / "parts").train(), complete)
    monkeypatch.setattr(interrupts, "requested", signal.SIGTERM)
    with pytest.raises(Stopped, match="stopped by SIGTERM"):  # before the first step is compiled
        Run(config, network, tmp_path / "new").train()


def test_early_stopping_returns_the_best_epoch(network: Network, tmp_path: Path) -> None:
    """The parameters are those of a run that ends there, and a resumed run does not continue."""
    rising = {"learning_rate": 0.02, "schedule": "constant", "keep_latest": 1}
    config = settings(epochs=12, patience=2, **rising)
    stopped = Run(config, network, tmp_path / "stopped", contrast=0).train()
    best = int(np.argmin([row.val_loss for row in stopped["history"]]))
    assert len(stopped["history"]) == best + 3 < 12
    expected = Run(settings(epochs=best + 1, **rising), network, tmp_path / "short", contrast=0).train()
    assert stopped["history"][: best + 1] == expected["history"]
    assert identical((stopped["params"], stopped["logits"]), (expected["params"], expected["logits"]))
    assert identical(Run(config, network, tmp_path / "stopped", contrast=0).train(), stopped)


def test_layers_are_trained_from_their_epoch_on(network: Network, tmp_path: Path) -> None:
    """Until then their parameters and statistics keep the same bits."""
    groups = (GROUPS[0], ("backbone/stem/.*", 0.0), ("backbone/stage1/.*", 1.0, 1.0, 2))
    run = Run(settings(groups=groups, checkpoint_steps=1, keep_latest=100), network, tmp_path)
    run.train()
    states = [run.state_at(step) for step in range(1, 4 * STEPS + 1)]
    changed = [
        {name for name in before if not np.array_equal(before[name], now[name])}
        for before, now in itertools.pairwise(states)
    ]
    late = {name for name in states[0] if "stage1" in name and ("params['backbone" in name or "batch_stats" in name)}
    assert len(late) > 5
    for step, names in enumerate(changed, start=2):
        assert any("params['head/dense/kernel" in name for name in names)
        assert names & late == (late if step > 2 * STEPS else set())
        assert not any("stem" in name for name in names), "neither parameters nor statistics"


@pytest.mark.parametrize(
    ("at", "where"),
    [
        (1, "between steps 2 and 3; no checkpoint was saved"),
        (4 * STEPS - 1, "between steps 12 and 12; the last good checkpoint is step 8 in"),
    ],
)
def test_divergence_is_an_error_with_its_steps(at: int, where: str, network: Network, tmp_path: Path) -> None:
    """Also in the very last step; values that are not finite are never saved."""
    config = settings(
        optimizer="sgd", momentum=0.0, decay_steps=at, decay_rate=1e38, staircase=True, checkpoint_steps=4, keep_best=0
    )
    run = Run(config, network, tmp_path)
    with pytest.raises(ConfigError, match=f"became NaN or infinite {where}"):
        run.train()
    assert all(np.isfinite(leaf).all() for step in run.saved() for leaf in run.state_at(step).values())


def test_profile_contains_three_steps(network: Network, tmp_path: Path) -> None:
    config = settings()
    config.profile = 3
    Run(config, network, tmp_path).train()
    (trace,) = (tmp_path / "profile").rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert sorted(int(event["args"]["step_num"]) for event in events if event.get("name") == "step") == [2, 3, 4]


RATES = (3e-3, 1e-4, 1e30)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw", "weight_decay": 0.1, "accumulation_steps": 2, "clip_norm": 0.5},
        {"optimizer": "sgd", "groups": (GROUPS[0], ("backbone/.*", 0.0)), "schedule": "cosine", "ema_decay": 0.9},
    ],
)
def test_losses_equal_those_of_single_runs(
    changes: dict[str, Any], network: Network, compilations: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "RATES", RATES)
    monkeypatch.setattr(loop, "STEPS", 6)
    images, config = Images(), settings(**changes)
    fold = make_fold_rows(config, images.labels, CLASSES, [SPLIT])[0]
    table = loop.find_learning_rate(config, network, images, fold)
    losses = table["loss"].to_numpy().reshape(-1, 6)
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
