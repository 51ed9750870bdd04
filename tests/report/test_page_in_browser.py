"""The report in a real browser: Debian's Chromium, driven by Selenium; nothing is fetched."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paper_study
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from workdirs import make_workdir

from alljax.report import report

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
PAPER = [
    ["model.backbone", ["vgg16", "resnet50"]],
    ["train.optimizer", ["adam", "rmsprop"]],
    ["train.epochs", [10, 20, 30, 40, 50, 60, 80, 100]],
]
ABLATION = [["train.learning_rate", [1e-5, 1e-4, 1e-3]], ["train.optimizer", ["adam", "rmsprop"]]]
PAGES = ("paper", "ablation", "compared")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The reports of 32 cells, of an ablation with a failed cell, and of the paper's study beside its tables."""
    made = {}
    for name, vary in (("paper", PAPER), ("ablation", ABLATION)):
        folder = tmp_path_factory.mktemp(name)
        make_workdir(folder, people=(6, 8), seeds=1, epochs=12, resamples=100, step=0.02, sheets=2,
                     settings={"study.sweep": vary})  # fmt: skip
        if name == "ablation":
            metrics = json.loads((folder / "metrics.json").read_text())
            metrics |= {"missing": ["sgd"], "failed": {"lamb": "its loss was no number after epoch 3"}}
            (folder / "metrics.json").write_text(json.dumps(metrics))
        made[name] = report.write_report(folder)
    folder = tmp_path_factory.mktemp("compared")
    paper_study.make(folder, networks=("vgg16", "resnet50"), protocols=("paper", "subject_kfold"))
    made["compared"] = report.write_report(folder)
    return made


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    for program in (CHROMIUM, DRIVER):
        if not program.is_file():
            pytest.skip(f"the report was not looked at in a browser: no {program} (apt install chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--no-first-run", "--window-size=1280,900",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # A given path keeps Selenium from looking for a driver on the network.
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


def load(browser: webdriver.Chrome, page: Path, width: int = 1280, dark: bool = False) -> None:
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get(page.as_uri())


def column(browser: webdriver.Chrome, table: str, number: int) -> list[str]:
    script = (
        "const table = document.querySelector(arguments[0]);"
        "const body = table.querySelector('tbody.models') || table.tBodies[0];"
        "return [...body.rows].map(row => row.cells[arguments[1]].innerText.split('\\n')[0].trim());"
    )
    return browser.execute_script(script, table, number)


def click_heading(browser: webdriver.Chrome, table: str, number: int) -> None:
    heading = browser.find_elements(By.CSS_SELECTOR, f"{table} thead th")[number]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", heading)
    heading.find_element(By.TAG_NAME, "button").click()


def curves(browser: webdriver.Chrome, css: str) -> tuple[WebElement, list[dict[str, Any]]]:
    svg = browser.find_element(By.CSS_SELECTOR, f"{css} svg[data-curves]")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", svg)
    return svg, json.loads(svg.get_attribute("data-curves") or "")


def readout(browser: webdriver.Chrome, svg: WebElement) -> str:
    box = browser.execute_script("return arguments[0].parentElement.querySelector('.readout')", svg)
    return box.text if box.is_displayed() else ""


def point_at(browser: webdriver.Chrome, svg: WebElement, panel: dict[str, Any], share: float) -> None:
    """Moves the mouse to a share of a panel's width, half way up."""
    left, top, width, height = panel["box"]
    script = (
        "const r = arguments[0].getBoundingClientRect(), s = r.width / arguments[0].viewBox.baseVal.width;"
        "return [r.left + s * arguments[1], r.top + s * arguments[2]];"
    )
    x, y = browser.execute_script(script, svg, left + share * width, top + height / 2)
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [1280, 390])
def test_it_loads_alone_and_nothing_sticks_out(
    browser: webdriver.Chrome, pages: dict[str, Path], name: str, width: int
) -> None:
    browser.get_log("browser"), browser.get_log("performance")
    load(browser, pages[name], width)
    for details in browser.find_elements(By.TAG_NAME, "details"):
        browser.execute_script("arguments[0].open = true", details)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    assert {url for url in asked if not url.startswith("data:")} <= {pages[name].as_uri()}
    wide, inner = browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert inner == width
    assert wide <= inner
    shot = browser.get_screenshot_as_png()
    assert len(shot) > 20_000


@pytest.mark.parametrize("width", [1280, 390])
def test_a_table_longer_than_the_screen_scrolls_below_its_headings(
    browser: webdriver.Chrome, pages: dict[str, Path], width: int
) -> None:
    load(browser, pages["compared"], width)
    box = browser.find_element(By.CSS_SELECTOR, ".scroll[aria-label=Results]")
    assert len(box.find_elements(By.CSS_SELECTOR, "tbody.models tr")) == 64
    script = (
        "const box = arguments[0]; box.scrollIntoView(); box.scrollTop = 2000;"
        "return [box, box.querySelector('thead')].map(one => one.getBoundingClientRect().top)"
        ".concat(box.clientHeight, box.scrollTop);"
    )
    top, heading, height, scrolled = browser.execute_script(script, box)
    assert (heading, scrolled) == (pytest.approx(top, abs=1), 2000)
    assert height <= 0.86 * 900
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert browser.execute_script("return arguments[0].scrollHeight - arguments[0].clientHeight", box) <= 1
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    load(browser, pages["ablation"], width)
    heights = "return [...document.querySelectorAll('.scroll')].map(box => box.scrollHeight - box.clientHeight)"
    assert not any(browser.execute_script(heights)), "a short table is shown whole"


