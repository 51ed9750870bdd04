"""The study keeps people whole: those it is told of, and those that share an image."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import picture
from PIL import Image

from alljax.config import check, default_config, vary
from alljax.data.splits import LEAKY, Split
from alljax.errors import ConfigError, DataError, LeakError
from alljax.evaluation import baselines, intervals
from alljax.progress import Say
from alljax.study import results, trials
from alljax.study.experiment import Material, open_images, open_material


def material_of(folder: Path, folds: int = 2, say: Say = lambda line: None, **changes: Any) -> Material:
    settings = {"data.source": str(folder), "split.folds": folds, "data.allow_partial": True}
    return open_material(
        vary(default_config(), settings | {f"split.{key}": each for key, each in changes.items()}), say
    )


def plant(folder: Path, images: dict[str, int]) -> None:
    for path, seed in images.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(picture(seed, suffix=path.rpartition(".")[2]))


def two_classes(people: int, images: int) -> dict[str, int]:
    """Returns paths class/person/image with a seed for each."""
    paths = [f"{label}/p{label}{n}/{i}.png" for label in "ab" for n in range(people) for i in range(images)]
    return {path: seed for seed, path in enumerate(paths)}


def together(material: Material, *subjects: str) -> bool:
    """Whether these subjects are one person, tested in the same folds."""
    records = material.dataset.records
    people = {person for person, record in zip(material.people, records, strict=True) if record.subject in subjects}
    places = [
        {split.fold for split in material.splits for row in split.test if records[row].subject == subject}
        for subject in subjects
    ]
    return len(people) == 1 and all(place == places[0] for place in places)


def test_subjects_that_share_an_image_are_one_person(tmp_path: Path) -> None:
    plant(tmp_path, two_classes(people=5, images=2))
    assert not together(material_of(tmp_path), "pa0", "pa3")
    (tmp_path / "a/pa3/0.png").write_bytes((tmp_path / "a/pa0/1.png").read_bytes())
    assert together(material_of(tmp_path), "pa0", "pa3")


def test_known_people_of_cnmc_are_kept_together(tmp_path: Path) -> None:
    """Subjects 20 and 21 share images in the whole set; here none is among the few that are present."""
    names = [*(f"UID_{n}_1_1_all" for n in (20, 21, 1, 2, 3)), *(f"UID_H{n}_1_1_hem" for n in (1, 7, 8, 9))]
    plant(tmp_path, {f"fold_0/{name[-3:]}/{name}.bmp": seed for seed, name in enumerate(names)})
    assert together(material_of(tmp_path), "20", "21")


def test_intervals_are_over_people(tmp_path: Path) -> None:
    plant(tmp_path, two_classes(people=4, images=5))
    material = material_of(tmp_path)
    tested = np.concatenate([split.test for split in material.splits])
    generator = np.random.default_rng(0)
    scores = generator.uniform(size=(2, len(tested)))
    probabilities = np.stack([1 - scores, scores], -1).astype(np.float32)
    config = default_config()
    summary = results.summarize(config, material, tested, probabilities)
    people = [material.people[row] for row in tested]
    expected = intervals.bootstrap(material.labels[tested], probabilities, people, resamples=2000, level=0.95, seed=0)
    assert summary["interval_unit"] == "people"
    assert {name: tuple(bounds) for name, bounds in summary["intervals"].items()} == expected
    rule = baselines.size_rule(material.labels, material.inspection.areas, material.splits, 2)
    folds = np.concatenate([np.full(len(split.test), split.fold) for split in material.splits])
    sides = (probabilities, None), (rule.probabilities[None], rule.scores[None])
    drawn = [intervals.resampled(material.labels[tested], each, people, scores=scored, folds=folds)["auc"]
             for each, scored in sides]  # fmt: skip
    found = summary["over_size"]["auc"]
    assert found["interval"] == pytest.approx(np.nanquantile(drawn[0] - drawn[1], [0.025, 0.975]))
    model, size = (intervals.auc_within_folds(material.labels[tested], each if scored is None else scored, folds)
                   for each, scored in sides)  # fmt: skip
    assert model is not None
    assert size is not None
    assert found["value"] == pytest.approx(model - size)


def test_every_seed_repeat_and_fold_has_a_key_of_its_own() -> None:
    rows, config = np.arange(1), vary(default_config(), {"study.seeds": 4})
    keys = {
        tuple(key.tolist())
        for repeat in range(4)
        for fold in range(4)
        for key in np.asarray(trials.jax.random.key_data(trials.keys(config, Split(repeat, fold, rows, rows))))
    }
    assert len(keys) == 64


def test_differing_sizes_and_contradictory_labels_are_said(tmp_path: Path) -> None:
    plant(tmp_path, two_classes(people=2, images=2))
    (tmp_path / "b/pb0/0.png").write_bytes((tmp_path / "a/pa0/0.png").read_bytes())
    Image.new("RGB", (60, 60)).save(tmp_path / "a/pa1/1.png")
    said: list[str] = []
    open_images(vary(default_config(), {"data.source": str(tmp_path)}), said.append)
    assert any("7 of 40 × 40 pixels, 1 of 60 × 60" in line for line in said)
    assert "1 image under two classes, one label is wrong: a/pa0/0.png and b/pb0/0.png" in said


def in_folds(spread: bool) -> dict[str, int]:
    """Returns C-NMC names in three folds, four people a fold, with field and cell; `spread`: one name in two folds."""
    names = [(fold, f"{'H' * hem}{10 * fold + n}", hem) for fold in range(3) for n in (1, 2) for hem in (True, False)]
    names += [(1, "1", False)] if spread else []
    return {
        f"fold_{fold}/{'hem' if hem else 'all'}/UID_{who}_1_{trial}_{'hem' if hem else 'all'}.png": 100 * place + trial
        for place, (fold, who, hem) in enumerate(names)
        for trial in (range(4, 6) if (fold, who) == (1, "1") else range(1, 4))
    }


def test_what_a_declared_leaky_protocol_leaks_is_said_and_stored(tmp_path: Path) -> None:
    plant(tmp_path, in_folds(spread=True))
    for protocol in LEAKY:
        said: list[str] = []
        material = material_of(tmp_path, say=said.append, protocol=protocol)
        leaks = material.leaks
        assert leaks["person"] >= leaks["field"] > leaks["duplicate"] == 0
        assert said[-1] == (
            f"protocol {protocol!r} leaks: the training cells hold the person of {leaks['person']}, the photograph of "
            f"{leaks['field']}, the same image of 0 of the {leaks['test_cells']} held-out cells"
        )
        config = vary(default_config(), {"split.protocol": protocol})
        assert material.describe_split(config)["leaks"] == leaks
        assert material.describe_split(config)["protocol"]["leaky"]


def test_without_subjects_only_copies_are_known_to_leak(tmp_path: Path) -> None:
    plant(tmp_path, {f"{label}/{n}.png": 10 * n for label in "ab" for n in range(6)})  # each in both classes
    said: list[str] = []
    material_of(tmp_path, say=said.append, protocol="paper", stratified=False, test_fraction=0.4)
    assert "the training cells hold the photograph of 0, the same image of " in said[-1]


def test_a_person_moved_to_another_official_fold_is_said_and_stored(tmp_path: Path) -> None:
    plant(tmp_path, in_folds(spread=True))
    said: list[str] = []
    material = material_of(tmp_path, say=said.append, protocol="official_folds")
    assert said[-1] == "2 cells moved to the official fold that has most cells of the same person: 1"
    assert said[-1] in material.describe(default_config())["notes"]
    assert len(material.splits) == 3
    assert together(material, "1")
    assert not material.leaks["person"]
    assert not material.describe_split(vary(default_config(), {"split.protocol": "official_folds"}))["protocol"][
        "leaky"
    ]


def parts(people: dict[str, str]) -> dict[str, int]:
    """Returns images PART/class/person/N.png of people, given as PART/class: names."""
    paths = [f"{place}/{who}/{n}.png" for place, names in people.items() for who in names.split() for n in range(3)]
    return {path: seed for seed, path in enumerate(paths)}


def test_prelim_trains_on_one_part_and_tests_another(tmp_path: Path) -> None:
    plant(tmp_path, parts({"train/a": "p1 p2 p3", "train/b": "p4 p5", "test/a": "p6", "test/b": "p7 p8"}))
    material = material_of(tmp_path, protocol="prelim", test_subset="test", validation=0.3)
    (split,) = material.splits
    subjects = [{material.dataset.records[row].subject for row in rows} for _, rows in split.sides]
    assert subjects[0] | subjects[1] == {"p1", "p2", "p3", "p4", "p5"}
    assert len(subjects[1]) == 2
    assert subjects[2] == {"p6", "p7", "p8"}
    with pytest.raises(DataError, match="prelim"):
        material_of(tmp_path, protocol="prelim")


def test_a_person_in_both_parts_is_refused(tmp_path: Path) -> None:
    plant(tmp_path, parts({"train/a": "p1 p2", "train/b": "p3 p4", "test/a": "p5", "test/b": "p6"}))
    assert material_of(tmp_path, protocol="prelim", test_subset="test")
    (tmp_path / "test/a/p5/0.png").write_bytes((tmp_path / "train/a/p2/1.png").read_bytes())
    with pytest.raises(LeakError, match=r"3 of 6 test cells .* same person on the train side \(1 person: p2\+p5\)"):
        material_of(tmp_path, protocol="prelim", test_subset="test")


def test_the_share_set_aside_is_below_one() -> None:
    with pytest.raises(ConfigError, match="split.validation=1.0 must be 0 or more and below 1"):
        check(vary(default_config(), {"split.validation": 1.0}))


def test_metrics_count_what_each_fold_learned_from_and_was_tested_on(tmp_path: Path) -> None:
    plant(tmp_path, two_classes(people=8, images=2))
    config = {"data.source": str(tmp_path), "split.folds": 4}
    for changed, learned in (({}, 24), ({"split.validation": 0.34}, 16), ({"split.train_subjects": 6}, 12)):
        settings = vary(default_config(), config | changed)
        protocol = open_material(settings, lambda line: None).describe_split(settings)["protocol"]
        assert protocol["training_cells"] == [learned] * 4
        assert protocol["test_cells"] == [8] * 4
