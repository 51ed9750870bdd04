"""Studies of several cells: what they share, how they fail, stop, go on, and are put together from shards."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from alljax import files
from alljax.cli import main
from alljax.config import default_config, vary
from alljax.data.splits import Split
from alljax.errors import ConfigError, WorkdirError
from alljax.report import report
from alljax.study import finished, merge, sweep, trials
from alljax.study.run import run_study

OPTIMIZERS = ("train.optimizer", ("adam", "rmsprop"))
BUDGETS = ("train.epochs", (2, 4))


def toy(*varied: Any, **settings: Any) -> ConfigDict:
    """A study of 48 generated cells that takes a second or two."""
    config = default_config()
    config.data.synthetic.update(images=48, subjects=12, image_size=48)
    config.preprocessing.image_size = 48
    config.model.update(stage="stage3", hidden=8)
    config.split.update(folds=2)
    config.train.update(batch_size=16, learning_rate=1e-2)
    config.evaluation.resamples = 100
    config.study.sweep = varied
    return vary(config, {key.replace("__", "."): value for key, value in settings.items()})


def quiet(line: str) -> None:
    """Nobody listens."""


def results(folder: Path) -> dict[str, bytes]:
    """What cells leave behind but for times: curves and predictions."""
    found = [path for name in ("history.csv", "predictions.csv") for path in sorted(folder.glob(f"trials/*/{name}"))]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies") / "whole"
    run_study(toy(OPTIMIZERS, BUDGETS), folder, quiet)
    return folder


def test_a_short_budget_is_what_a_run_of_that_length_gives(whole: Path, tmp_path: Path) -> None:
    run_study(toy(train__epochs=2), tmp_path, quiet)
    ours, alone = results(whole), results(tmp_path)
    for name in ("history.csv", "predictions.csv"):
        of_prefix = ours[f"trials/efficientnet_lite0-adam-epochs=2/{name}"]
        assert of_prefix == alone[f"trials/efficientnet_lite0-adam/{name}"]
    long = ours["trials/efficientnet_lite0-adam-epochs=4/history.csv"]
    assert len(long.splitlines()) == 1 + 2 * 4
    assert long.splitlines()[2] in ours["trials/efficientnet_lite0-adam-epochs=2/history.csv"].splitlines()


def test_separate_budgets_have_keys_of_their_own(whole: Path, tmp_path: Path) -> None:
    run_study(toy(BUDGETS, study__share_training=False), tmp_path, quiet)
    ours, separate = results(whole), results(tmp_path)
    name = "trials/efficientnet_lite0-adam-epochs=2/history.csv"
    assert ours[name] != separate[name]
    first = [separate[name.replace("=2", f"={epochs}")].splitlines()[1] for epochs in (2, 4)]
    assert first[0] != first[1]


def test_runs_side_by_side_give_what_they_give_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an accelerator: settings that are only numbers, and seeds, in one compiled call."""
    config = toy(("train.learning_rate", (1e-2, 1e-3)), ("train.decay_rate", (0.5, 1.0)), BUDGETS, study__seeds=2)
    run_study(config, tmp_path / "alone", quiet)
    calls: list[int] = []
    alone = trials.Trainer.train

    def counted(self: trials.Trainer, runs: Any, *others: Any) -> Any:
        calls.append(len(runs))
        return alone(self, runs, *others)

    def gathered(runs: Any, alike: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(trials.jax, "default_backend", lambda: "gpu")
            return grouping(runs, alike)

    grouping = trials.together
    monkeypatch.setattr(trials, "together", gathered)
    monkeypatch.setattr(trials.Trainer, "train", counted)
    run_study(config, tmp_path / "together", quiet)
    assert calls == [4]
    assert results(tmp_path / "alone") == results(tmp_path / "together")


def test_runs_on_other_views_are_not_trained_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On an accelerator too: one call has one matrix of features."""
    config = toy(("features.augment", ("none", "dihedral")), ("train.learning_rate", (1e-2, 1e-3)))
    run_study(config, tmp_path / "alone", quiet)
    grouping = trials.together

    def gathered(runs: Any, alike: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(trials.jax, "default_backend", lambda: "gpu")
            groups = grouping(runs, alike)
        assert [len(group) for group in groups] == [2, 2]
        return groups

    monkeypatch.setattr(trials, "together", gathered)
    run_study(config, tmp_path / "together", quiet)
    assert results(tmp_path / "alone") == results(tmp_path / "together")


def test_features_on_disk_give_the_same_metrics(tmp_path: Path, whole: Path) -> None:
    said: list[str] = []
    summary = run_study(toy(train__epochs=4, features__memory="disk"), tmp_path)
    assert any("read from disk while heads learn" in line for line in said)
    expected = json.loads((whole / "metrics.json").read_text())["trials"]["efficientnet_lite0-adam-epochs=4"]
    assert summary["trials"]["efficientnet_lite0-adam"]["auc"] == pytest.approx(expected["auc"], abs=1e-3)


def test_only_what_is_missing_or_cut_off_is_run_again(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(whole, folder)
    trials = folder / "trials"
    shutil.rmtree(trials / "efficientnet_lite0-adam-epochs=4")
    cut = trials / "efficientnet_lite0-rmsprop-epochs=2" / "predictions.csv"
    cut.write_bytes(cut.read_bytes()[:-50])
    (trials / "efficientnet_lite0-rmsprop-epochs=4" / "metrics.json").write_text('{"accuracy": 0.')
    said: list[str] = []
    run_study(toy(OPTIMIZERS, BUDGETS), folder)
    assert results(folder) == results(whole)
    lines = "\n".join(said)
    assert "rmsprop-epochs=2 is run again" in lines
    assert "cut off?" in lines
    assert "rmsprop-epochs=4 is run again" in lines
    assert "efficientnet_lite0-adam-epochs=2: done before" in lines
    assert "efficientnet_lite0-adam-epochs=4: done before" not in lines


def test_what_is_compiled_does_not_depend_on_what_is_done(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or curves would differ in their last bit from those of a study that never stopped."""
    folder = tmp_path / "study"
    shutil.copytree(whole, folder)
    for trial in folder.glob("trials/*-epochs=4"):
        shutil.rmtree(trial)
    strides: list[int] = []
    train_heads = trials.frozen.train_heads

    def watched(functions: Any, budgets: Any, keys: Any, numbers: Any, features: Any, labels: Any, fold: Any,
                watch: Any, stride: int) -> Any:  # fmt: skip
        assert budgets == [4]
        return train_heads(functions, budgets, keys, numbers, features, labels, fold,
                           lambda curves: strides.append(len(curves.val_loss)), stride)  # fmt: skip

    monkeypatch.setattr(trials.frozen, "train_heads", watched)
    run_study(toy(OPTIMIZERS, BUDGETS), folder, quiet)
    assert set(strides) == {2}, "the budgets of the study are 2 and 4"
    assert results(folder) == results(whole)


def test_a_cell_of_another_version_is_named(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(whole, folder)
    place = folder / "trials" / "efficientnet_lite0-adam-epochs=2" / "metrics.json"
    written = json.loads(place.read_text())
    del written["over_size"]
    place.write_text(json.dumps(written))
    with pytest.raises(
        WorkdirError, match=r"adam-epochs=2 has no 'over_size': another version of alljax wrote it; rem"
    ):
        run_study(toy(OPTIMIZERS, BUDGETS), folder, quiet)
    shutil.rmtree(place.parent)
    run_study(toy(OPTIMIZERS, BUDGETS), folder, quiet)
    assert results(folder) == results(whole)


def test_a_summary_of_another_version_is_written_again(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(whole, folder)
    summary = json.loads((folder / "metrics.json").read_text())
    del summary["protocol"]["training_cells"]
    (folder / "metrics.json").write_text(json.dumps(summary))
    with pytest.raises(
        WorkdirError, match=r"no 'training_cells' in its protocol: another version of alljax wrote it; run the same"
    ):
        report.write_report(folder)
    run_study(toy(OPTIMIZERS, BUDGETS), folder, quiet)
    report.write_report(folder)
    assert results(folder) == results(whole)


def test_a_failing_cell_is_told_and_does_not_stop_the_others(tmp_path: Path) -> None:
    rows = (("sgd", 1e30), ("adam", 1e-2), ("sgd", 1e-2))
    config = toy((("train.optimizer", "train.learning_rate"), rows), train__epochs=2)
    with pytest.raises(ConfigError, match=r"1 model of 3 failed.*sgd-learning_rate=1e\+30: the loss is no number"):
        run_study(config, tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert len(metrics["trials"]) == 2
    assert list(metrics["failed"]) == ["efficientnet_lite0-sgd-learning_rate=1e+30"]
    assert "failed" in (tmp_path / "report.html").read_text()
    with pytest.raises(ConfigError, match="1 model of 3 failed"):  # and again, after the mend was not made
        run_study(config, tmp_path, quiet)


def test_a_device_that_gives_up_costs_the_runs_it_was_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU whose memory does not suffice for one head may well hold the next."""
    train = trials.Trainer.train

    def give_up(self: Any, runs: Any, matrix: Any, material: Any) -> Any:
        if runs[0][0].config.train.optimizer == "adam":
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 7 bytes")
        return train(self, runs, matrix, material)

    monkeypatch.setattr(trials.Trainer, "train", give_up)
    told = r"2 models of 4 failed.*adam-epochs=2: the device gave up: RESOURCE_EXHAUSTED: Out of memory; .*epochs=4"
    with pytest.raises(ConfigError, match=told):
        run_study(toy(OPTIMIZERS, BUDGETS), tmp_path, quiet)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert [name for name in metrics["trials"] if "adam" in name] == []
    assert len(metrics["trials"]) == len(metrics["failed"]) == 2
    monkeypatch.undo()
    assert len(run_study(toy(OPTIMIZERS, BUDGETS), tmp_path, quiet)["trials"]) == 4  # type: ignore[index]


def test_a_shard_does_not_wait_for_what_failed_in_another(tmp_path: Path) -> None:
    rows = (("sgd", 1e30), ("adam", 1e-2), ("adam", 1e-3), ("sgd", 1e-2))
    config = toy((("train.optimizer", "train.learning_rate"), rows), train__epochs=2)
    with pytest.raises(ConfigError, match="1 model of 4 failed"):
        run_study(config, tmp_path, quiet, shard=(0, 2))
    summary = run_study(config, tmp_path, quiet, shard=(1, 2))
    assert summary is not None
    assert (len(summary["trials"]), len(summary["failed"]), summary["missing"]) == (3, 1, [])
    assert (tmp_path / "report.html").is_file()


def test_a_cell_that_is_done_is_not_called_failed(whole: Path, tmp_path: Path) -> None:
    """As after a kill between its last file and the removal of the old reason."""
    folder = tmp_path / "study"
    shutil.copytree(whole, folder)
    trial = next(folder.glob("trials/*"))
    (trial / merge.FAILED).write_text("the loss is no number any more\n")
    summary = merge.join(folder, (), quiet)
    assert trial.name in summary["trials"]
    assert not summary["failed"]


def test_a_copy_that_fails_takes_nothing_away(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard, folder = tmp_path / "shard", tmp_path / "study"
    for place in (shard, folder):
        shutil.copytree(whole, place)
    gone = next(folder.glob("trials/*"))
    (gone / "metrics.json").unlink()

    def full(*ignored: Any, **also: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(WorkdirError, match="No space left on device"):
        merge.join(folder, (shard,), quiet)
    assert (gone / "predictions.csv").is_file()
    assert not list(folder.glob("cells/.*"))


def test_a_budget_before_the_loss_was_lost_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose loss becomes infinite in epoch 3 has given its cell of two epochs before."""
    diverged = trials._diverged

    def from_epoch_three(config: ConfigDict, runs: Any, splits: tuple[Split, ...]) -> str:
        return (
            "lost" if config.train.epochs > 2 and config.train.optimizer == "adam" else diverged(config, runs, splits)
        )

    monkeypatch.setattr(trials, "_diverged", from_epoch_three)
    with pytest.raises(ConfigError, match="adam-epochs=4: lost"):
        run_study(toy(OPTIMIZERS, BUDGETS), tmp_path, quiet)
    assert len(list(tmp_path.glob("trials/*/metrics.json"))) == 3


@pytest.mark.parametrize("shared", [True, False], ids=["one folder", "folders of their own"])
def test_shards_make_the_same_study(whole: Path, tmp_path: Path, shared: bool) -> None:
    folders = [tmp_path / "study"] * 2 if shared else [tmp_path / "a", tmp_path / "b"]
    config = toy(OPTIMIZERS, BUDGETS)
    first = run_study(config, folders[0], quiet, shard=(0, 2))
    assert first is None
    assert not (folders[0] / "metrics.json").exists()
    second = run_study(config, folders[1], quiet, shard=(1, 2))
    assert (second is not None) == shared
    joined = tmp_path / "joined"
    assert (
        main(["report", f"--workdir={folders[0] if shared else joined}", *([] if shared else map(str, folders))]) == 0
    )
    out = folders[0] if shared else joined
    assert results(out) == results(whole)
    ours, theirs = (json.loads((folder / "metrics.json").read_text()) for folder in (out, whole))
    assert ours["missing"] == theirs["missing"] == []
    assert list(ours["trials"]) == list(theirs["trials"])
    assert ours["baselines"] == theirs["baselines"]
    assert (out / "report.html").is_file()


def test_a_report_of_some_shards_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_study(toy(OPTIMIZERS, BUDGETS), tmp_path, quiet, shard=(1, 2))
    assert main(["report", f"--workdir={tmp_path}"]) == 0
    assert (
        "2 models missing: efficientnet_lite0-adam-epochs=2, efficientnet_lite0-adam-epochs=4"
        in capsys.readouterr().out
    )
    assert "efficientnet_lite0-adam-epochs=2" in (tmp_path / "report.html").read_text()


def test_shards_of_different_studies_are_not_joined(whole: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(whole, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"train.batch_size": 7}))
    with pytest.raises(WorkdirError, match="another study.*train.batch_size: 16 → 7"):
        merge.join(whole, [other], quiet)
    (other / "config.json").write_text(json.dumps(config))
    environment = json.loads((other / "environment.json").read_text())
    environment["inputs"]["images"] = "f" * 64
    (other / "environment.json").write_text(json.dumps(environment))
    digest = json.loads((whole / "environment.json").read_text())["inputs"]["images"]
    with pytest.raises(WorkdirError, match=f"images.*{digest[:16]} there, {'f' * 16} given"):
        merge.join(whole, [other], quiet)
    with pytest.raises(WorkdirError, match="no --workdir of a study"):
        merge.join(whole, [tmp_path], quiet)


def test_cells_that_disagree_are_named(whole: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(whole, other)
    here = other / "trials" / "efficientnet_lite0-adam-epochs=2"
    text = (here / "history.csv").read_text().replace("0.", "0.1", 1)
    (here / "history.csv").write_text(text)
    metrics = json.loads((here / "metrics.json").read_text())
    metrics["sha256"]["history.csv"] = files.sha256(here / "history.csv")
    (here / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(WorkdirError, match="adam-epochs=2 disagree"):
        merge.join(whole, [other], quiet)


def test_other_images_are_refused_with_both_fingerprints(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "trials" / "efficientnet_lite0-adam-epochs=2")
    environment = json.loads((folder / "environment.json").read_text())
    ours = environment["inputs"]["images"]
    environment["inputs"]["images"] = "e" * 64
    (folder / "environment.json").write_text(json.dumps(environment))
    for force in (False, True):
        with pytest.raises(WorkdirError, match=f"other images .*{'e' * 16} there, {ours[:16]} given"):
            run_study(toy(OPTIMIZERS, BUDGETS), folder, quiet, force=force)


def test_cells_under_two_protocols_have_a_split_each(tmp_path: Path) -> None:
    config = toy(("split.protocol", ("paper", "subject_kfold")), train__epochs=2)
    summary = run_study(config, tmp_path, quiet)
    assert list(summary["splits"]) == ["paper", "subject_kfold"]
    assert summary["splits"]["paper"]["protocol"]["leaky"]
    assert summary["splits"]["paper"]["leaks"]["person"] > 0
    assert summary["splits"]["subject_kfold"]["leaks"]["person"] == 0
    assert summary["protocol"] == summary["splits"]["paper"]["protocol"]
    trials = summary["trials"]
    assert [trials[name]["split"] for name in trials] == ["paper", "subject_kfold"]
    assert (tmp_path / "split.csv").is_file()
    assert (tmp_path / "split-subject_kfold.csv").is_file()
    study = finished.read_study(tmp_path)
    tested = [len(finished.read_predictions(study, name).labels) for name in trials]
    assert tested == [10, 48]


def test_parameters_are_kept_only_where_they_are_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_study(toy(train__epochs=2, study__checkpoints=False), tmp_path, quiet)
    assert not list(tmp_path.glob("trials/*/checkpoint"))
    assert main(["predict", f"--workdir={tmp_path}", str(tmp_path)]) == 2
    assert "study.checkpoints=False" in capsys.readouterr().err


def test_metrics_tell_how_seeds_spread(tmp_path: Path) -> None:
    (trial,) = run_study(toy(train__epochs=2, study__seeds=3), tmp_path, quiet)["trials"].values()
    assert trial["std"]["auc"] == pytest.approx(np.std([one["auc"] for one in trial["per_seed"]], ddof=1))


def test_a_study_that_is_compared_needs_two_networks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"study\.compare=paper"):
        run_study(toy(OPTIMIZERS, study__compare="paper"), tmp_path, quiet)


def test_every_shard_takes_every_nth_run() -> None:
    runs = sweep.runs(sweep.expand(toy(OPTIMIZERS, ("model.hidden", (8, 9)), BUDGETS)))
    assert [len(runs[index::3]) for index in range(3)] == [2, 1, 1]
