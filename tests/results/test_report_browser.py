"""The pages in a real browser: filters filter, a confusion cell opens its clips, all fits, nothing complains."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from Code.results.compare import compare_runs
from Code.results.report import write_report
from Code.results.series import write_fold_summary
from tests.runs import make_run

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (requirements-dev.txt)")
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.select import Select  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no browser: apt-get install chromium chromium-driver (.ci/run does)"
)
ALERT = "<script>alert(1)</script>"
CLIPS = [  # name, label, prediction, certainty
    ("Happy/a", "Happy", "Happy", 0.9),
    ("Happy/b", "Happy", "Sad", 0.8),
    (ALERT, "Angry", "Sad", 0.7),
    ("Angry/c", "Angry", "Angry", 0.6),
    ("Angry/d", "Angry", "Sad", 0.5),
]
LABELS_8 = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
SETTINGS = {"learning_rate_of_the_backbone": 0.0001, "start": "pretrain_model/a_rather_long_name.pth", "frames": 3}


def big_run(folder: Path, at_type: int, seed: int, **settings: Any) -> Path:
    """A run of 30 clips of eight classes."""
    said = np.random.default_rng(seed).integers(0, 8, 30)
    clips = [(f"clip_{at:03d}", LABELS_8[at % 8], LABELS_8[of], 0.7) for at, of in enumerate(said)]
    return make_run(folder, LABELS_8, clips, args={"at_type": at_type, "seed": seed, **SETTINGS, **settings})


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report with pictures, one of which is missing; one of eight classes, a comparison, and an overview of folds."""
    folder = tmp_path_factory.mktemp("pages")
    small = make_run(folder / "run", ("Happy", "Angry", "Sad"), CLIPS, frames=4, args={"at_type": 1, "note": ALERT})
    (small / "frames/0/3.png").unlink()
    folds = [big_run(folder / f"folds/fold-0{at}", 1, at) for at in (1, 2)]
    other = {name: f"another_{value}" for name, value in SETTINGS.items()}
    runs = [*folds, big_run(folder / "self", 0, 3), big_run(folder / "other", 2, 4, **other)]
    write_fold_summary(folder / "folds", folds)
    compare_runs(runs, folder / "comparison.html")
    written = {"small": small, "report": folds[0], "overview": folder / "folds"}
    return {"comparison": folder / "comparison.html", **{name: write_report(path) for name, path in written.items()}}


def start_browser(profile: Path, *, script: bool = True) -> Any:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if not script:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = start_browser(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: Any, pages: dict[str, Path]) -> Iterator[Any]:
    browser.get("about:blank")  # another address that differs in its fragment alone would load nothing
    browser.get(pages["small"].as_uri())
    yield browser
    assert browser.get_log("browser") == []


def find(driver: Any, selector: str) -> Any:
    return driver.find_element("css selector", selector)


def shown(driver: Any) -> list[str]:
    cards = driver.find_elements("css selector", ".clip")
    return [card.find_element("css selector", "h3").text for card in cards if card.is_displayed()]


def choose(driver: Any, name: str, text: str) -> None:
    Select(find(driver, f"select[name={name}]")).select_by_visible_text(text)


def test_filters_filter_and_reset(opened: Any) -> None:
    assert shown(opened) == [name for name, *_ in CLIPS]
    assert "1 picture could not be read" in find(opened, "#clips").text
    choose(opened, "truth", "Angry")
    choose(opened, "right", "wrong")
    assert shown(opened) == [ALERT, "Angry/d"]
    find(opened, "input[name=search]").send_keys("ANGRY/")
    assert shown(opened) == ["Angry/d"] and find(opened, ".count").text == "1 of 5 clips"
    find(opened, "input[name=search]").send_keys("nothing")
    assert shown(opened) == [] and find(opened, ".none").is_displayed()
    find(opened, "button[type=reset]").click()
    choose(opened, "sort", "certainty, lowest first")
    assert shown(opened) == [name for name, *_ in reversed(CLIPS)]
    choose(opened, "sort", "mistakes first")
    assert shown(opened) == ["Happy/b", ALERT, "Angry/d", "Angry/c", "Happy/a"]


def test_a_confusion_cell_opens_its_clips_by_keyboard_and_back_returns(opened: Any) -> None:
    cell = find(opened, ".confusion a[data-truth='1'][data-said='2']")
    assert cell.text.split() == ["2", "67"]
    cell.send_keys(Keys.ENTER)
    assert opened.switch_to.active_element.tag_name == "h2"  # where reading goes on
    assert opened.current_url.endswith("#clips?truth=1&said=2")
    opened.refresh()
    assert shown(opened) == [ALERT, "Angry/d"]
    opened.back()
    assert len(shown(opened)) == 5


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["small", "report", "comparison", "overview"])
def test_nothing_is_wider_than_the_screen(browser: Any, pages: dict[str, Path], name: str, width: int) -> None:
    sizes = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
    browser.get(pages[name].as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    # Tables fit without scrolling, too, except for that of the epochs, which is closed, and words fit into their boxes.
    wide = """return [...document.querySelectorAll('section > .scroll, .cards > .scroll, th, .keys dd span')]
              .filter((box) => box.clientWidth && box.scrollWidth > box.clientWidth + 1).map((box) => box.innerText)"""
    assert browser.execute_script(wide) == [] and browser.get_log("browser") == []
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def emulate(browser: Any, media: str = "", scheme: str = "light") -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def test_paper_has_twelve_clips_or_all_and_no_controls(browser: Any, pages: dict[str, Path]) -> None:
    browser.get(pages["report"].as_uri())
    for choice, count in (("the first 12 clips", 12), ("all clips", 30)):
        choose(browser, "print", choice)
        emulate(browser, "print")
        assert not find(browser, ".filters").is_displayed() and len(shown(browser)) == count
        emulate(browser)


def test_curves_follow_dark_mode(browser: Any, pages: dict[str, Path]) -> None:
    brightness = []
    for scheme in ("dark", "light"):
        emulate(browser, scheme=scheme)
        browser.get(pages["report"].as_uri())
        with Image.open(io.BytesIO(find(browser, ".plots img").screenshot_as_png)) as picture:
            brightness.append(float(np.asarray(picture.convert("L")).mean()))
    assert brightness[0] < 60 and brightness[1] > 200


def test_without_script_everything_shows_but_the_filters(pages: dict[str, Path], tmp_path: Path) -> None:
    driver = start_browser(tmp_path / "profile", script=False)
    try:
        driver.get(pages["small"].as_uri())
        assert len(shown(driver)) == 5 and not find(driver, ".filters").is_displayed()
        assert "need JavaScript" in find(driver, "#clips").text
    finally:
        driver.quit()
