import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from alljax.errors import WorkdirError
from alljax.evaluation.intervals import bootstrap, difference
from alljax.evaluation.metrics import evaluate, most_wrong
from alljax.study import figures, finished, report

NASTY = "H9<script>alert(1)</script>&"
TWO = ("vgg16-adam", "resnet50-adam")
EVERY_CELL = ("vgg16-adam", "vgg16-rmsprop", "resnet50-adam", "resnet50-rmsprop")


def write_csv(path: Path, header: list[str], rows: list[list]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def of_seeds(each: list) -> object:
    """The means over seeds, as study/results.py writes them."""
    if isinstance(each[0], dict):
        return {key: of_seeds([one[key] for one in each]) for key in each[0]}
    if isinstance(each[0], list):
        return [of_seeds(list(group)) for group in zip(*each, strict=True)]
    return None if each[0] is None else float(np.mean(each))


def make_workdir(
    folder: Path,
    classes: tuple[str, ...] = ("hem", "all"),
    people: tuple[int, ...] = (12, 20),
    names: tuple[str, ...] = EVERY_CELL,
    seeds: int = 2,
    folds: int = 5,
    epochs: int = 20,
    subjects: bool = True,
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 0,
    skill: float = 1.2,
    protocol: str = "subject_kfold",
    dataset: str = "cnmc",
) -> Path:
    """Writes what a study leaves behind: people with good and bad days, models that differ a little."""
    generator = np.random.default_rng(0)
    cells = [
        (label, f"{'H' * (label == 0)}{number}", shot)
        for label, count in enumerate(people)
        for number in range(1, count + 1)
        for shot in range(4 + generator.poisson(12))
    ]
    labels = np.array([label for label, _, _ in cells])
    owners = [NASTY if subject == "H9" else subject for _, subject, _ in cells]
    paths = [f"fold_0/{classes[label]}/UID_{subject}_1_{shot}_{classes[label]}.bmp" for label, subject, shot in cells]
    persons = owners if subjects else paths
    fold_of = {person: index % folds for index, person in enumerate(dict.fromkeys(persons))}
    fold = [fold_of[person] for person in persons]
    rows = [
        [path, owner if subjects else "", person, classes[label], "test" if own == held else "train", 0, held]
        for held in range(folds)
        for path, owner, person, label, own in zip(paths, owners, persons, labels, fold, strict=True)
    ]
    write_csv(folder / "split.csv", ["path", "subject", "person", "label", "split", "repeat", "fold"], rows)
    mood = {person: generator.normal(size=len(classes)) for person in dict.fromkeys(owners)}
    hard = np.stack([mood[owner] for owner in owners]) + generator.normal(size=(len(cells), len(classes)))
    units = persons
    results = {}
    for place, name in enumerate(names):
        logits = hard + generator.normal(scale=0.5, size=(seeds, *hard.shape))
        logits[:, np.arange(len(cells)), labels] += skill * (2 - 0.12 * place)
        probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        results[name] = write_cell(folder, name, classes, probabilities, cells, paths, owners if subjects else None,
                                   fold, epochs, generator)  # fmt: skip
        results[name]["intervals"] = {
            key: list(bounds)
            for key, bounds in bootstrap(
                labels, probabilities, units, resamples=resamples, level=level, seed=seed
            ).items()
        }
        results[name] |= {"interval_unit": "people" if subjects else "cells", "level": level}
        results[name] |= {"seconds": 60.0 * (place + 1), "feature_seconds": 6000.0 if place == 0 else 0.0}
        results[name]["weights"] = {"name": name.partition("-")[0], "sha256": "ab" * 32, "path": "w.pth"}
        (folder / "cells" / name / "metrics.json").write_text(json.dumps(results[name]))
    shares = np.tile(np.bincount(labels) / len(labels), (len(labels), 1))
    size = np.eye(len(classes))[np.where(generator.random(len(labels)) < 0.3, (labels + 1) % len(classes), labels)]
    size = 0.6 * size + 0.4 * shares
    rules = {
        "majority": evaluate(labels, shares, np.zeros_like(shares)),
        "size_threshold": evaluate(labels, size) | {"thresholds": [0.2] * folds, "sides": [[0, 1]] * folds},
    }
    for name, values in (("majority", shares), ("size_threshold", size)):
        bounds = bootstrap(labels, values[None], units, resamples=resamples)
        rules[name]["intervals"] = {key: list(pair) for key, pair in bounds.items()}
    by_class = {
        name: {"images": int((labels == label).sum()), "subjects": people[label] if subjects else 0}
        for label, name in enumerate(classes)
    }
    summary = {
        "cells": results,
        "baselines": rules,
        "protocol": {
            "name": protocol, "folds": folds, "repeats": 1, "seed": 0, "fingerprint": "cd" * 32,
            "leaky": protocol == "paper",
        },
        "leaks": {"test_cells": len(cells), "person": len(cells) if protocol == "paper" else 0, "field": 0},
        "dataset": {
            "name": dataset, "source": "/data/C-NMC_Leukemia", "classes": list(classes), "images": len(cells),
            "subjects": sum(people) if subjects else 0, "people": sum(people) if subjects else 0,
            "by_class": by_class, "notes": ["2 files passed over: Thumbs.db"], "sha256": "ef" * 32,
        },
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(summary))
    (folder / "config.json").write_text(
        json.dumps(
            {
                "seed": seed,
                "evaluation.resamples": resamples,
                "evaluation.level": level,
                "data.source": "/data/C-NMC_Leukemia",
                "train.epochs": epochs,
                "study.vary": [],
                "split.test_fraction": 0.2,
                "weights.name": "",
            }
        )
    )
    (folder / "environment.json").write_text(
        json.dumps(
            {
                "alljax": "0.1.0",
                "command": "alljax study --config=configs/quickstart.py:cnmc --workdir=D",
                "devices": ["cpu cpu"],
                "packages": {"jax": "0.10.2"},
            }
        )
    )
    return folder


def write_cell(
    folder: Path, name: str, classes: tuple[str, ...], probabilities: np.ndarray, cells: list, paths: list[str],
    owners: list[str] | None, fold: list[int], epochs: int, generator: np.random.Generator,
) -> dict:  # fmt: skip
    labels = np.array([label for label, _, _ in cells])
    here = folder / "cells" / name
    rows, history = [], []
    for seed, one in enumerate(probabilities):
        for row in np.lexsort((np.arange(len(fold)), fold)):
            called = classes[one[row].argmax()]
            shown = [f"{value:.9g}" for value in one[row]]
            owner = owners[row] if owners else ""
            rows.append([paths[row], owner, classes[labels[row]], called, *shown, "test", 0, fold[row], seed])
        for held in range(max(fold) + 1):
            shift = generator.normal(scale=0.02)
            for epoch in range(1, epochs + 1):
                gain = 1 - np.exp(-epoch / (epochs / 5))
                values = [1e-4 * 0.95**epoch, 0.65 - 0.5 * gain, 0.6 + 0.36 * gain, 0.66 - 0.25 * gain + 0.004 * epoch]
                held_out = 0.6 + 0.22 * gain + shift + generator.normal(scale=0.01)
                history.append([0, held, seed, epoch, *(f"{value:.9g}" for value in (*values, held_out))])
    header = ["path", "subject", "label", "predicted", *(f"prob_{name}" for name in classes)]
    write_csv(here / "predictions.csv", [*header, "split", "repeat", "fold", "seed"], rows)
    write_csv(
        here / "history.csv",
        [
            "repeat",
            "fold",
            "seed",
            "epoch",
            "learning_rate",
            "train_loss",
            "train_accuracy",
            "val_loss",
            "val_accuracy",
        ],
        history,
    )
    images, captions = [], []
    for row in most_wrong(labels, probabilities, 24):
        radius = np.hypot(*np.mgrid[-1:1:450j, -1:1:450j]) + 0.05 * generator.normal(size=(450, 450))
        images.append(Image.fromarray((radius < 0.55)[..., None] * np.array([120, 70, 150], np.uint8)))
        called = probabilities.mean(0)[row]
        captions.append(
            f"{classes[labels[row]]}, called {classes[called.argmax()]} {called.max():.0%}\nsubject {cells[row][1]}"
        )
    (folder / "figures").mkdir(exist_ok=True)
    (folder / "figures" / f"wrong-{name}.png").write_bytes(figures.wrong_sheet(images, captions))
    each = [evaluate(labels, one) for one in probabilities]
    return dict(of_seeds(each)) | {"seeds": list(range(len(each))), "per_seed": each}


class Page(HTMLParser):
    """Checks that tags nest, and collects what the tests ask about."""

    VOID = frozenset({"meta", "link", "img", "br", "input", "hr", "line", "rect", "path", "use"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.names: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.text += " " if tag in {"td", "th", "dt", "dd", "li", "p", "h1", "h2", "h3", "small"} else ""
        self.tags.append((tag, dict(attributes)))
        self.names += [str(value) for name, value in attributes if name == "id"]
        if tag not in self.VOID or tag in {"path", "use"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self.names += [str(value) for name, value in attributes if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"script", "style"}:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(folder: Path) -> Page:
    return Page(report.write_report(folder).read_text(encoding="utf-8"))


def said(found: Page) -> str:
    return " ".join(found.text.split())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workdir(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def written(study: Path) -> Page:
    return page(study)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workdir(tmp_path_factory.mktemp("small"), people=(5, 6), names=TWO, epochs=3, resamples=100)


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "copy"))


def test_one_file_that_loads_nothing(study: Path) -> None:
    path = report.write_report(study)
    text = path.read_text(encoding="utf-8")
    assert path == study / "report.html"
    assert path.stat().st_size < 5_000_000
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    found = Page(text)
    assert {attributes.get("rel") for attributes in found.all("link")} == {"icon"}
    for tag, attributes in found.tags:
        for name in ("src", "href", "action", "data", "poster"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes[name])
    policy = next(meta["content"] for meta in found.all("meta") if "http-equiv" in meta)
    assert "default-src 'none'" in str(policy)


def test_names_are_unique_and_every_link_within_the_page_arrives(written: Page) -> None:
    found = written
    assert len(found.names) == len(set(found.names))
    links = [str(link["href"]) for link in found.all("a")]
    assert links
    assert {link[1:] for link in links} <= set(found.names)


def test_every_model_stands_in_the_table_best_first_below_the_rules(study: Path, written: Page) -> None:
    metrics = json.loads((study / "metrics.json").read_text())
    text = said(written)
    results = text[text.index("Results Over all") : text.index("The best model:")]
    order = sorted(metrics["cells"], key=lambda name: -metrics["cells"][name]["auc"])
    places = [results.index(name) for name in ["always the largest class", "size of the cell alone", *order]]
    assert places == sorted(places)
    best = metrics["cells"][order[0]]
    low, high = best["intervals"]["accuracy"]
    assert f"{best['accuracy']:.1%}" in results
    assert f"[{100 * low:.1f}, {100 * high:.1f}]" in results
    assert f"{best['auc']:.3f}" in results


def test_the_first_sentence_names_the_best_and_its_intervals(study: Path, written: Page) -> None:
    metrics = json.loads((study / "metrics.json").read_text())
    best = metrics["cells"]["vgg16-adam"]
    low, high = best["intervals"]["auc"]
    text = said(written)
    assert (
        f"Of 4 models, vgg16-adam tells “all” from “hem” best, with an AUC of {best['auc']:.3f} "
        f"[{low:.3f}, {high:.3f}]. It calls {best['accuracy']:.1%}"
    ) in text
    assert "Its own interval overlaps with those of all 3 other models." in text
    assert "picked on the very cells it is scored on" in text
    recall = best["per_class"][1]["recall"]
    assert f"sensitivity: “all” called so {recall:.1%}" in text


def test_names_that_are_html_stay_names(written: Page) -> None:
    found = written
    assert NASTY in found.text
    assert len(found.all("script")) == 1


def test_it_can_be_heard_as_well_as_seen(written: Page) -> None:
    found = written
    assert found.all("html")[0]["lang"] == "en"
    assert all(image.get("alt") for image in found.all("img"))
    assert all(head.get("scope") in {"col", "row"} for head in found.all("th"))
    drawn = [one for one in found.all("svg") if one.get("aria-hidden") != "true"]
    assert len(drawn) == 4 * len(EVERY_CELL)
    assert all(one["role"] == "img" for one in drawn)
    assert all(box["tabindex"] == "0" for box in found.all("div") if box.get("class") == "scroll")


def test_people_are_listed_worst_first(study: Path, written: Page) -> None:
    text = said(written)
    table = text[text.index("worst first For") : text.index("Other models", text.index("worst first For"))]
    shares = [int(share) for share in re.findall(r"(\d+)%", table)]
    assert len(shares) == 32
    assert shares == sorted(shares)
    study_ = finished.read_study(study)
    read = finished.read_predictions(study_, "vgg16-adam")
    of_one = read.people == "H1"
    right = (read.probabilities.argmax(2) == read.labels)[:, of_one].mean()
    assert f"H1hem{of_one.sum()}{right:.0%}" in text.replace(" ", "")


def test_the_same_folder_gives_the_same_bytes(copy: Path) -> None:
    first = report.write_report(copy).read_bytes()
    assert report.write_report(copy).read_bytes() == first
    assert not list(copy.glob(".*"))


def test_three_classes(tmp_path: Path) -> None:
    classes = ("Benign & <i>", "early pre-B", "pro-B")
    found = page(make_workdir(tmp_path, classes, people=(5, 12, 11), names=("a", "b"), epochs=3, skill=0.9))
    text = said(found)
    assert "Of 2 models, a tells the 3 classes apart best" in text
    assert "Only 5 people with “Benign & <i>” cells were tested" in text
    assert "The two models' own intervals overlap." in text
    assert not found.all("i")


def test_one_model_without_subjects(tmp_path: Path) -> None:
    found = page(make_workdir(tmp_path, names=("only",), subjects=False, seeds=1, epochs=1))
    text = said(found)
    assert "only tells “all” from “hem”, with an AUC" in text
    assert "95% intervals over cells" in text
    assert "Who the cells came from is not known" in text
    assert "Person by person" not in text
    assert "Other models" not in text
    assert "next best" not in text


def test_what_the_page_adds_is_drawn_as_the_study_drew(tmp_path: Path) -> None:
    folder = make_workdir(tmp_path, people=(6, 7), names=TWO, epochs=2, resamples=100, level=0.8, seed=7)
    options = {"resamples": 100, "level": 0.8, "seed": 7}
    study, text = finished.read_study(folder), said(page(folder))
    one, other = (finished.read_predictions(study, name) for name in TWO)
    people = one.people.tolist()
    names = ["recall_0", "recall_1"]
    for label, (low, high) in enumerate(
        bootstrap(one.labels, one.probabilities, people, names=names, **options).values()
    ):
        recall = study.metrics["cells"][TWO[0]]["per_class"][label]["recall"]
        assert f"“{study.classes[label]}” called so {recall:.1%} [{100 * low:.1f}, {100 * high:.1f}]" in text
    low, high = difference(one.labels, one.probabilities, other.probabilities, people, names=["auc"], **options)["auc"]
    assert f"[{low:.3f}, {high:.3f}] in AUC" in text
    assert "the 80% interval" in text


def test_minutes_are_of_the_heads_for_every_model_alike(written: Page) -> None:
    text = said(written)
    assert "minutes to train the heads" in text
    for place, name in enumerate(EVERY_CELL):
        row = text[text.index(f" {name} ", text.index("minutes to train")) :]
        assert re.search(r" (\d+\.\d)(?= (?:vgg16|resnet50|The best))", row)[1] == f"{place + 1:.1f}"


def test_intervals_are_not_said_to_be_where_they_are_not(study: Path, written: Page) -> None:
    text = said(written)
    assert "those from macro recall to log loss are in metrics.json" in text
    best = json.loads((study / "metrics.json").read_text())["cells"]["vgg16-adam"]
    columns = list(report.COLUMNS)
    assert set(columns[columns.index("macro_recall") :]) <= best["intervals"].keys()


def test_weights_are_described_once_a_file(written: Page) -> None:
    assert {f"{number}. name" for number in (1, 2)} <= set(re.findall(r"\d\. name", written.text))
    assert "3. name" not in written.text


def test_a_leak_is_said_before_the_numbers_are_explained(tmp_path: Path) -> None:
    text = said(page(make_workdir(tmp_path, names=("only",), protocol="paper", epochs=2)))
    leak = re.search(r"Leak: ([\d,]+) of \1 held-out cells have a cell of the same person", text)
    assert leak
    assert leak.start() < text.index("Always answering")
    assert "A random 20% of the cells was held out" in text


def test_a_model_no_better_than_size_or_the_majority_is_said_to_be(tmp_path: Path) -> None:
    text = said(page(make_workdir(tmp_path, names=("a", "b"), skill=0.0, epochs=2)))
    assert "no less often than the model" in text
    assert "clearly below and of no use" in text or "it is not shown that the model sees more" in text


def test_models_that_do_not_differ_are_said_not_to(copy: Path) -> None:
    shutil.copytree(copy / "cells" / TWO[0], copy / "cells" / TWO[1], dirs_exist_ok=True)
    metrics = json.loads((copy / "metrics.json").read_text())
    metrics["cells"] = dict.fromkeys(TWO, metrics["cells"][TWO[0]])
    (copy / "metrics.json").write_text(json.dumps(metrics))
    assert "The data do not say which of the two is better." in said(page(copy))


def test_what_would_make_the_page_heavy_stays_beside_it(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PAGE", 450_000)
    found = page(copy)
    assert len(found.all("img")) == 1
    assert "The sheet is beside this page: figures/wrong-resnet50-adam.png" in said(found)
    monkeypatch.setattr(report, "PAGE", 50_000)
    found = page(copy)
    assert not found.all("img")
    assert "Left out to keep the page light. The numbers are in cells/resnet50-adam/" in said(found)
    assert len([one for one in found.all("svg") if one.get("role") == "img"]) == 4


def test_a_study_without_sheets_has_a_report(copy: Path) -> None:
    shutil.rmtree(copy / "figures")
    assert not page(copy).all("img")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("config.json", "is this the --workdir of"),
        ("environment.json", "is this the --workdir of"),
        ("split.csv", "no such file; run the same `alljax study` command again"),
        ("cells/resnet50-adam/history.csv", "no such file; remove .*/cells/resnet50-adam and run"),
        ("cells/resnet50-adam/predictions.csv", "no such file; remove .*/cells/resnet50-adam and run"),
    ],
)
def test_a_missing_file_is_named(copy: Path, file: str, message: str) -> None:
    (copy / file).unlink()
    with pytest.raises(WorkdirError, match=message) as caught:
        report.write_report(copy)
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (copy / "report.html").exists()


def test_an_interrupted_study_is_called_unfinished(copy: Path) -> None:
    (copy / "metrics.json").unlink()
    with pytest.raises(WorkdirError, match="this study is not finished; run the same `alljax study` command again"):
        report.write_report(copy)


@pytest.mark.parametrize("files", [{}, {"metrics.json": "{}"}, {"metrics.json": "[]", "config.json": '{"layers": 12}'}])
def test_what_is_no_study_is_not_to_be_removed(tmp_path: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(WorkdirError, match="the --workdir of") as caught:
        report.write_report(tmp_path)
    assert "remove" not in str(caught.value)
    assert "again" not in str(caught.value)


@pytest.mark.parametrize("file", ["split.csv", "cells/vgg16-adam/history.csv", "cells/vgg16-adam/predictions.csv"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.9999])
def test_a_table_that_was_cut_off_is_named(copy: Path, file: str, kept: float) -> None:
    whole = (copy / file).read_bytes()
    (copy / file).write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(WorkdirError, match=re.escape(file)) as caught:
        report.write_report(copy)
    assert "again" in str(caught.value)


@pytest.mark.parametrize("file", ["metrics.json", "config.json", "figures/wrong-vgg16-adam.png"])
def test_other_files_that_were_cut_off_are_named(copy: Path, file: str) -> None:
    whole = (copy / file).read_bytes()
    (copy / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WorkdirError, match=re.escape(file)):
        report.write_report(copy)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (r",hem,", ",HEM,", "class 'HEM' is none of the study's"),
        (r"^fold_0/hem", "fold_9/hem", "fold_9/hem/.* is not in split.csv"),
        (r",0\.(\d+),", ",nan,", "line 2 has a probability that is no number"),
        (r",0\.(\d+),", ",half,", "could not convert string to float"),
        (r"(?<=,)1$", "0", "have not tested the same cells"),
        (r"prob_all", "prob_ALL", "no column 'prob_all'"),
    ],
)
def test_a_prediction_that_fits_nothing_is_named(copy: Path, old: str, new: str, message: str) -> None:
    path = copy / "cells" / "vgg16-adam" / "predictions.csv"
    path.write_text(re.sub(old, new, path.read_text(), count=1, flags=re.MULTILINE))
    with pytest.raises(WorkdirError, match=message):
        report.write_report(copy)


def test_metrics_without_a_part_are_refused(copy: Path) -> None:
    (copy / "metrics.json").write_text('{"cells": {}}')
    with pytest.raises(WorkdirError, match=r"metrics\.json: no 'cells' in it"):
        report.write_report(copy)


def test_an_infinite_loss_is_a_gap_in_the_curve(copy: Path) -> None:
    path = copy / "cells" / "vgg16-adam" / "history.csv"
    lines = path.read_text().splitlines()
    lines[5] = ",".join([*lines[5].split(",")[:5], "inf", "0.5", "nan", "0.5"])
    path.write_text("\n".join(lines) + "\n")
    report.write_report(copy)


def test_the_terminal_shows_models_then_rules(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = json.loads((study / "metrics.json").read_text())
    console = Console(width=100, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(report.terminal_table(metrics))
    text = capture.get()
    order = [text.index(name) for name in (*EVERY_CELL, "always the largest class", "size of the cell alone")]
    assert order == sorted(order)
    assert "95% intervals over people" in text
    best = metrics["cells"]["vgg16-adam"]
    low, high = best["intervals"]["macro_f1"]
    assert f"{best['macro_f1']:.3f} [{low:.3f}, {high:.3f}]".replace("0.", ".") in text
    report.show(metrics)
    out = capsys.readouterr().out
    assert "resnet50-rmsprop" in out
    assert out.splitlines()[-1] == "positive class: all"
    metrics["dataset"]["classes"] = ["a", "b", "c"]
    report.show(metrics)
    assert "positive class" not in capsys.readouterr().out


def test_best_is_the_highest_auc_and_accuracy_only_where_there_is_none() -> None:
    cells = {"a": {"auc": 0.7, "accuracy": 0.9}, "b": {"auc": 0.8, "accuracy": 0.6}}
    assert finished.best(cells) == "b"
    cells["a"]["auc"] = None  # type: ignore[assignment]
    assert finished.best(cells) == "a"
