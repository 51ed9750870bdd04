import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from study.conftest import TRIAL, change_json

from alljax.errors import WorkdirError
from alljax.evaluation.intervals import Jackknife, summarize
from alljax.evaluation.subgroups import spread
from alljax.study import workdir
from alljax.study.results import merge_shards, read_study
from alljax.study.run import run_study


def test_files_of_a_study(toy_study: Path) -> None:
    files = {path.relative_to(toy_study).as_posix() for path in toy_study.rglob("[!.]*") if path.is_file()}
    trials = {path for path in files if path.startswith("trials/")}
    assert files - trials == {*workdir.STUDY_FILES, "evaluation.json", "subjects.csv", "checksums.json"}
    assert {path.split("/", 2)[2] for path in trials} == {
        workdir.HISTORY, *workdir.TRIAL_FILES, "checksums.json", workdir.PARAMETERS, workdir.TRAINING_FEATURES,
    }  # fmt: skip
    name = json.loads((toy_study / "trials.json").read_text())[0]["name"]
    headers = {file: (toy_study / file).read_text().split("\n")[0] for file in files if file.endswith(".csv")}
    assert headers["images.csv"].startswith("path,subject_name,subject,label,area")
    assert headers["split.csv"] == "path,subject_name,subject,label,subset,repeat,fold"
    assert headers[f"trials/{name}/predictions.csv"] == (
        "path,subject,label,predicted,prob_hem,prob_all,subset,repeat,fold,seed"
    )
    assert headers[f"trials/{name}/history.csv"] == (
        "repeat,fold,seed,epoch,learning_rate,train_loss,train_accuracy,val_loss,val_accuracy"
    )


def test_predictions_and_metrics_agree(toy_study: Path) -> None:
    study = read_study(toy_study)
    name = study.ranking.best
    predictions, metrics = study.predictions(name), study.metrics["trials"][name]
    assert predictions.probabilities.shape == (2, 48, 2)
    assert list(predictions.paths) == sorted(predictions.paths)
    assert len(set(predictions.folds)) == 2
    correct = predictions.probabilities.argmax(2) == predictions.labels
    assert metrics["accuracy"] == pytest.approx(correct.mean())
    assert metrics["std"]["accuracy"] == pytest.approx(np.std(correct.mean(1), ddof=1))
    assert metrics["interval_unit"] == "subjects"
    found = summarize(predictions.held_out, 0.95)["intervals"]
    assert metrics["intervals"].keys() == found.keys()
    for key, interval in found.items():
        assert metrics["intervals"][key] == pytest.approx(interval), key
    tested = Jackknife.of(predictions.held_out)
    for key, numbers in (("subjects", tested.subjects), ("effective_subjects", tested.effective)):
        assert [of_class[key] for of_class in metrics["per_class"]] == pytest.approx(numbers)
    deviations = spread(predictions.held_out, predictions.held_out.fold)
    assert metrics["spread"]["folds"] == pytest.approx(deviations)
    assert metrics["spread"]["repeats"] == {}, "one repeat"
    assert {"value", "interval"} == metrics["size_improvement"]["accuracy"].keys()
    assert len(study.history(name)) == 2 * 2 * 3, "folds × seeds × epochs"
    assert study.ranking.differences.keys() == set(study.ranking.order[1:])


def test_trials_share_the_columns_of_their_images(toy_study: Path) -> None:
    study = read_study(toy_study)
    one, other, *_ = map(study.predictions, study.trials)
    for name in ("paths", "subject_names", "subjects", "folds", "labels"):
        assert getattr(one, name) is getattr(other, name)
    assert not np.array_equal(one.probabilities, other.probabilities)


def test_study_without_finished_trial_is_refused(copy: Path) -> None:
    change_json(copy / "metrics.json", trials={})
    with pytest.raises(WorkdirError, match="no trial of this study is finished"):
        read_study(copy)


def test_several_split_settings_have_folds_and_baselines_each(
    toy_config: Callable[..., ConfigDict], tmp_path: Path
) -> None:
    sweep = ("split.protocol", ("paper", "subject_kfold"))
    study = run_study(toy_config(sweep, model__stage="stem", train__epochs=1), tmp_path)
    assert study is not None
    assert [study.split_of(name)["protocol"]["leaky"] for name in study.trials] == [True, False]
    assert [study.split_of(name)["leaks"]["subject"] > 0 for name in study.trials] == [True, False]
    assert study.metrics["protocol"] == study.split_of(study.trials[0])["protocol"]
    assert study.ranking.marks == {study.trials[0]: "leaky test"}
    assert [len(study.predictions(name).labels) for name in study.trials] == [10, 48]
    assert (tmp_path / "split.csv").read_text().startswith("split,path,")


@pytest.fixture
def shards(toy_study: Path, tmp_path: Path) -> list[Path]:
    """Two folders with two trials of the study each."""
    folders = [Path(shutil.copytree(toy_study, tmp_path / name)) for name in "ab"]
    names = sorted(path.name for path in toy_study.glob("trials/*"))
    for folder, removed in zip(folders, (names[:2], names[2:]), strict=True):
        for name in removed:
            shutil.rmtree(folder / "trials" / name)
    return folders


def test_failed_and_missing_trials_are_replaced_by_finished_ones(shards: list[Path], messages: list[str]) -> None:
    summary = merge_shards(shards[0], ())
    assert len(summary["trials"]) == len(summary["missing"]) == 2
    assert f"2 trials missing: {', '.join(summary['missing'])}; {workdir.RERUN}" in messages
    name = next(shards[1].glob("trials/*")).name
    (shards[0] / "trials" / name).mkdir()
    (shards[0] / "trials" / name / "metrics.json").write_text('{"failed": "the loss became NaN"}')
    assert merge_shards(shards[0], ())["failed"] == {name: "the loss became NaN"}
    summary = merge_shards(shards[0], shards[1:])
    assert not summary["failed"]
    assert not summary["missing"]


def test_shards_of_different_studies_are_refused(shards: list[Path], tmp_path: Path) -> None:
    inputs = json.loads((shards[1] / "environment.json").read_text())["inputs"]
    change_json(shards[1] / "environment.json", inputs=inputs | {"images": "f" * 64})
    with pytest.raises(WorkdirError, match=rf"images \(SHA-256 \w+ → {'f' * 16}\)"):
        merge_shards(shards[0], shards[1:])
    trials = (shards[1] / "trials.json").read_text().replace('"train.batch_size": 16', '"train.batch_size": 7')
    workdir.write_study(shards[1], {"trials.json": trials})
    with pytest.raises(WorkdirError, match="shard of another study.*train.batch_size: 16 → 7"):
        merge_shards(shards[0], shards[1:])
    for folder, others in ((shards[0], [tmp_path]), (tmp_path, [])):
        with pytest.raises(WorkdirError, match="not the --workdir of an alljax study"):
            merge_shards(folder, others)


def test_different_results_of_one_trial_are_refused(toy_study: Path, copy: Path) -> None:
    folder = copy / "trials" / TRIAL
    (folder / "history.csv").write_text((folder / "history.csv").read_text().replace("0.", "0.1", 1))
    workdir.record(folder, ["history.csv"])
    with pytest.raises(WorkdirError, match=f"{TRIAL} hold different results"):
        merge_shards(toy_study, [copy])
