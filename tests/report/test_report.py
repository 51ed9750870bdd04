import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from workdirs import EVERY_CELL, NASTY, TWO, make_workdir

from alljax.errors import WorkdirError
from alljax.evaluation import comparison
from alljax.evaluation.intervals import bootstrap, difference
from alljax.report import findings, report, terminal
from alljax.report import page as page_module
from alljax.report.tables import Figure, Section, Table, Value
from alljax.study import finished


class Page(HTMLParser):
    """Checks that tags nest, and collects what the tests ask about."""

    VOID = frozenset({"meta", "link", "img", "br", "input", "hr", "line", "rect", "path", "use", "wbr"})

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
    order = sorted(metrics["trials"], key=lambda name: -metrics["trials"][name]["auc"])
    places = [results.index(name) for name in ["always the largest class", "size of the cell alone", *order]]
    assert places == sorted(places)
    best = metrics["trials"][order[0]]
    low, high = best["intervals"]["accuracy"]
    assert f"{best['accuracy']:.1%}" in results
    assert f"[{100 * low:.1f}, {100 * high:.1f}]" in results
    assert f"{best['auc']:.3f}" in results


def test_the_first_sentence_names_the_best_and_its_intervals(study: Path, written: Page) -> None:
    metrics = json.loads((study / "metrics.json").read_text())
    best = metrics["trials"]["vgg16-adam"]
    low, high = best["intervals"]["auc"]
    text = said(written)
    assert (
        f"Of 4 models, vgg16-adam tells “all” from “hem” best, with an AUC of {best['auc']:.3f} "
        f"[{low:.3f}, {high:.3f}]. It calls {best['accuracy']:.1%}"
    ) in text
    below = sum(gap.below for gap in comparison.gaps(finished.read_study(study)).values())
    counted = {
        0: "None of the 3 other models is distinguishable from it.",
        1: "Of the 3 other models 2 are not distinguishable from it, 1 is clearly below.",
        2: "Of the 3 other models 1 is not distinguishable from it, 2 are clearly below.",
        3: "All 3 other models are clearly below it.",
    }
    assert counted[below] in text
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
    assert "It is ahead of the next best, b, by " in text
    assert "other model" not in text
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
        recall = study.metrics["trials"][TWO[0]]["per_class"][label]["recall"]
        assert f"“{study.classes[label]}” called so {recall:.1%} [{100 * low:.1f}, {100 * high:.1f}]" in text
    alone = difference(one.labels, one.probabilities, other.probabilities, people, names=["auc"], **options)["auc"]
    (gap,) = comparison.gaps(study).values()
    assert gap.bounds
    low, high = -gap.bounds[1], -gap.bounds[0]
    assert [low, high] == pytest.approx(alone, abs=0.005), "of one pair it is about the percentile interval"
    assert f"[{low:.3f}, {high:.3f}] in AUC".replace("-", "−") in text
    assert "the 80% interval" in text


def test_minutes_are_of_training_for_every_model_alike(written: Page) -> None:
    text = said(written)
    assert "Minutes leave out computing features" in text
    for place, name in enumerate(EVERY_CELL):
        row = text[text.index(f" {name} ", text.index("minutes to train")) :]
        assert re.search(r" (\d+\.\d)(?= (?:vgg16|resnet50|The best))", row)[1] == f"{place + 1:.1f}"


def test_intervals_are_not_said_to_be_where_they_are_not(study: Path, written: Page) -> None:
    text = said(written)
    assert "those from macro recall to log loss are in metrics.json" in text
    best = json.loads((study / "metrics.json").read_text())["trials"]["vgg16-adam"]
    columns = list(findings.METRIC)
    assert set(columns[columns.index("macro_recall") :]) <= best["intervals"].keys()


