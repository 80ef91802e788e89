"""The report in a real browser: filters filter, a confusion cell opens its clips, names are text, nothing complains."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from Code.results.report import write_report

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (requirements-dev.txt)")
from selenium.webdriver.common.keys import Keys  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no browser: apt-get install chromium chromium-driver (.ci/run does)"
)
LABELS = ["Happy", "Angry", "Sad"]
ALERT = "<script>alert(1)</script>"
CLIPS = [  # name, label, prediction, certainty
    ("Happy/a", "Happy", "Happy", 0.9),
    ("Happy/b", "Happy", "Sad", 0.8),
    (ALERT, "Angry", "Sad", 0.7),
    ("Angry/c", "Angry", "Angry", 0.6),
    ("Angry/d", "Angry", "Sad", 0.5),
]


def make_run(folder: Path) -> Path:
    """A run of five clips of four frames, with pictures, one of which is missing."""
    folder.mkdir()
    confusion = [[1, 0, 1], [0, 1, 2], [0, 0, 0]]
    best = {
        "epoch": 1, "accuracy": 0.4, "accuracy_interval": [0.1, 0.8], "accuracy_listed": 0.4, "uar": 0.4167,
        "per_class_recall": [0.5, 1 / 3, None], "confusion": confusion, "num_clips": 5, "num_clips_listed": 5,
        "num_skipped": 0,
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps({"labels": LABELS, "best": best}))
    (folder / "log.jsonl").write_text(json.dumps({"epoch": 1, "lr": 0.1, "train_loss": 1.0, "val_war": 0.4}) + "\n")
    (folder / "args.json").write_text(json.dumps({"args": {"at_type": 1, "note": ALERT}}))
    tables: dict[str, list[list[Any]]] = {
        "predictions.csv": [["clip", "label", "prediction", *LABELS]],
        "attention.csv": [["clip", "frame", "alpha", "beta", "weight", "intensity"]],
        "clips.csv": [["clip", "folder"]],
    }
    for number, (name, label, said, sure) in enumerate(CLIPS):
        rest = (1 - sure) / 2
        tables["predictions.csv"].append([name, label, said, *(sure if of == said else rest for of in LABELS)])
        frames = folder / "frames" / str(number)
        frames.mkdir(parents=True)
        tables["clips.csv"].append([name, frames])
        for at in range(4):
            pixels = np.random.default_rng(at).integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(frames / f"{at}.jpg")
            tables["attention.csv"].append([name, f"{at}.jpg", 0.2 * at, 0.5, at / 6, at / 3])
    (folder / "frames/0/3.jpg").unlink()
    for name, rows in tables.items():
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(make_run(tmp_path_factory.mktemp("browser") / "run"))


def start_browser(profile: Path, *, script: bool = True) -> Any:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"):
        options.add_argument(flag)
    options.add_argument("--disable-background-networking")
    options.add_argument("--disable-dev-shm-usage")
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
def opened(browser: Any, page: Path) -> Iterator[Any]:
    browser.get("about:blank")  # another address that differs in its fragment alone would load nothing
    browser.get(page.as_uri())
    yield browser
    assert browser.get_log("browser") == []


def find(driver: Any, selector: str) -> Any:
    return driver.find_element("css selector", selector)


def shown(driver: Any) -> list[str]:
    return [card.find_element("css selector", "h3").text for card in driver.find_elements("css selector", ".clip")
            if card.is_displayed()]  # fmt: skip


def choose(driver: Any, name: str, text: str) -> None:
    from selenium.webdriver.support.select import Select

    Select(find(driver, f"select[name={name}]")).select_by_visible_text(text)


def test_all_clips_show_by_certainty_and_a_strange_name_is_text(opened: Any) -> None:
    assert shown(opened) == [name for name, *_ in CLIPS]
    pictures = opened.find_elements("css selector", ".tiles img")
    assert len(pictures) == 19 and len(opened.find_elements("css selector", ".blank")) == 1
    assert "1 picture could not be read" in find(opened, "#clips").text
    opened.execute_script("for (const picture of document.images) picture.loading = 'eager'")
    loaded = "return [...document.images].every((one) => one.complete && one.naturalWidth > 0)"
    for _ in range(50):
        if opened.execute_script(loaded):
            break
    assert opened.execute_script(loaded)


def test_filters_filter_and_reset(opened: Any) -> None:
    choose(opened, "truth", "Angry")
    assert shown(opened) == [ALERT, "Angry/c", "Angry/d"]
    choose(opened, "right", "wrong")
    assert shown(opened) == [ALERT, "Angry/d"]
    find(opened, "input[name=search]").send_keys("ANGRY/")
    assert shown(opened) == ["Angry/d"] and find(opened, ".count").text == "1 of 5 clips"
    find(opened, "input[name=search]").send_keys("nothing")
    assert shown(opened) == [] and find(opened, ".none").is_displayed()
    find(opened, "button[type=reset]").click()
    assert len(shown(opened)) == 5
    choose(opened, "sort", "certainty, lowest first")
    assert shown(opened) == [name for name, *_ in reversed(CLIPS)]
    choose(opened, "sort", "mistakes first")
    assert shown(opened) == ["Happy/b", ALERT, "Angry/d", "Angry/c", "Happy/a"]


def test_a_confusion_cell_opens_its_clips_by_keyboard_and_back_returns(opened: Any) -> None:
    cell = find(opened, ".confusion a[data-truth='1'][data-said='2']")
    assert cell.text.split() == ["2", "67"]
    cell.send_keys(Keys.ENTER)
    assert shown(opened) == [ALERT, "Angry/d"]
    assert opened.switch_to.active_element.tag_name == "h2"  # where reading goes on
    assert opened.current_url.endswith("#clips?truth=1&said=2")
    opened.refresh()
    assert shown(opened) == [ALERT, "Angry/d"]
    opened.back()
    assert len(shown(opened)) == 5


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_screen(opened: Any, width: int, tmp_path: Path) -> None:
    sizes = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
    assert opened.execute_script("return document.documentElement.scrollWidth") <= width
    assert opened.save_screenshot(str(tmp_path / "page.png"))
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_without_script_everything_shows_but_the_filters(page: Path, tmp_path: Path) -> None:
    driver = start_browser(tmp_path / "profile", script=False)
    try:
        driver.get(page.as_uri())
        assert len(shown(driver)) == 5
        assert not find(driver, ".filters").is_displayed()
        assert "need JavaScript" in find(driver, "#clips").text
    finally:
        driver.quit()
