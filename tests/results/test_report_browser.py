"""The report in a real browser: filters filter, a confusion cell opens its clips, names are text, nothing complains."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from Code.results.compare import compare_runs
from Code.results.report import write_report
from Code.training.metrics import confusion_metrics
from Code.training.records import as_dict, read_results
from Code.training.series import fold_summary

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
        "uar_interval": [0.1, 0.8],
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


LABELS_8 = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"]
SETTINGS = {
    "learning_rate_of_the_backbone": 0.0001, "start": "pretrain_model/a_rather_long_name_of_a_file.pth.tar",
    "batch_size": 48, "epochs": 180, "decay_at": [60, 120], "image_size": 224, "momentum": 0.9, "frames": 3,
}  # fmt: skip


def make_big_run(folder: Path, at_type: int, seed: int, **settings: Any) -> Path:
    """A run of 30 clips of eight classes without pictures, and three epochs."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    truth = np.arange(30) % 8
    probabilities = rng.dirichlet(np.ones(8), 30)
    probabilities[np.arange(30), truth] += rng.integers(0, 2, 30)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    said = probabilities.argmax(axis=1)
    confusion = np.zeros((8, 8), int)
    np.add.at(confusion, (truth, said), 1)
    metrics = confusion_metrics(torch.tensor(confusion), num_listed=30) | {"epoch": 3, "loss": 1.0}
    results = {"labels": LABELS_8, "selected_on": "best on the evaluated split", "fold": seed, "num_folds": 2}
    (folder / "results.json").write_text(json.dumps({**results, "best": metrics, "last": metrics}))
    args = {"at_type": at_type, "seed": seed, "dataset": "ckplus", **SETTINGS, **settings}
    (folder / "args.json").write_text(json.dumps({"args": args, "command": "python Demo_AFEW_Attention.py --lr 1e-3"}))
    lines = ({"epoch": e, "lr": 0.1, "train_loss": 1 / e, "val_loss": 1.2 / e, "val_war": 0.2 * e} for e in (1, 2, 3))
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    answers = enumerate(zip(truth, said, probabilities, strict=True))
    rows = [[f"clip_{at:03d}", LABELS_8[t], LABELS_8[s], *p] for at, (t, s, p) in answers]
    with (folder / "predictions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["clip", "label", "prediction", *LABELS_8], *rows])
    return folder


@pytest.fixture(scope="module")
def big_pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report of eight classes, a comparison of runs that differ in many flags, and an overview of folds."""
    folder = tmp_path_factory.mktemp("pages")
    series = folder / "folds"
    folds = [make_big_run(series / f"fold-0{at}", 1, at) for at in (1, 2)]
    other = {name: f"another_{value}" for name, value in SETTINGS.items()}
    runs = [*folds, make_big_run(folder / "self", 0, 3), make_big_run(folder / "other", 2, 4, **other)]
    summary = fold_summary([read_results(fold / "results.json") for fold in folds])
    (series / "summary.json").write_text(json.dumps(as_dict(summary)))
    comparison, _ = compare_runs(runs, folder / "comparison.html")
    return {"report": write_report(folds[0]), "comparison": comparison, "overview": write_report(series)}


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["report", "comparison", "overview"])
def test_eight_classes_and_many_flags_fit(browser: Any, big_pages: dict[str, Path], name: str, width: int) -> None:
    sizes = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
    browser.get(big_pages[name].as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    # Tables fit without scrolling, too, except for that of the epochs, which is closed.
    wider = """return [...document.querySelectorAll('section > .scroll, .cards > .scroll')]
               .filter((box) => box.scrollWidth > box.clientWidth + 1).map((box) => box.getAttribute('aria-label'))"""
    assert browser.execute_script(wider) == []
    # No word of a heading or of the key is wider than its box.
    broken = """return [...document.querySelectorAll('th, .keys dd span')]
                .filter((box) => box.clientWidth && box.scrollWidth > box.clientWidth + 1)
                .map((box) => box.textContent)"""
    assert browser.execute_script(broken) == []
    assert browser.get_log("browser") == []
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("name", ["report", "comparison"])
def test_paper_has_twelve_clips_or_all_and_no_controls(browser: Any, big_pages: dict[str, Path], name: str) -> None:
    browser.get(big_pages[name].as_uri())
    total = len(shown(browser))
    assert total > 12

    def printed() -> int:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        assert not find(browser, ".filters").is_displayed() and not find(browser, "nav").is_displayed()
        count = len(shown(browser))
        cut = """return [...document.querySelectorAll('.odds b')]
                 .filter((b) => ((b.textContent = '100 %'), b.scrollWidth > b.clientWidth)).length"""
        assert browser.execute_script(cut) == 0
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        return count

    assert printed() == 12
    choose(browser, "print", "all clips")
    assert printed() == total


def test_curves_follow_dark_mode(browser: Any, big_pages: dict[str, Path]) -> None:
    def brightness() -> float:
        browser.get(big_pages["report"].as_uri())
        with Image.open(io.BytesIO(find(browser, ".plots img").screenshot_as_png)) as picture:
            return float(np.asarray(picture.convert("L")).mean())

    assert brightness() > 200
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        assert brightness() < 60
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_without_script_everything_shows_but_the_filters(page: Path, tmp_path: Path) -> None:
    driver = start_browser(tmp_path / "profile", script=False)
    try:
        driver.get(page.as_uri())
        assert len(shown(driver)) == 5
        assert not find(driver, ".filters").is_displayed()
        assert "need JavaScript" in find(driver, "#clips").text
    finally:
        driver.quit()
