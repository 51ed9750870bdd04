"""`--dry_run`: what a study would do and how long, before anything is written."""

import re
from collections.abc import Callable
from pathlib import Path

import jax
import pytest
from alljax.study.dry_run import dry_run
from ml_collections import ConfigDict

from alljax.config import default_config, load, vary
from alljax.study import estimate
from alljax.study.estimate import NetworkPace
from alljax.study.run import run_study
from alljax.training import parameter_groups

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture
def told(tmp_path: Path) -> Callable[..., str]:
    """Makes the dry run of a study and returns what is said of it."""

    def tell(config: ConfigDict, **options: tuple[int, int]) -> str:
        said: list[str] = []
        before = sorted(tmp_path.rglob("*"))
        dry_run(config, tmp_path / "study", **options)
        assert sorted(tmp_path.rglob("*")) == before, "nothing is written"
        return "\n".join(said)

    return tell


def small(**settings: object) -> ConfigDict:
    """A study of 48 generated cells."""
    config = default_config()
    config.data.synthetic.update(images=48, subjects=12, image_size=48)
    config.preprocessing.image_size = 48
    config.model.update(stage="stage3", hidden=8)
    config.split.folds = 2
    config.train.update(batch_size=16, epochs=4)
    config.evaluation.resamples = 100
    return vary(config, {key.replace("__", "."): value for key, value in settings.items()})


def test_the_papers_cells_what_they_share_and_the_time(told: Callable[..., str]) -> None:
    said = told(load(f"{CONFIGS / 'paper.py'}:toy"))
    assert "32 cells in 4 runs:" in said
    assert said.count("10, 20, 30, 40, 50, 60, 80, 100 epochs, beginnings of one run of 100") == 4
    assert "learned from / tested: 76 / 20; 3 steps an epoch" in said
    assert said.count("steps/s") == 4, "two widths, two optimizers"
    assert re.search(r"^together about \d+ s, besides evaluation and the report$", said, re.M)


def test_features_on_disk_are_said_beforehand(
    told: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setenv("ALLJAX_CACHE_DIR", str(cache))
    said = told(small(features__memory="disk", features__augment="dihedral", model__pool="flatten"))
    # Stage 3 of 48 × 48 pixels has 6 × 6 × 40 activations.
    assert re.search(r"stage3 flatten: 48 × 1,440, 2 MB; heads read them from disk: features.memory=disk", said)
    assert "images/s" in said


def test_what_is_done_and_other_shards_are_left_out(told: Callable[..., str], tmp_path: Path) -> None:
    study = (("train.optimizer", ("adam", "rmsprop", "sgd")), ("train.epochs", (2, 4)))
    config = small(study__sweep=study)
    assert "of these 4 cells would be run now: those of shard 0/2" in told(config, shard=(0, 2))
    run_study(small(study__sweep=study), tmp_path / "study")
    said = told(config)
    assert "of these 0 cells would be run now" in said
    assert "features: none to compute" in said
    assert "together about 0 s" in said
    cut = next((tmp_path / "study").glob("trials/*sgd-epochs=4/predictions.csv"))
    cut.write_bytes(cut.read_bytes()[:-50])
    assert "of these 1 cell would be run now" in told(config)


def test_fine_tuned_networks_are_measured_too(told: Callable[..., str]) -> None:
    groups = (("head/.*", 1.0), ("backbone/stage3/.*", 0.1, 1.0, 2), ("backbone/(stem|stage[12])/.*", 0.0))
    said = told(small(train__mode="finetune", train__groups=groups, split__protocol="subject_holdout"))
    found = re.search(
        r"fine-tuned networks:\n  \S+: ([\d,.]+), then ([\d,.]+) images/s, "
        r"at most (\d+) s to start each, about (\d+) \w+",
        said,
    )
    assert found, said
    assert all(float(each.replace(",", "")) > 0 for each in found.groups())
    assert found[4] == re.search(r"together about (\d+) \w+", said)[1]  # type: ignore[index]


def test_epochs_after_the_last_phase_are_counted(told: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two budgets the longer has a phase that the shorter never comes to."""
    measured: list[list[int]] = []

    def measure(config: ConfigDict, network: object) -> NetworkPace:
        measured.append(parameter_groups.phases(parameter_groups.read_groups(config.train.groups), config.train.epochs))
        return NetworkPace(0.0, dict.fromkeys(measured[-1], 1.0), 0.0)

    monkeypatch.setattr(estimate, "network_pace", measure)
    late = (("head/.*", 1.0), ("backbone/stage3/.*", 0.1, 1.0, 5), ("backbone/(stem|stage[12])/.*", 0.0))
    config = small(train__mode="finetune", train__groups=late, split__protocol="subject_holdout",
                   study__sweep=(("train.epochs", (2, 10)),))  # fmt: skip
    said = told(config)
    assert measured == [[0], [0, 5]]
    assert "about 6 s" in said, "2 epochs of 3 steps"
    assert "about 30 s" in said
    assert "together about 36 s" in said


def test_a_network_too_large_for_the_device_is_told(told: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    def give_up(config: ConfigDict, network: object) -> NetworkPace:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 7 bytes")

    monkeypatch.setattr(estimate, "network_pace", give_up)
    last = (("head/.*", 1.0), ("backbone/stage3/.*", 0.1), ("backbone/(stem|stage[12])/.*", 0.0))
    said = told(small(train__mode="finetune", train__groups=last))
    assert "efficientnet_lite0-adam: the device gave up: RESOURCE_EXHAUSTED: Out of memory\n" in said


def test_the_time_of_a_run_is_that_of_its_phases() -> None:
    pace = NetworkPace(start=5.0, steps={0: 1.0, 3: 2.0}, evaluation=0.5)
    # 3 epochs × 7 steps × 1 s + 2 × 7 × 2 s; 4 batches an epoch and 6 at the end.
    assert pace.of_run(epochs=5, steps=7, validation_batches=4, test_batches=6) == 5 + 21 + 28 + 13