def test_it_is_said_of_how_many_cells_each_fold_learned_and_was_tested_on(study: Path, written: Page) -> None:
    counts = json.loads((study / "metrics.json").read_text())["protocol"]
    ends = r"(\d+) to (\d+)"
    told = re.search(rf"For each part a model learned from {ends} cells and was tested on {ends}\.", said(written))
    assert told
    learned, tested = counts["training_cells"], counts["test_cells"]
    assert [*map(int, told.groups())] == [min(learned), max(learned), min(tested), max(tested)]


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
    assert re.search(
        r"the model is below it, −0\.\d+ \[−0\.\d+, −0\.\d+\] AUC within folds, both tried on the same people", text
    )
    assert "and of no use" in text


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"auc": (0.1, (0.02, 0.2))}, "the model is above it, +0.100 [+0.020, +0.200] AUC within folds, both tried on"),
        ({"auc": (0.1, (0.02, 0.2)), "accuracy": (-0.01, (-0.1, 0.1))}, "same people, but not right more often"),
        ({"auc": (0.1, (-0.02, 0.2))}, "so it is not shown that the model sees more than size"),
        ({"auc": (-0.15, (-0.2, -0.1))}, "and of no use"),
        ({"accuracy": (0.1, (0.02, 0.2))}, "above it, +10.0 [+2.0, +20.0] percentage points of accuracy, both tried"),
        ({}, "no interval could be drawn"),
    ],
)
def test_size_is_compared_on_the_same_people(found: Any, told: str) -> None:
    over_size = {name: {"value": value, "interval": bounds} for name, (value, bounds) in found.items()}
    assert told in findings._over_size(over_size, 5, "people")


def test_models_that_do_not_differ_are_said_not_to(copy: Path) -> None:
    shutil.copytree(copy / "trials" / TWO[0], copy / "trials" / TWO[1], dirs_exist_ok=True)
    metrics = json.loads((copy / "metrics.json").read_text())
    metrics["trials"] = dict.fromkeys(TWO, metrics["trials"][TWO[0]])
    (copy / "metrics.json").write_text(json.dumps(metrics))
    assert "The data do not say which of the two is better." in said(page(copy))


def test_what_would_make_the_page_heavy_stays_beside_it(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "PAGE", 450_000)
    found = page(copy)
    assert len(found.all("img")) == 1
    assert "The sheet is beside this page: figures/wrong-resnet50-adam.png" in said(found)
    monkeypatch.setattr(page_module, "PAGE", 50_000)
    found = page(copy)
    assert not found.all("img")
    assert "Left out to keep the page light. The numbers are in trials/resnet50-adam/" in said(found)
    assert len([one for one in found.all("svg") if one.get("role") == "img"]) == 4


def test_of_many_models_only_the_best_have_figures(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_module, "MANY", 1)
    monkeypatch.setattr(page_module, "DRAWN", 1)
    found = page(copy)
    text = said(found)
    assert len([one for one in found.all("svg") if one.get("role") == "img"]) == 4
    assert "The other 1 are in the table above" in text
    assert TWO[1] in text[text.index("Results Over all") : text.index("The best model:")]
    links = {str(link["href"])[1:] for link in found.all("a")}
    assert "model-0" in links
    assert links <= set(found.names)


def test_a_study_that_is_not_finished_says_so_first(copy: Path) -> None:
    metrics = json.loads((copy / "metrics.json").read_text())
    metrics |= {"missing": [f"cell-{number}" for number in range(10)], "failed": {"bad<b>": "out of memory"}}
    (copy / "metrics.json").write_text(json.dumps(metrics))
    found = page(copy)
    text = said(found)
    assert "10 of 13 models are not there yet: cell-0, cell-1," in text
    assert "cell-7 and 2 more. To train what is missing, run the same" in text
    assert text.index("1 of 13 models failed: bad<b>") < text.index("sensitivity") < text.index("bad<b>: out of memory")
    assert not found.all("b")


