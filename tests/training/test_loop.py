"""The fine-tuning loop: equal to the frozen mode where only the head learns; it ends, saves and stops well."""

import csv
import gzip
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training.small_run import (
    STEPS,
    Interrupted,
    One,
    Run,
    after,
    compiled_once,
    identical,
    losses,
    settings,
    small_network,
)

from alljax.cli import main
from alljax.errors import ConfigError, Stopped, WorkdirError
from alljax.interrupts import handle_signals
from alljax.training import loop
from alljax.training.loop import Trained
from alljax.training.network import Network
from alljax.training.sharding import JitMesh, PmapMesh

REPOSITORY = Path(__file__).resolve().parents[2]
CELLS = [
    f"--config={REPOSITORY / 'configs/quickstart.py'}", "--config.data.synthetic.images=96",
    "--config.data.synthetic.subjects=8", "--config.data.synthetic.image_size=32", "--config.model.stage=stage1",
    "--config.preprocessing.image_size=32", "--config.evaluation.resamples=100", "--config.train.loggers=",
]  # fmt: skip
CELL = "efficientnet_lite0-adam"


@pytest.fixture(autouse=True, scope="module")
def _compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs of the same network share their compiled steps."""
    with compiled_once(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module")
def network() -> Network:
    return small_network()


def table(path: Path, *names: str) -> np.ndarray:
    with path.open(newline="") as file:
        return np.array([[float(row[name]) for name in names] for row in csv.DictReader(file)])


# --- the frozen mode


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_equals_the_frozen_regime_when_only_the_head_learns(dropout: float, tmp_path: Path) -> None:
    """The paper's Adam at 1e-4 with its decay, Dense 512, batches of 32 with a short last one, over 200 steps."""
    same = [
        *CELLS, "--config.split.protocol=subject_holdout", "--config.split.validation=0.2", "--config.study.seeds=1",
        "--config.train.epochs=101", "--config.train.checkpoint_steps=1000", "--config.train.keep_best=0",
        f"--config.model.dropout={dropout}",
    ]  # fmt: skip
    for mode in ("frozen", "finetune"):
        assert main(["train", *same, f"--workdir={tmp_path / mode}", f"--config.train.mode={mode}"]) == 0
    frozen, tuned = (tmp_path / mode / "trials" / CELL for mode in ("frozen", "finetune"))
    logged = [json.loads(line) for line in next(tuned.glob("runs/*/metrics.jsonl")).read_text().splitlines()]
    assert logged[-1]["step"] >= 200
    for name, columns in {"history": ("train_loss", "val_loss"), "predictions": ("prob_hem", "prob_all")}.items():
        ours, theirs = (table(each / f"{name}.csv", *columns) for each in (tuned, frozen))
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)
    accuracies = ("train_accuracy", "val_accuracy", "learning_rate")
    np.testing.assert_array_equal(table(tuned / "history.csv", *accuracies), table(frozen / "history.csv", *accuracies))
    assert len(np.unique(table(tuned / "history.csv", "train_loss"))) > 90


def test_every_seed_and_fold_has_a_run_of_its_own(tmp_path: Path) -> None:
    """And each is the run it would be alone."""
    same = [
        *CELLS, "--config.split.folds=2", "--config.train.epochs=1", "--config.model.stage=stem",
        "--config.train.mode=finetune", "--config.train.groups=(('head/.*', 1.0), ('backbone/.*', 0.1))",
    ]  # fmt: skip
    assert main(["train", *same, f"--workdir={tmp_path / 'two'}", "--config.study.seeds=2"]) == 0
    assert main(["train", *same, f"--workdir={tmp_path / 'one'}", "--config.study.seeds=1"]) == 0
    two, one = (tmp_path / name / "trials" / CELL for name in ("two", "one"))
    assert sorted(path.name for path in (two / "runs").iterdir()) == ["0-0-0", "0-0-1", "0-1-0", "0-1-1"]
    for name in ("history.csv", "predictions.csv"):
        lines = (two / name).read_text().splitlines()
        seed = lines[0].split(",").index("seed")
        of_first = [line for line in lines[1:] if line.split(",")[seed] == "0"]
        assert of_first == (one / name).read_text().splitlines()[1:]
        assert 2 * len(of_first) == len(lines) - 1
    assert len(np.unique(table(two / "history.csv", "train_loss"))) == 4


# --- going on


PHASES = settings(
    groups=(("head/.*", 1.0), ("backbone/stem/.*", 0.5), ("backbone/stage1/.*", 0.5, 1.0, 1)), ema_decay=0.9,
    checkpoint_steps=1, clip_norm=1.0,
)  # fmt: skip
"""A group that begins to learn in the second epoch, an average and clipping."""


