"""Damaged files of a work folder are named, and written again by the same study; other results are never used."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ml_collections import ConfigDict
from study.conftest import TRIAL

from alljax.errors import WorkdirError
from alljax.study import results, workdir
from alljax.study.results import find_unchanged
from alljax.study.run import run_study

NAMES = workdir.HISTORY, *workdir.TRIAL_FILES, workdir.PARAMETERS, workdir.TRAINING_FEATURES
OF_TRIAL = [f"trials/{TRIAL}/{name}" for name in NAMES]


def contents(folder: Path) -> dict[str, Any]:
    """Returns all results of a study, without the seconds they took."""
    found: dict[str, Any] = {name: (folder / name).read_bytes() for name in workdir.STUDY_FILES}
    for path in [*folder.glob("trials/*/*.csv"), *folder.glob("trials/*/checkpoint/*")]:
        found[path.relative_to(folder).as_posix()] = path.read_bytes()
    for path in [folder / "metrics.json", *folder.glob("trials/*/metrics.json")]:
        text = path.read_text().splitlines()
        found[path.relative_to(folder).as_posix()] = [line for line in text if "seconds" not in line]
    found["environment.json"] = json.loads(found["environment.json"])["inputs"]
    return found


def flip(path: Path, bit: int = 3) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 1 << bit
    path.write_bytes(data)


@pytest.mark.parametrize(
    "name",
    [
        *workdir.STUDY_FILES,
        workdir.EVALUATION,
        workdir.SUBJECTS,
        workdir.CHECKSUMS,
        *OF_TRIAL,
        f"trials/{TRIAL}/{workdir.CHECKSUMS}",
    ],
)
def test_one_flipped_bit_is_named_and_repaired(name: str, config: ConfigDict, copy: Path, messages: list[str]) -> None:
    expected, number = contents(copy), workdir.verify_all(copy)
    assert number == 8 + 4 * 5
    flip(copy / name)
    with pytest.raises(WorkdirError, match="missing, or not as in checksums.json"):
        workdir.verify_all(copy)
    assert results.find_unchanged(config, copy) is None
    messages.clear()
    assert run_study(config, copy) is not None
    assert any("missing or damaged" in message for message in messages)
    assert contents(copy) == expected
    assert workdir.verify_all(copy) == number
    assert results.find_unchanged(config, copy)


@pytest.mark.parametrize("name", ["config.json", "environment.json", workdir.CHECKSUMS, OF_TRIAL[0]])
def test_deleted_file_is_written_again(name: str, config: ConfigDict, copy: Path) -> None:
    expected = contents(copy)
    (copy / name).unlink()
    assert run_study(config, copy) is not None
    assert contents(copy) == expected


def test_settings_that_are_lost_are_named_with_the_way_out(config: ConfigDict, copy: Path) -> None:
    for name in ("config.json", "trials.json"):
        (copy / name).unlink()
    with pytest.raises(WorkdirError, match=r"trials.json and config.json in .* restore one of them from a copy"):
        run_study(config, copy)


def test_damage_with_an_old_time_is_found_by_the_reader_and_then_by_a_restart(config: ConfigDict, copy: Path) -> None:
    path = copy / OF_TRIAL[1]
    time = path.stat().st_mtime_ns
    flip(path)
    os.utime(path, ns=(time, time))
    study = results.find_unchanged(config, copy)
    assert study is not None, "a restart compares size and time"
    with pytest.raises(WorkdirError, match="predictions.csv: missing, or not as in checksums.json"):
        study.predictions(TRIAL)
    assert results.find_unchanged(config, copy) is None


def test_copy_with_other_times_is_compared_by_content(config: ConfigDict, copy: Path) -> None:
    for path in copy.rglob("*.*"):
        os.utime(path, ns=(1, 1))
    assert results.find_unchanged(config, copy) is not None


def test_moved_weights_and_data_are_the_same_study(
    config: ConfigDict, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths, loggers and places of caches are recorded, not compared."""
    study = results.read_study(copy)
    weights = study.metrics["trials"][TRIAL]["weights"]["path"]
    config.weights.path = str(shutil.copy(weights, tmp_path / "moved.pth"))
    config.data.cache, config.train.loggers = "none", ()
    assert results.find_unchanged(config, copy) is not None
    (copy / "trials" / TRIAL / workdir.CHECKSUMS).unlink()
    moved = run_study(config, copy)
    assert moved is not None
    assert moved.config["weights.path"] == config.weights.path
    assert moved.settings(study.trials[1])["data.cache"] == "none"
    assert contents(copy)[OF_TRIAL[1]] == (copy / OF_TRIAL[1]).read_bytes()
    config.weights.path = str(tmp_path / "other.pth")
    assert results.find_unchanged(config, copy) is None


