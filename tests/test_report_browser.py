"""The report in a real browser: no errors, no requests, a divider that moves, room on a phone, readable colours."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import report_samples as samples
import screenshots
from PIL import Image

from bsqcodec.bench import pictures
from bsqcodec.bench.html import write_report

pytestmark = pytest.mark.skipif(screenshots.missing() is not None, reason=str(screenshots.missing()))

VIEWS = list(itertools.product(screenshots.SIZES, screenshots.THEMES))
MIN_CONTRAST = 4.5  # WCAG 2.2, 1.4.3, level AA

# [text, ratio] of every visible text, its colour against the nearest opaque background below it.
CONTRAST = """
const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
const linear = (value) => ((value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const background = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const found = channels(getComputedStyle(at).backgroundColor);
    if (found.length === 3 || found[3] === 1) return found;
    if (found[3] !== 0) throw new Error('half transparent background of ' + at.outerHTML.slice(0, 80));
  }
  throw new Error('no background');
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const results = [];
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  const text = walker.currentNode.textContent.trim();
  if (!text || ['SCRIPT', 'STYLE', 'title'].includes(element.tagName)) continue;
  if (!element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
  const style = getComputedStyle(element);
  const [front, back] = [channels(element.closest('svg') ? style.fill : style.color), background(element)];
  if (front.length === 4 && front[3] !== 1) throw new Error('half transparent text: ' + text);
  const [low, high] = [luminance(front), luminance(back)].sort((a, b) => a - b);
  results.push([text, (high + 0.05) / (low + 0.05)]);
}
return results;
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    frame = samples.frames(1)[0]
    worse = samples.coarser(frame, 8), samples.coarser(frame, 24)
    names = (
        pictures.Coded("bsqcodec:psnr, crf 30", 12345, 0.0123),
        pictures.Coded("x265:paper, crf 28.4", 12300, 0.0122),
    )
    shown = [
        pictures.make_picture(clip, 0, frame, *worse, ours_is=names[0], other_is=names[1])
        for clip in ("bee", samples.CLIPS[2][0])
    ]
    about = {"dataset": "mini", "command": "bsqcodec bench", "failures": ["x265:paper, bee: " + "long " * 30]}
    return write_report(tmp_path_factory.mktemp("report"), samples.records(), shown, about)


@pytest.fixture(scope="module")
def driver():
    with screenshots.browser() as running:
        yield running


@pytest.fixture
def viewer(driver, report):
    """The first viewer on a desktop, in the middle of the window."""
    screenshots.show(driver, report, "desktop", "light")
    element = driver.find_element("css selector", "[data-viewer]")
    driver.execute_script("arguments[0].querySelector('.stage').scrollIntoView({block: 'center'})", element)
    return element


def value(viewer) -> int:
    return int(viewer.find_element("css selector", "[role=slider]").get_attribute("aria-valuenow"))


def in_sight(driver, viewer) -> dict[str, str]:
    """Which picture lies on which side, by the alternative texts of those that are visible."""
    images = viewer.find_elements("css selector", ".stage img")
    visible = [image for image in images if image.is_displayed()]
    sides = {"left" if "left" in image.get_attribute("class").split() else "right": image for image in visible}
    return {side: image.get_attribute("alt").rpartition(": ")[2] for side, image in sides.items()}


@pytest.mark.parametrize(("size", "theme"), VIEWS)
def test_no_error_and_no_request_but_the_file_itself(driver, report, size, theme):
    driver.get_log("performance"), driver.get_log("browser")  # of the page before
    screenshots.show(driver, report, size, theme)
    assert driver.execute_script("return document.readyState") == "complete"
    assert driver.execute_script("return document.documentElement.classList.contains('js')")
    assert driver.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert report.as_uri() in urls
    # chrome:// is the new tab the browser starts with, which may still be loading; a page cannot ask for it
    own = (report.as_uri(), "data:", "chrome://")
    assert [url for url in urls if not url.startswith(own)] == []


@pytest.mark.parametrize("theme", screenshots.THEMES)
@pytest.mark.parametrize("size", screenshots.SIZES)
def test_every_text_stands_out_from_what_is_behind_it(driver, report, size, theme):
    screenshots.show(driver, report, size, theme)
    driver.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    results = driver.execute_script(CONTRAST)
    assert len(results) > 500
    assert [(text, ratio) for text, ratio in results if ratio < MIN_CONTRAST] == []


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_never_scrolls_sideways(driver, report, width):
    screenshots.show(driver, report, "phone", "light")
    device = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
    driver.execute_script("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    assert driver.execute_script("return document.documentElement.clientWidth") == width


def test_divider_follows_the_pointer(driver, viewer):
    from selenium.webdriver import ActionChains

    stage = viewer.find_element("css selector", ".stage")
    assert value(viewer) == 50
    quarter = stage.size["width"] // 4
    drag = ActionChains(driver).move_to_element(stage).click_and_hold()
    drag.move_by_offset(-quarter, 20).release().perform()
    assert value(viewer) == pytest.approx(25, abs=1)
    drag = ActionChains(driver).move_to_element(stage).click_and_hold().move_by_offset(-quarter, 0)
    drag.move_by_offset(2 * quarter, 0).release().move_by_offset(-quarter, 0).perform()
    assert value(viewer) == pytest.approx(75, abs=1)  # released there, so it stays there
    left = driver.execute_script("return getComputedStyle(arguments[0].querySelector('img.left')).clipPath", stage)
    assert float(left.removeprefix("inset(0px ").partition("%")[0]) == pytest.approx(25, abs=1)


def test_divider_is_drawn_where_it_says(driver, viewer, tmp_path):
    """Left of the divider are the pixels of the original, right of it those of bsqcodec."""
    frame = samples.frames(1)[0]
    stage = viewer.find_element("css selector", ".stage")
    driver.execute_script("arguments[0].querySelectorAll('.tag, .handle, .crop-box').forEach((e) => e.remove())", stage)
    (tmp_path / "stage.png").write_bytes(stage.screenshot_as_png)
    shown = np.asarray(Image.open(tmp_path / "stage.png").convert("RGB")).astype(int)
    picture = pictures.make_picture(
        "a", 0, frame, samples.coarser(frame, 8), frame, ours_is=pictures.Coded("x"), other_is=pictures.Coded("y")
    )
    original, ours = (shot.rgb.astype(int) for shot in picture.shots[:2])
    assert shown.shape == original.shape
    for part, expected, other in ((np.s_[:, :310], original, ours), (np.s_[:, 330:], ours, original)):
        assert np.abs(shown[part] - expected[part]).mean() < 0.1 < np.abs(shown[part] - other[part]).mean()


def test_divider_follows_the_keys(driver, viewer):
    from selenium.webdriver import Keys

    handle = viewer.find_element("css selector", "[role=slider]")
    driver.execute_script("arguments[0].focus()", handle)
    keys = [
        (Keys.ARROW_RIGHT, 51),
        (Keys.ARROW_UP, 52),
        (Keys.ARROW_LEFT, 51),
        (Keys.PAGE_DOWN, 41),
        (Keys.SHIFT + Keys.ARROW_LEFT, 31),
        (Keys.HOME, 0),
        (Keys.NULL + Keys.ARROW_LEFT, 0),
        (Keys.END, 100),
        (Keys.ARROW_RIGHT, 100),
    ]
    for key, expected in keys:
        handle.send_keys(key)
        assert value(viewer) == expected, key
    assert handle.get_attribute("aria-valuetext") == "100 % original, 0 % bsqcodec:psnr, crf 30"


def test_any_two_of_the_three_pictures_can_be_compared(driver, viewer):
    from selenium.webdriver.support.select import Select

    left, right = (Select(viewer.find_element("css selector", f"[data-side={side}]")) for side in ("left", "right"))
    assert in_sight(driver, viewer) == {"left": "original", "right": "bsqcodec:psnr, crf 30"}
    left.select_by_visible_text("x265:paper, crf 28.4")
    assert in_sight(driver, viewer) == {"left": "x265:paper, crf 28.4", "right": "bsqcodec:psnr, crf 30"}
    right.select_by_visible_text("x265:paper, crf 28.4")  # the two change places
    assert in_sight(driver, viewer) == {"left": "bsqcodec:psnr, crf 30", "right": "x265:paper, crf 28.4"}
    tags = [tag.text for tag in viewer.find_elements("css selector", ".tag")]
    assert tags == ["bsqcodec:psnr, crf 30", "x265:paper, crf 28.4"]


def test_one_table_and_one_set_of_charts_is_shown_at_a_time(driver, report):
    from selenium.webdriver.support.select import Select

    screenshots.show(driver, report, "desktop", "light")
    section = driver.find_element("id", "bd-rate")

    def shown() -> list[tuple[str, str]]:
        panels = [p for p in section.find_elements("css selector", "[data-panel]") if p.is_displayed()]
        return [(p.get_attribute("data-metric"), p.get_attribute("data-anchor")) for p in panels]

    assert shown() == [("psnr_yuv", "x264:paper")]
    driver.execute_script("arguments[0].click()", section.find_element("css selector", "input[value=ms_ssim_y_db]"))
    assert shown() == [("ms_ssim_y_db", "x264:paper")]
    Select(section.find_element("css selector", "select")).select_by_visible_text("x265:best")
    assert shown() == [("ms_ssim_y_db", "x265:best")]
    clips = driver.find_elements("css selector", "#curves [data-panel]")
    assert [c.get_attribute("data-metric") for c in clips if c.is_displayed()] == ["psnr_yuv"] * 3


def test_without_scripts_everything_is_shown(driver, report):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        screenshots.show(driver, report, "desktop", "light")
        assert all(p.is_displayed() for p in driver.find_elements("css selector", "[data-panel], .stage img"))
        assert not any(c.is_displayed() for c in driver.find_elements("css selector", ".controls, .handle"))
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_on_paper_the_pictures_lie_side_by_side(driver, report):
    screenshots.show(driver, report, "desktop", "dark")
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        images = driver.find_elements("css selector", "[data-viewer]:first-of-type .stage img")[:3]
        assert all(image.is_displayed() for image in images)
        assert len({image.location["x"] for image in images}) == 3
        assert not any(c.is_displayed() for c in driver.find_elements("css selector", ".controls, .handle, nav"))
        assert driver.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_screenshots_show_both_themes(driver, report, tmp_path):
    for size, theme in VIEWS:
        screenshots.show(driver, report, size, theme)
        path = screenshots.save(driver, tmp_path / f"{size}_{theme}.png", height=2000)
        image = np.asarray(Image.open(path).convert("L"))
        assert image.shape == (2000, screenshots.SIZES[size][0])
        assert (np.median(image) > 200) == (theme == "light")
    assert len(list(tmp_path.iterdir())) == 4


def test_screenshots_script_names_what_is_missing(tmp_path, capsys):
    assert screenshots.main([str(tmp_path / "none.html"), str(tmp_path)]) == 1
    assert "none.html: there is no such file" in capsys.readouterr().err