@pytest.fixture(scope="module")
def whole(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The run of `PHASES` that nobody interrupted."""
    return Run(PHASES, network, tmp_path_factory.mktemp("whole")).train()


@pytest.mark.parametrize("steps", [1, STEPS, 4, 3 * STEPS])
def test_goes_on_to_the_same_bits_from_any_step(steps: int, whole: Trained, network: Network, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        Run(PHASES, network, tmp_path).train(after(steps))
    second = Run(PHASES, network, tmp_path)
    assert identical(second.train(), whole)
    assert f"goes on after step {steps}" in second.said


def test_goes_on_after_its_end(whole: Trained, network: Network, tmp_path: Path) -> None:
    """Ended between the last step and what is made of it, no step is done again."""
    with pytest.raises(Interrupted):
        Run(PHASES, network, tmp_path).train(after(4 * STEPS))
    assert identical(Run(PHASES, network, tmp_path).train(after(1)), whole)


@pytest.mark.parametrize(
    ("change", "devices"),
    [
        ({}, JitMesh),
        ({}, PmapMesh),
        ({}, lambda: JitMesh(2)),
        ({"compute": "bfloat16"}, One),
    ],
    ids=["jit", "pmap", "fsdp", "bfloat16"],
)
def test_goes_on_on_other_devices_and_in_another_precision(
    change: dict[str, Any], devices: Callable[[], Any], network: Network, tmp_path: Path
) -> None:
    """From one device to many and back; bfloat16 rounds what it computes and nothing that is stored."""
    whole = Run(settings(), network, tmp_path / "whole").train()
    with pytest.raises(Interrupted):
        Run(settings(), network, tmp_path / "parts").train(after(2))
    with pytest.raises(Interrupted):
        Run(settings(**change), network, tmp_path / "parts", devices()).train(after(6))
    parts = Run(settings(), network, tmp_path / "parts").train()
    tolerance = 0.03 if change else 1e-4
    np.testing.assert_allclose(parts.history, whole.history, atol=tolerance)
    np.testing.assert_allclose(parts.logits, whole.logits, atol=tolerance)
    assert not identical(parts, whole) or not change


def test_asked_to_stop(network: Network, tmp_path: Path) -> None:
    """SIGTERM, and SIGUSR1 as Slurm sends it: saved after the step under way, whatever ``checkpoint_steps``."""
    config = settings(checkpoint_steps=1000, keep_best=0)
    whole = Run(config, network, tmp_path / "whole").train()
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGUSR1)]
    for number, step in ((signal.SIGTERM, 2), (signal.SIGUSR1, 7)):

        def ask(units: int, note: str = "", number: int = number) -> None:
            if units == 8:
                os.kill(os.getpid(), number)

        run = Run(config, network, tmp_path / "parts")
        with handle_signals(), pytest.raises(Stopped, match=rf"stopped after step \d+ of {4 * STEPS}, saved in "):
            run.train(ask)
        assert run.saved()
        assert max(run.saved()) <= step
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGUSR1)] == before
    assert identical(Run(config, network, tmp_path / "parts").train(), whole)


# --- ending


def test_early_stopping_gives_the_best_epoch(network: Network, tmp_path: Path) -> None:
    """The parameters are those of a run that ended there, and a stopped run knows that it is over."""
    config = settings(epochs=12, learning_rate=0.02, patience=2, schedule="constant", keep_latest=1)
    stopped = Run(config, network, tmp_path / "stopped", told=0).train()
    best = int(np.argmin(losses(stopped.history)))
    assert len(stopped.history) == best + 3 < 12
    short = settings(epochs=best + 1, learning_rate=0.02, schedule="constant")
    expected = Run(short, network, tmp_path / "short", told=0).train()
    assert stopped.history[: best + 1] == expected.history
    np.testing.assert_array_equal(stopped.logits, expected.logits)
    assert all(np.array_equal(stopped.params[path], leaf) for path, leaf in expected.params.items())
    assert identical(Run(config, network, tmp_path / "stopped", told=0).train(), stopped)


def test_the_checkpoints_that_are_kept(network: Network, tmp_path: Path) -> None:
    """The newest, and those of the two lowest validation losses."""
    config = settings(epochs=8, learning_rate=0.02, schedule="constant", keep_latest=1, keep_best=2)
    run = Run(config, network, tmp_path, told=0)
    history = run.train().history
    best = {(epoch + 1) * STEPS for epoch in np.argsort(losses(history))[:2]}
    assert best != {7 * STEPS, 8 * STEPS}
    assert set(run.saved()) == best | {8 * STEPS}


def test_layers_learn_from_their_epoch_on(network: Network, tmp_path: Path) -> None:
    """Parameters and statistics stay bit for bit until then."""
    entries = (("head/.*", 1.0), ("backbone/stem/.*", 0.0), ("backbone/stage1/.*", 1.0, 1.0, 2))
    run = Run(settings(groups=entries, checkpoint_steps=1, keep_latest=100), network, tmp_path)
    run.train()
    states = [run.state_at(step) for step in range(1, 4 * STEPS + 1)]
    backbone = [name for name in states[0] if "params['backbone/stage1" in name]
    statistics = [name for name in states[0] if "batch_stats" in name and "stage1" in name]
    head = next(name for name in states[0] if "params['head/dense/kernel" in name)
    assert backbone
    assert statistics
    assert not any("params['backbone/stem" in name for name in states[0])

    def moved(names: list[str], step: int) -> list[bool]:
        return [not np.array_equal(states[step - 2][name], states[step - 1][name]) for name in names]

    for step in range(2, 4 * STEPS + 1):
        assert all(moved([head], step))
        assert moved(backbone + statistics, step) == [step > 2 * STEPS] * len(backbone + statistics)
    stem = [name for name in states[0] if "batch_stats" in name and "stem" in name]
    assert all(np.array_equal(states[0][name], states[-1][name]) for name in stem)


@pytest.mark.parametrize(
    ("at", "where"),
    [
        (1, "between steps 2 and 3; none was saved before"),
        (6, "between steps 6 and 8; the last good checkpoint is step 4 in"),
        (4 * STEPS - 1, "between steps 12 and 12; the last good checkpoint is step 8 in"),
    ],
)
def test_no_number_any_more(at: int, where: str, network: Network, tmp_path: Path) -> None:
    """Told with the steps between which it happened, the very last one included, and never saved."""
    config = settings(
        optimizer="sgd", momentum=0.0, decay_steps=at, decay_rate=1e38, staircase=True, checkpoint_steps=4, keep_best=0
    )
    run = Run(config, network, tmp_path)
    with pytest.raises(ConfigError, match=where):
        run.train()
    assert all(np.isfinite(leaf).all() for step in run.saved() for leaf in run.state_at(step).values())


def test_a_failed_save_is_an_error_of_the_run(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orbax.checkpoint import v1 as ocp

    class Failing:
        def result(self) -> None:
            raise OSError(28, "No space left on device")

    save = ocp.training.Checkpointer.save_checkpointables_async

    def fail(self: Any, step: int, *arguments: Any, **more: Any) -> Any:
        return Failing() if step == 6 else save(self, step, *arguments, **more)

    monkeypatch.setattr(ocp.training.Checkpointer, "save_checkpointables_async", fail)
    run = Run(settings(keep_best=0), network, tmp_path)
    with pytest.raises(WorkdirError, match=r"checkpoints/6: .*No space left"):
        run.train()
    assert run.saved() == [2, 4]


# --- around it


def test_no_array_moves_unasked(network: Network, tmp_path: Path) -> None:
    """The transfer guard stands around the loop: what a step forgets to place is an error, not a slow run."""

    def forgetful(units: int, note: str = "") -> None:
        jnp.sin(np.ones(3, np.float32))

    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device transfer"):
        Run(settings(), network, tmp_path).train(forgetful)
    jnp.sin(np.ones(3, np.float32))


def test_a_profile_of_three_steps(network: Network, tmp_path: Path) -> None:
    config = settings(epochs=3)
    config.profile = 3
    Run(config, network, tmp_path).train()
    (trace,) = (tmp_path / "profile").rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert sorted(int(each["args"]["step_num"]) for each in events if each.get("name") == "step") == [2, 3, 4]


def test_progress_is_told_cell_by_cell(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "memory", lambda: "1.2 GiB")
    told: list[int] = []

    def count(units: int, note: str = "") -> None:
        assert bool(units) != bool(re.fullmatch(r"loss \d\.\d{3} 1\.2 GiB", note))
        told.append(units)
        if units and sum(told) == 21 + 8:
            raise Interrupted

    with pytest.raises(Interrupted):
        Run(settings(checkpoint_steps=1), network, tmp_path).train(count)
    assert [units for units in told if units] == [8, 8, 5, 8]
    told = []
    Run(settings(checkpoint_steps=1), network, tmp_path).train(lambda units, note="": told.append(units))
    assert told[0] == 21 + 8
    assert sum(told) == 4 * 21