def test_json_of_another_version_or_with_names_outside_is_refused(copy: Path) -> None:
    """A folder of another user, whose checksums are right."""
    environment = json.loads((copy / "environment.json").read_text())
    workdir.write_study(copy, {"environment.json": environment | {"format": 0}})
    with pytest.raises(WorkdirError, match=r"was written by another version of alljax, 0\.\d"):
        results.read_study(copy)
    workdir.write_study(copy, {"environment.json": environment})
    original = json.loads((copy / "metrics.json").read_text())
    for change in ({"splits": []}, {"trials": {TRIAL: {}}}, {"dataset": None}, {"trials": {"../x": {}}}):
        workdir.write_study(copy, {"metrics.json": original | change})
        with pytest.raises(WorkdirError, match=r"not those that alljax writes|does not fit trials.json"):
            results.read_study(copy)
    trials = json.loads((copy / "trials.json").read_text())
    workdir.write_study(copy, {"trials.json": [trials[0] | {"name": "../../x"}]})
    with pytest.raises(WorkdirError, match=r"trials.json: the name of a trial is '../../x', which cannot be the name"):
        results.read_study(copy)


@pytest.mark.parametrize("place", ["tables", "figures", "trials", f"trials/{TRIAL}", "metrics.json"])
def test_links_are_refused(place: str, config: ConfigDict, copy: Path, tmp_path: Path) -> None:
    if (copy / place).exists():
        (copy / place).rename(tmp_path / "elsewhere")
    (copy / place).symlink_to(tmp_path / "elsewhere")
    for use in (lambda: results.read_study(copy), lambda: results.merge_shards(tmp_path / "new", [copy])):
        with pytest.raises(WorkdirError, match=rf"{place} is a link"):
            use()
    with pytest.raises(WorkdirError, match=rf"{place} is a link"):
        run_study(config, copy)


def test_merging_follows_no_links(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "trials").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WorkdirError, match="trials is a link"):
        results.merge_shards(tmp_path / "linked", [copy])
    run = copy / "trials" / TRIAL / "runs" / "0-0-0" / "wandb"
    run.mkdir(parents=True)
    (run / "latest").symlink_to("/etc/passwd")
    results.merge_shards(tmp_path / "new", [copy])
    assert (tmp_path / "new" / run.relative_to(copy) / "latest").is_symlink()


def test_table_with_other_columns_is_one_line(copy: Path) -> None:
    folder = copy / "trials" / TRIAL
    lines = (folder / "predictions.csv").read_text().splitlines()
    for text, message in (
        ("a,b\n1,2\n", "without its columns"),
        ("\n".join(lines).replace(",0.", ",x.", 1), "without its columns"),
        ("\n".join(lines[:-1]), "other images or classes than the study, or rows are missing"),
        ("\n".join([lines[0], *(f"x{line}" for line in lines[1:])]), "other images or classes"),
        (lines[0], "other images or classes"),
    ):
        (folder / "predictions.csv").write_text(text)
        workdir.record(folder, ["predictions.csv"])
        with pytest.raises(WorkdirError, match=f"predictions.csv.*{message}"):
            results.read_study(copy).predictions(TRIAL)


def test_any_change_opens_the_study(
    config: ConfigDict, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_unchanged(config, tmp_path) is None, "no study"
    study = find_unchanged(config, copy)
    assert study is not None
    assert len(study.metrics["trials"]) == 4
    for module, name in ((results, "source_state"), (results.store, "digest")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda changed: "other files")
            assert find_unchanged(config, copy) is None
    trials = json.loads((copy / "trials.json").read_text())
    for trial in trials:
        del trial["config"]["evaluation.metrics"]
    workdir.write_study(copy, {"trials.json": trials})
    assert find_unchanged(config, copy) is not None, "a setting that is newer than the study has its default"
    (copy / "trials" / TRIAL / "metrics.json").unlink()
    assert find_unchanged(config, copy) is None, "a trial was removed"
    config.train.learning_rate = 0.5
    assert find_unchanged(config, copy) is None


def test_recognition_imports_no_heavy_library() -> None:
    heavy = {"jax", "flax", "orbax", "sklearn", "scipy", "matplotlib", "tensorflow_datasets"}
    code = f"import sys; from alljax.study import results; print(*sorted(set(sys.modules) & {heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