def test_a_physician_reads_from_the_top(study: Path, written: Page) -> None:
    text = said(written)
    by_class = json.loads((study / "metrics.json").read_text())["dataset"]["by_class"]
    count = {name: one["images"] for name, one in by_class.items()}
    parts = [
        "tells “all” from “hem” best", "Read this first", "sensitivity", "It is ahead of the next best", "4 models.",
        f"together {sum(count.values())} 32", "always the largest class", "Results Over all", "The best model:",
        "Other models vgg16-rmsprop", "Data and protocol The cells", "Settings, and how to redo it alljax",
    ]  # fmt: skip
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


def section(size: int = 0) -> Section:
    table = Table("odd-table", "A <title>", ("what", "value"), ((Value("a&b"), Value("1.5", 1.5, "[1, 2]")),))
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 9" role="img"><title>{"x" * size}</title></svg>'
    return Section("odd", "An odd section", ("It says <this>.",), (table, Figure("odd-figure", "drawn", svg, b"png")))


def test_sections_stand_before_the_results_and_beside_the_page(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "sections", lambda study: [section()])
    found = page(copy)
    text = said(found)
    assert text.index("size of the cell alone") < text.index("It says <this>. ") < text.index("Results Over all")
    assert "A <title>" in text
    assert {"odd", "odd-table"} <= set(found.names)
    assert (copy / "figures/odd-figure.png").read_bytes() == b"png"
    assert "1.5" in (copy / "tables/odd-table.csv").read_text()
    assert any(str(one.get("class")) == "picture broad" for one in found.all("figure"))


def test_a_picture_that_is_too_heavy_stays_beside_the_page(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "sections", lambda study: [section(page_module.PAGE)])
    path = report.write_report(copy)
    assert path.stat().st_size < 2_000_000
    assert "figures/odd-figure.svg" in path.read_text()
    assert (copy / "figures/odd-figure.svg").stat().st_size > page_module.PAGE


def test_a_study_without_sheets_has_a_report(copy: Path) -> None:
    shutil.rmtree(copy / "figures")
    assert not page(copy).all("img")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("config.json", "is this the --workdir of"),
        ("environment.json", "is this the --workdir of"),
        ("split.csv", "no such file; run the same `alljax study` command again"),
        ("trials/resnet50-adam/history.csv", "no such file; remove .*/cells/resnet50-adam and run"),
        ("trials/resnet50-adam/predictions.csv", "no such file; remove .*/cells/resnet50-adam and run"),
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


@pytest.mark.parametrize("file", ["split.csv", "trials/vgg16-adam/history.csv", "trials/vgg16-adam/predictions.csv"])
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
    path = copy / "trials" / "vgg16-adam" / "predictions.csv"
    path.write_text(re.sub(old, new, path.read_text(), count=1, flags=re.MULTILINE))
    with pytest.raises(WorkdirError, match=message):
        report.write_report(copy)


def test_metrics_without_a_part_are_refused(copy: Path) -> None:
    (copy / "metrics.json").write_text('{"trials": {}}')
    with pytest.raises(WorkdirError, match=r"metrics\.json: no 'trials' in it"):
        report.write_report(copy)


def test_an_infinite_loss_is_a_gap_in_the_curve(copy: Path) -> None:
    path = copy / "trials" / "vgg16-adam" / "history.csv"
    lines = path.read_text().splitlines()
    lines[5] = ",".join([*lines[5].split(",")[:5], "inf", "0.5", "nan", "0.5"])
    path.write_text("\n".join(lines) + "\n")
    report.write_report(copy)


def test_the_terminal_shows_models_then_rules(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = json.loads((study / "metrics.json").read_text())
    console = Console(width=100, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(terminal.table(metrics, console.width))
    text = capture.get()
    order = [text.index(name) for name in (*EVERY_CELL, "always the largest class", "size of the cell alone")]
    assert order == sorted(order)
    assert "95% intervals over people" in text
    best = metrics["trials"]["vgg16-adam"]
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
    trials = {"a": {"auc": 0.7, "accuracy": 0.9}, "b": {"auc": 0.8, "accuracy": 0.6}}
    assert finished.best(trials) == "b"
    trials["a"]["auc"] = None  # type: ignore[assignment]
    assert finished.best(trials) == "a"
