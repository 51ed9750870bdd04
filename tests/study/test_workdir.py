import json
import shutil
from pathlib import Path

import pytest
from ml_collections import ConfigDict
from study.conftest import STAGES, TRIAL, change_json

from alljax.errors import WorkdirError
from alljax.study import identity, workdir
from alljax.study.run import run_study


def test_folder_of_an_earlier_version_is_refused(config: ConfigDict, copy: Path) -> None:
    for name in ("trials.json", "checksums.json"):
        (copy / name).unlink()
    (copy / "trials").rename(copy / "cells")
    with pytest.raises(WorkdirError, match="no trials.json, which earlier versions"):
        run_study(config, copy)


def test_forced_change_does_not_affect_finished_trials(config: ConfigDict, copy: Path) -> None:
    config.study.sweep = STAGES, ("train.optimizer", ("adam", "rmsprop", "sgd"))
    shutil.rmtree(copy / "trials" / TRIAL)
    study = run_study(config, copy, force=True)
    assert study is not None
    assert len(study.metrics["trials"]) == 6
    assert len(study.environment["forced"]) == 1
    config.train.epochs = 1
    with pytest.raises(WorkdirError, match=r"finished runs of another config \(train.epochs: 3 → 1\)"):
        run_study(config, copy, force=True)


@pytest.mark.parametrize("force", [False, True])
def test_other_images_are_refused_with_both_hashes(config: ConfigDict, copy: Path, force: bool) -> None:
    inputs = json.loads((copy / "environment.json").read_text())["inputs"]
    change_json(copy / "environment.json", inputs=inputs | {"images": "e" * 64})
    shutil.rmtree(copy / "trials" / TRIAL)
    with pytest.raises(WorkdirError, match=rf"images \(SHA-256 {'e' * 16} → {inputs['images'][:16]}\)"):
        run_study(config, copy, force=force)


def test_folder_in_use_is_refused(config: ConfigDict, copy: Path) -> None:
    shutil.rmtree(copy / "trials" / TRIAL)
    with identity.exclusive(copy, (0, 1)), pytest.raises(WorkdirError, match="another alljax uses"):
        run_study(config, copy)


def test_texts_of_a_csv_stay_texts_and_formulas_are_escaped(tmp_path: Path) -> None:
    import pandas

    names = ["=1+1", "+a", "-5", "@x", "\tb", "'=c", "'d", "e=f", "1.0", "NA", 'a,"b', "007", ""]
    values = [-0.5, 0.1, 1e-9, *range(10)]
    workdir.write_csv(tmp_path / "history.csv", pandas.DataFrame({"subject": names, "value": values}))
    workdir.record(tmp_path, ["history.csv"])
    text = (tmp_path / "history.csv").read_text()
    for cell in ("'=1+1,-0.5", "'+a", "'-5", "'@x", "'\tb", "''=c", "'d", "e=f"):
        assert f"\n{cell}" in text
    found = workdir.read_csv(tmp_path, "history.csv", {"subject": str, "value": float})
    assert found["subject"].tolist() == names
    assert found["value"].tolist() == values
