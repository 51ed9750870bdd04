import json
import shutil
from pathlib import Path

import pytest
from study.conftest import TRIAL, change_json

from alljax import files
from alljax.errors import WorkdirError
from alljax.study.results import merge_shards


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
    assert "2 trials missing: " + ", ".join(summary["missing"]) in messages
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
    change_json(shards[1] / "config.json", **{"train.batch_size": 7})
    with pytest.raises(WorkdirError, match="shard of another study.*train.batch_size: 16 → 7"):
        merge_shards(shards[0], shards[1:])
    for folder, others in ((shards[0], [tmp_path]), (tmp_path, [])):
        with pytest.raises(WorkdirError, match="not the --workdir of an alljax study"):
            merge_shards(folder, others)


def test_different_results_of_one_trial_are_refused(toy_study: Path, copy: Path) -> None:
    folder = copy / "trials" / TRIAL
    (folder / "history.csv").write_text((folder / "history.csv").read_text().replace("0.", "0.1", 1))
    change_json(folder / "checksums.json", **{"history.csv": files.sha256(folder / "history.csv")})
    with pytest.raises(WorkdirError, match=f"{TRIAL} hold different results"):
        merge_shards(toy_study, [copy])
