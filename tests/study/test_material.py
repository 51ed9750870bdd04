"""The study keeps people whole: those it is told of, and those that share an image."""

from pathlib import Path

import numpy as np
from pictures import picture
from PIL import Image

from alljax.config import default_config, vary
from alljax.data.splits import Split
from alljax.evaluation import intervals
from alljax.study import results, run
from alljax.study.material import Material, open_images, open_material


def material_of(folder: Path, folds: int = 2) -> Material:
    return open_material(vary(default_config(), {"data.source": str(folder), "split.folds": folds}), lambda line: None)


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
    summary = results.summarise(config, material, tested, probabilities)
    people = [material.people[row] for row in tested]
    expected = intervals.bootstrap(material.labels[tested], probabilities, people, resamples=2000, level=0.95, seed=0)
    assert summary["interval_unit"] == "people"
    assert {name: tuple(bounds) for name, bounds in summary["intervals"].items()} == expected


def test_every_seed_repeat_and_fold_has_a_key_of_its_own() -> None:
    rows = np.arange(1)
    keys = {
        tuple(np.asarray(run.jax.random.key_data(run._key(seed, Split(repeat, fold, rows, rows)))).tolist())
        for seed in range(4)
        for repeat in range(4)
        for fold in range(4)
    }
    assert len(keys) == 64


def test_differing_sizes_and_contradictory_labels_are_said(tmp_path: Path) -> None:
    plant(tmp_path, two_classes(people=2, images=2))
    (tmp_path / "b/pb0/0.png").write_bytes((tmp_path / "a/pa0/0.png").read_bytes())
    Image.new("RGB", (60, 60)).save(tmp_path / "a/pa1/1.png")
    said: list[str] = []
    open_images(vary(default_config(), {"data.source": str(tmp_path)}), said.append)
    assert any("7 of 40 × 40 pixels, 1 of 60 × 60" in line for line in said)
    assert any("b/pb0/0.png and a/pa0/0.png are the same image under two classes" in line for line in said)
