"""The ensemble of a trial: every head predicts what the study stored for its held-out images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
from ml_collections import ConfigDict

from alljax.study import results
from alljax.study.ensemble import open_ensemble
from alljax.study.run import run_study


@pytest.mark.parametrize("mode", ["frozen", "finetune"])
def test_heads_predict_as_in_the_study(
    mode: str, toy_config: Callable[..., ConfigDict], tmp_path: Path, compilations: list[str]
) -> None:
    """Block by block, without labels, and without compiling again for a second data set."""
    settings = {"train__mode": mode, "split__repeats": 2, "study__seeds": 2, "features__batch_size": 10, "seed": 3}
    config = toy_config(**settings)
    run_study(config, tmp_path)
    opened = open_ensemble(tmp_path)
    table = pandas.read_csv(tmp_path / "trials" / opened.trial / "predictions.csv")
    assert len(opened.heads) == len(set(opened.heads)) == 8
    dataset = results.open_records(config)
    records = tuple(replace(record, label=-1) for record in dataset.records)
    blocks = list(opened.predict(replace(dataset, records=records)))
    found = np.concatenate([block.probabilities for block in blocks], axis=1)
    rows = {record.path: row for row, record in enumerate(records)}
    for number, place in enumerate(opened.heads):
        held_out = table[(table[["repeat", "fold", "seed"]] == np.array(place)).all(axis=1)]
        assert len(held_out) > 12
        expected = held_out[["prob_hem", "prob_all"]]
        np.testing.assert_allclose(found[number, held_out["path"].map(rows)], expected, atol=1e-5)
    compiled = len(compilations)
    again = next(opened.predict(replace(dataset, records=records[::-1], stamp=None)))
    np.testing.assert_allclose(again.probabilities[:, :5], found[:, :-6:-1], atol=1e-5)
    assert len(compilations) == compiled
