"""The report in a real browser: Debian's Chromium, driven by Selenium; nothing is fetched."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By

from alljax.report import page
from alljax.report.tables import Table, Value

pytestmark = pytest.mark.system
CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    for program in (CHROMIUM, DRIVER):
        if not program.is_file():
            pytest.skip(f"the report was not opened in a browser: no {program} (apt install chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--no-first-run", "--window-size=1280,900",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):  # fmt: skip
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # A given path keeps Selenium from looking for a driver on the network.
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


def load(browser: webdriver.Chrome, path: Path, width: int = 1280, dark: bool = False, media: str = "") -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": [scheme]})
    browser.get(path.as_uri())


@pytest.mark.parametrize("width", [1280, 390])
def test_page_loads_without_requests_and_fits_the_screen(
    browser: webdriver.Chrome, toy_report: Path, width: int
) -> None:
    load(browser, toy_report, width)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_click_on_a_heading_sorts(browser: webdriver.Chrome, tmp_path: Path) -> None:
    rows = tuple((Value(f"trial-{n}"), Value(f"{n * 7 % 12}", n * 7 % 12)) for n in range(12))
    path = tmp_path / "table.html"
    path.write_text(page.render_table(Table("toy", "A table", ("model", "number"), rows, rows[:1])))
    load(browser, path)
    script = "return [...document.querySelector('tbody').rows].map(row => row.cells[arguments[0]].innerText)"
    for column, key, orders in ((1, int, (True, False)), (0, lambda text: int(text[6:]), (False, True))):
        for reverse in orders:
            browser.find_elements(By.CSS_SELECTOR, "thead button")[column].click()
            values = [key(text) for text in browser.execute_script(script, column)]
            assert values == sorted(values, reverse=reverse)
    assert browser.find_element(By.CSS_SELECTOR, "tfoot").text.startswith("trial-0")


def luminance(color: str) -> float:
    """Returns the relative luminance of WCAG 2 of an opaque ``rgb(…)``."""
    parts = [int(part) / 255 for part in color.removeprefix("rgb(").rstrip(")").split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("dark", [False, True])
def test_text_has_contrast_on_light_and_dark_pages(browser: webdriver.Chrome, toy_report: Path, dark: bool) -> None:
    load(browser, toy_report, dark=dark)
    script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    ground = luminance(browser.execute_script(script, "body", "backgroundColor"))
    assert (ground < 0.05) == dark
    for css in ("body", "td.number", ".soft", "figcaption", "a", "td small", "tfoot td", "figure svg text"):
        color = browser.execute_script(script, css, "fill" if css.endswith("text") else "color")
        lighter, darker = sorted((luminance(color), ground), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, css


def test_page_prints_within_the_paper(browser: webdriver.Chrome, toy_report: Path) -> None:
    load(browser, toy_report, width=718, media="print")  # A4 without its margins
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 718
    assert base64.b64decode(browser.print_page()).count(b"/Type /Page\n") >= 4
