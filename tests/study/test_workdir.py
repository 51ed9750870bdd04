import json
import shutil
from pathlib import Path

import pytest
from ml_collections import ConfigDict
from study.conftest import STAGES, TRIAL, change_json

from alljax.errors import WorkdirError
from alljax.study import identity, workdir
from alljax.study.run import run_study


def test_folder_of_an_earlier_version_is_refused_with_its_version(config: ConfigDict, copy: Path) -> None:
    change_json(copy / "environment.json", alljax="0.0.7")
    for name in ("trials.json", "checksums.json"):
        (copy / name).unlink()
    (copy / "trials").rename(copy / "cells")
    with pytest.raises(WorkdirError, match=r"written by an earlier alljax \(version 0.0.7\)"):
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


def test_formulas_are_escaped_in_a_csv_and_names_stay(tmp_path: Path) -> None:
    import pandas

    names = ["=1+1", "+a", "-5", "@x", "\tb", "'=c", "'d", "e=f"]
    workdir.write_csv(tmp_path / "a.csv", pandas.DataFrame({"subject": names, "value": [-0.5] * 8}))
    cells = [line.split(",") for line in (tmp_path / "a.csv").read_text().splitlines()[1:]]
    assert [cell for cell, _ in cells] == ["'=1+1", "'+a", "'-5", "'@x", "'\tb", "''=c", "'d", "e=f"]
    assert {number for _, number in cells} == {"-0.5"}
    found = workdir.read_csv(tmp_path / "a.csv", {"subject": str, "value": float})
    assert found["subject"].tolist() == names
    assert found["value"].tolist() == [-0.5] * 8


def test_csv_keeps_text_that_looks_like_numbers(tmp_path: Path) -> None:
    import pandas

    frame = pandas.DataFrame({"path": ["1.0", "NA", 'a,"b'], "subject": ["007", "", "x"], "value": [0.1, 2.0, 1e-9]})
    workdir.write_csv(tmp_path / "a.csv", frame)
    found = workdir.read_csv(tmp_path / "a.csv", {"path": str, "subject": str, "value": float})
    assert found["path"].tolist() == frame["path"].tolist()
    assert found["subject"].tolist() == frame["subject"].tolist()
    assert found["value"].tolist() == frame["value"].tolist()