@pytest.mark.parametrize("table", ["table.wide", "table#ablation"])
def test_a_click_sorts_and_a_second_one_turns_it_round(
    browser: webdriver.Chrome, pages: dict[str, Path], table: str
) -> None:
    load(browser, pages["paper"])
    headings = [one.text for one in browser.find_elements(By.CSS_SELECTOR, f"{table} thead th")]
    number = headings.index("accuracy")
    before = column(browser, table, number)
    assert len(before) == 32
    for turned in (True, False):
        click_heading(browser, table, number)
        found = column(browser, table, number)
        values = [float(text.rstrip("%")) for text in found]
        assert values == sorted(values, reverse=turned)
        assert sorted(found) == sorted(before)
    assert column(browser, table, number) != before
    click_heading(browser, table, 0)
    words = column(browser, table, 0)
    assert words == sorted(words, key=lambda text: [int(part) if part.isdigit() else part for part in text.split("=")])
    rules = browser.find_elements(By.CSS_SELECTOR, "table.wide tbody.rules tr")
    assert [one.find_element(By.TAG_NAME, "th").text for one in rules] == [
        "always the largest class",
        "size of the cell alone",
    ]


def test_the_mouse_reads_a_curve(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    load(browser, pages["paper"])
    svg, (panel,) = curves(browser, "#model-0")
    assert readout(browser, svg) == ""
    for share, epoch in ((0.02, 1), (0.98, 12)):
        point_at(browser, svg, panel, share)
        lines = readout(browser, svg).split("\n")
        assert lines[0] == f"epoch {epoch}"
        for label, _, values in panel["lines"]:
            assert lines[lines.index(label) + 1] == f"{values[epoch - 1]:.3f}"
    places = "return arguments[0].querySelector('.hair').getBoundingClientRect().x"
    hair = browser.execute_script(places, svg)
    box = browser.execute_script(
        "return arguments[0].parentElement.querySelector('.readout').getBoundingClientRect()", svg
    )
    assert box["right"] <= hair
    browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": 1, "y": 1})
    assert readout(browser, svg) == ""


def test_arrow_keys_read_a_curve(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    load(browser, pages["ablation"])
    svg, (panel,) = curves(browser, ".picture")
    svg.send_keys(Keys.ARROW_RIGHT)
    assert readout(browser, svg).split("\n")[0] == "learning rate 0.00001"
    svg.send_keys(Keys.END)
    last = readout(browser, svg).split("\n")
    assert last[0] == "learning rate 0.001"
    assert last[1:] == ["Adam", f"{panel['lines'][0][2][2]:.3f}", "RMSprop", f"{panel['lines'][1][2][2]:.3f}"]
    svg.send_keys(Keys.ARROW_LEFT)
    assert readout(browser, svg).split("\n")[0] == "learning rate 0.0001"
    svg.send_keys(Keys.ESCAPE)
    assert readout(browser, svg) == ""


def test_a_finger_reads_a_curve(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    load(browser, pages["paper"], 390)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    svg, _ = curves(browser, "#model-0")
    rectangle = svg.rect
    top = browser.execute_script("return arguments[0].getBoundingClientRect().top", svg)
    point = {"x": rectangle["x"] + rectangle["width"] * 0.9, "y": top + rectangle["height"] / 2}
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [point]})
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert readout(browser, svg).startswith("epoch 1")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def luminance(color: str) -> float:
    """Returns the relative luminance of WCAG 2 of an opaque ``rgb(…)``."""
    parts = [int(part) / 255 for part in color.removeprefix("rgb(").rstrip(")").split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("dark", [False, True])
def test_text_is_readable_by_day_and_by_night(browser: webdriver.Chrome, pages: dict[str, Path], dark: bool) -> None:
    load(browser, pages["ablation"], dark=dark)
    script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    ground = luminance(browser.execute_script(script, "body", "backgroundColor"))
    assert (ground < 0.05) == dark
    for css in ("body", "td.number", ".soft", "figcaption", "a", "td small", "figure svg text"):
        name = "fill" if css.endswith("text") else "color"
        lighter, darker = sorted((luminance(browser.execute_script(script, css, name)), ground), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, css


def test_what_failed_is_said_before_the_numbers(browser: webdriver.Chrome, pages: dict[str, Path]) -> None:
    load(browser, pages["ablation"])
    text = browser.find_element(By.CSS_SELECTOR, ".warnings").text
    assert "1 of 8 models is not there yet: sgd" in text
    assert "1 of 8 models failed: lamb" in text
    assert "lamb: its loss was no number after epoch 3" in browser.find_element(By.TAG_NAME, "main").text


@pytest.mark.parametrize("name", PAGES)
def test_it_prints(browser: webdriver.Chrome, pages: dict[str, Path], name: str) -> None:
    load(browser, pages[name])
    printed = base64.b64decode(browser.print_page())
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") >= 5
    # A4 less its margins is about 718 pixels wide: no table may stick out.
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 718, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    )
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert wide <= 718
