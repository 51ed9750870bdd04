"""Heads: an LSTM equals one in NumPy, and studies with each kind of head predict and explain images."""

import json
from pathlib import Path

import jax
import numpy as np
from PIL import Image
from scipy.special import expit

from alljax.cli import main
from alljax.config import default_config, vary
from alljax.data.synthetic import render_cell
from alljax.models.head import make_head

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def test_lstm_equals_numpy() -> None:
    config = vary(default_config(), {"classifier.name": "lstm", "model.hidden": 6})
    head = make_head(config, 3, (5, 4))
    features = np.random.default_rng(0).standard_normal((2, 20)).astype(np.float32)
    params = head.init(jax.random.key(0), features)["params"]
    cell, last = jax.tree.map(np.asarray, (params["lstm"], params["predictions"]))
    state, memory = np.zeros((2, 6)), np.zeros((2, 6))
    for step in features.reshape(2, 5, 4).transpose(1, 0, 2):
        inputs, forget, new, output = (
            step @ cell[f"i{gate}"]["kernel"] + state @ cell[f"h{gate}"]["kernel"] + cell[f"h{gate}"]["bias"]
            for gate in "ifgo"
        )
        memory = expit(forget) * memory + expit(inputs) * np.tanh(new)
        state = expit(output) * np.tanh(memory)
    np.testing.assert_allclose(
        head.apply({"params": params}, features), state @ last["kernel"] + last["bias"], atol=1e-6
    )


def test_linear_and_lstm_heads_are_trained_and_used(tmp_path: Path) -> None:
    keys = "classifier.name", "features.extractor", "features.select"
    rows = ("linear", ("backbone",), ()), ("lstm", ("backbone",), ()), ("lstm", ("dct",), ("standardize",))
    settings = {
        "data.synthetic.images": 24, "data.synthetic.image_size": 32, "preprocessing.image_size": 32,
        "model.stage": "stem", "model.pool": "flatten", "model.hidden": 8, "train.epochs": 1, "split.folds": 2,
        "evaluation.resamples": 100, "evaluation.inner_folds": 0, "study.sweep": ((keys, rows),),
    }  # fmt: skip
    words = [f"--config.{key}={value}" for key, value in settings.items()]
    folder = tmp_path / "study"
    assert main(["study", f"--config={CONFIGS / 'quickstart.py'}", *words, f"--workdir={folder}"]) == 0
    trials = json.loads((folder / "metrics.json").read_text())["trials"]
    assert len(trials) == 3
    Image.fromarray(render_cell(0, "1", 1, 1, 32)).save(tmp_path / "cell.png")
    for number, trial in enumerate(trials):
        command = [f"--workdir={folder}", f"--trial={trial}", str(tmp_path / "cell.png")]
        assert main(["predict", *command, f"--out={tmp_path / f'{number}.csv'}"]) == 0
    assert main(["explain", *command, f"--out={tmp_path / 'explained'}"]) == 0
