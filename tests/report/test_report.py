import itertools
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alljax.data.readers import open_labeled
from alljax.evaluation.intervals import summarize
from alljax.report import findings, model_tables, page, plots, report
from alljax.report.tables import Figure, Section, Table, Value
from alljax.study import workdir
from alljax.study.results import Study, read_study

HOSTILE = "H9<script>alert(1)</script>&"


class Page(HTMLParser):
    """Collects tags with attributes, and the text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(self.words.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.words += " " if tag not in {"wbr", "strong", "span", "code"} else ""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data if self.tags and self.tags[-1][0] not in {"script", "style"} else ""

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def ids(self) -> list[str]:
        return [str(attributes["id"]) for _, attributes in self.tags if "id" in attributes]


@pytest.fixture(scope="module")
def toy_page(toy_report: Path) -> Page:
    return Page(toy_report)


def change_json(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    workdir.record(path.parent, [path.name])


def test_page_is_accessible(toy_page: Page) -> None:
    assert toy_page.all("html")[0]["lang"] == "en"
    assert len(toy_page.ids) == len(set(toy_page.ids))
    assert {str(link["href"])[1:] for link in toy_page.all("a")} <= set(toy_page.ids)
    assert all(image.get("alt") for image in toy_page.all("img"))
    assert all(heading.get("scope") in {"col", "row"} for heading in toy_page.all("th"))
    boxes = [box for box in toy_page.all("div") if box.get("class") == "scroll"]
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in boxes)
    assert len(toy_page.all("svg")) > 4
    assert all(svg.get("role") == "img" or svg.get("aria-hidden") == "true" for svg in toy_page.all("svg"))
    levels = [int(tag[1]) for tag, _ in toy_page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_page_opens_with_the_best_model_and_its_intervals(toy_report: Path, toy_page: Page) -> None:
    study = read_study(toy_report.parent)
    best = study.ranking.best
    result = study.metrics["trials"][best]
    start = toy_page.text[toy_page.text.index("Best of 4 models:") : toy_page.text.index("Images by class")]
    low, high = result["intervals"]["auc"]
    assert best in start
    assert f"AUC {result['auc']:.3f} [{low:.3f}, {high:.3f}]" in start
    recalls = summarize(study.predictions(best).held_out, 0.95, ["recall_1"])["intervals"]["recall_1"]
    sensitivity = f"{result['per_class'][1]['recall']:.1%} [{100 * recalls[0]:.1f}, {100 * recalls[1]:.1f}]"
    assert f"recall of ALL (leukemic blast) {sensitivity}" in start


def test_model_card_has_the_content_of_the_page(toy_report: Path) -> None:
    card, study = (toy_report.parent / "model_card.md").read_text(), read_study(toy_report.parent)
    best = study.metrics["trials"][study.ranking.best]
    low, high = best["intervals"]["auc"]
    assert f"| {best['auc']:.3f} [{low:.3f}, {high:.3f}] |" in card
    for words in ("research only", "| --- |", "train.batch_size=16", best["weights"]["sha256"]):
        assert words in card
    assert f"jax {study.environment['packages']['jax']}" in card.split("## Settings")[1]
    assert all(name in card.split("## Open topics")[1] for name in ("CLAIM", "TRIPOD+AI"))
    assert str(toy_report.parent.parent) not in card


def test_most_confident_errors_are_listed_first(toy_report: Path) -> None:
    study = read_study(toy_report.parent)
    predictions = study.predictions(study.ranking.best)
    mean = predictions.probabilities.mean(0)
    wrong = predictions.labels != mean.argmax(1)
    listed = [row[1].number for row in model_tables.misclassified_table(study).rows]
    assert listed == sorted(mean[wrong].max(1), reverse=True)[: model_tables.MISCLASSIFIED]


def test_hostile_names_are_displayed_as_text(study_copy: Path) -> None:
    def change(metrics: Any) -> None:
        metrics["dataset"] |= {"class_names": [HOSTILE, "<i>ALL</i>"], "name": "<b>data</b>", "notes": ["<u>note</u>"]}
        metrics["failed"] = dict.fromkeys(metrics["trials"], "out of <s>memory</s>")
        found = {"balanced_accuracy": 1, "values": {HOSTILE: "<b>1</b>", "ALL": "2"}}
        metrics["dataset"]["file_properties"] = {"width": found}
        for split in metrics["splits"].values():
            for baseline in split["baselines"].values():
                baseline |= {"auc": None, "intervals": {"auc": [0, 1]}}

    change_json(study_copy / "metrics.json", change)
    split = study_copy / "split.csv"
    split.write_text(split.read_text().replace("H1,", f"{HOSTILE},"))
    workdir.record(study_copy, ["split.csv"])
    found = Page(report.write_report(study_copy))
    assert HOSTILE in found.text
    assert len(found.all("script")) == 1
    assert not [tag for tag, _ in found.tags if tag in {"i", "b", "u", "s"}]


def test_unchanged_report_is_not_redrawn(study_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = report.write_report(study_copy)
    first = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(page, "render", lambda *_: pytest.fail("drawn again"))
        report.write_report(study_copy)
    path.unlink()
    assert report.write_report(study_copy).read_bytes() == first, "the same study gives the same bytes"
    change_json(study_copy / "metrics.json", lambda metrics: metrics["dataset"].update(notes=["a new note"]))
    assert "a new note" in report.write_report(study_copy).read_text()


def test_sections_are_shown_before_the_results(study_copy: Path) -> None:
    change_json(study_copy / "config.json", lambda config: config.update({"study.compare": "paper"}))
    table = Table("odd-table", "A <title>", ("what", "value"), ((Value("a&b"), Value("1.5", 1.5, "[1, 2]")),))
    svg = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 9"><path id="p"/></svg>'
    parts = table, Figure("odd-figure", "drawn", svg, b"png")
    section = Section("odd", "An odd section", ("It says <this>.",), parts)
    found = Page(report.write_report(study_copy, lambda study: [section]))
    assert found.text.index("It says <this>.") < found.text.index("A <title>") < found.text.index("Metrics over all")
    assert {"odd", "odd-table", "odd-figure-p"} <= set(found.ids)
    assert "effects" not in found.ids
    assert (study_copy / "figures/odd-figure.png").read_bytes() == b"png"
    for name in ("results", "odd-table"):
        assert {path.suffix for path in study_copy.glob(f"tables/{name}.*")} == {".csv", ".tex", ".html"}
    assert Page(study_copy / "tables/results.html").all("table")[0]["id"] == "results"


def test_unfinished_and_leaky_studies_warn_first(study_copy: Path) -> None:
    def change(metrics: Any) -> None:
        missing, failed, *_ = trials = [*metrics["trials"]]
        done = {name: metrics["trials"][name] for name in trials[2:]}
        metrics |= {"missing": [missing], "failed": {failed: "no memory"}, "trials": done}
        for split in metrics["splits"].values():
            split["leaks"]["subject"] = 17
            split["protocol"] |= {"leaky": True, "name": "paper"}

    change_json(study_copy / "metrics.json", change)
    text = Page(report.write_report(study_copy)).text
    warnings = "missing 1 of 4 models", "1 of 4 models failed: ", "the subject of 17 of 48 held-out images"
    places = [text.index(words) for words in (*warnings, "sensitivity", ": no memory")]
    assert places == sorted(places)


def test_contact_sheet_shows_misclassified_images(study_copy: Path, toy_config: Callable[..., Any]) -> None:
    report.write_report(study_copy)
    assert not list(study_copy.glob("figures/*.jpg"))
    found = Page(report.write_report(study_copy, None, lambda: open_labeled(toy_config().data)))
    (sheet,) = study_copy.glob("figures/misclassified-*.jpg")
    with Image.open(sheet) as image:
        assert image.format == "JPEG"
    assert len(found.all("image")) == 1
    (study_copy / "report.html").unlink()
    assert len(Page(report.write_report(study_copy)).all("image")) == 1, "without the images the sheet stays"


def test_near_duplicates_take_one_place(
    study_copy: Path, toy_config: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, captions = read_study(study_copy), list[list[str]]()
    gray = np.tile(np.arange(32, dtype=np.uint8), (32, 1))
    monkeypatch.setattr(page, "reduce", lambda image: gray)
    monkeypatch.setattr(plots, "contact_sheet", lambda images, texts: captions.append(texts) or b"")
    page.write_contact_sheet(study, open_labeled(toy_config().data))
    ((caption,),) = captions
    assert caption.splitlines()[2].startswith("1: ")


def test_few_effective_subjects_and_missing_intervals_are_warnings(make_study: Callable[..., Study]) -> None:
    study = make_study()
    of_class = study.metrics["trials"][study.ranking.best]["per_class"][0]
    assert "ubject" not in " ".join(findings.warnings(study))
    of_class |= {"subjects": 21, "effective_subjects": 1.77}
    (warning,) = findings.warnings(study)
    assert "Few subjects were tested: 21 (effectively 1.8) of HEM (normal)." in warning
    of_class |= {"subjects": 1, "effective_subjects": 1.0}
    (warning,) = findings.warnings(study)
    assert warning.startswith("No intervals: class HEM (normal) was tested on one of the subjects")


def test_findings_compare_with_other_models_and_size(make_study: Callable[..., Study]) -> None:
    study = make_study(("train.epochs", (1, 2, 3, 4)))
    improvement = study.metrics["trials"][study.ranking.best]["size_improvement"]
    for low, lines, words in ((0.02, findings.findings, "significantly"), (-0.02, findings.warnings, "not shown")):
        improvement["auc"] = {"value": 0.1, "interval": [low, 0.2]}
        text = " ".join(lines(study))
        assert words in text
        assert f"AUC minus that of the size +0.100 [{low:+.3f}, +0.200]".replace("-", "−") in text
    text = " ".join(findings.findings(study))
    below = sum(difference.below for difference in study.ranking.differences.values())
    assert f"worse than the best model: {below} of 3" in text
    assert below > 0
    assert "next best" not in " ".join(findings.findings(make_study()))
    several = findings.headline(make_study(class_names=("benign", "pre", "pro")))
    assert [*several["images"]][1:] == ["balanced accuracy", "recall of benign", "recall of pre", "recall of pro"]
