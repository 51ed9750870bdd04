"""Fine-tuned runs of different lengths side by side, as files of a cell."""

from types import SimpleNamespace

import numpy as np

from alljax.config import default_config, vary
from alljax.data.splits import Split
from alljax.study import finetuned, results


def ended_after(epochs: int, seed: int) -> dict:
    draw = np.random.default_rng(seed)
    return {
        "params": {"head": {"bias": draw.normal(size=2)}},
        "batch_stats": {},
        "history": draw.random((epochs, 4)),
        "logits": draw.normal(size=(3, 2)),
    }


def test_runs_that_ended_early_have_no_rows_after_their_end() -> None:
    config = vary(default_config(), {"train.epochs": 5, "study.seeds": 2})
    trees = [ended_after(2, seed=0), ended_after(5, seed=1)]
    runs = finetuned._joined(trees, config.train.epochs)
    split = Split(0, 0, np.arange(8), np.arange(8, 11))
    rows = list(results._history(config, SimpleNamespace(splits=[split]), [runs], seeds=[0, 1]))  # type: ignore[arg-type]
    assert [(row[2], row[3]) for row in rows] == [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3), (1, 4), (1, 5)]
    assert not any("nan" in str(trial) for row in rows for trial in row)
    expected = [f"{value:.9g}" for value in trees[0]["history"].astype(np.float32)[1]]
    np.testing.assert_allclose([float(trial) for trial in rows[1][5:]], [float(trial) for trial in expected], rtol=1e-6)
    np.testing.assert_allclose(runs.probabilities.sum(-1), 1, rtol=1e-6)
    assert runs.params["params"]["head"]["bias"].shape == (2, 2)
