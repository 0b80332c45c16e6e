"""The page of `bsqcodec view` in a real browser: it plays, steps, and shows the right pixels on each side."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import screenshots
import view_samples as samples
from PIL import Image

import bsqcodec
from bsqcodec.view import Options, PageServer, write_page

pytestmark = pytest.mark.skipif(screenshots.missing() is not None, reason=str(screenshots.missing()))

VIEWS = list(itertools.product(screenshots.SIZES, screenshots.THEMES))
MIN_CONTRAST = 4.5  # WCAG 2.2, 1.4.3, level AA

# Mean red, green and blue of a rectangle (x, y, width, height) of the picture.
MEAN = """
const [x, y, width, height] = arguments[0];
const { data } = document.getElementById('picture').getContext('2d').getImageData(x, y, width, height);
const sums = [0, 0, 0];
data.forEach((value, i) => { if (i % 4 < 3) sums[i % 4] += value; });
return sums.map((sum) => sum / (width * height));
"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The page with an original, and one without."""
    folder = tmp_path_factory.mktemp("view")
    made, negative = samples.write_samples(folder)
    options = Options(device="cpu")
    for name, original in (("both", negative), ("alone", None)):
        write_page(made, folder / f"{name}.html", original, options)
    return {name: folder / f"{name}.html" for name in ("both", "alone")}


@pytest.fixture(scope="module")
def driver():
    with screenshots.browser() as running:
        yield running


def wait(driver, script: str, *args):
    """Until a script is true."""
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(driver, screenshots.TIMEOUT, poll_frequency=0.05).until(
        lambda d: d.execute_script(f"return {script}", *args), f"never true: {script}"
    )


def show(driver, page, size="desktop", theme="light") -> None:
    screenshots.show(driver, page, size, theme)
    wait(driver, "document.documentElement.dataset.ready === 'yes'")


def shows(driver, index: int) -> None:
    """Wait until the picture is that of a frame, and the bar and the figures say so."""
    wait(driver, "document.getElementById('picture').dataset.frame === arguments[0]", str(index))
    assert driver.find_element("id", "seek").get_attribute("value") == str(index)
    assert driver.find_element("id", "now-frame").text.startswith(f"{index}, ")


def grey(driver, x: int) -> float:
    """What the flat lower half of the picture shows at a column, as luma of the limited range."""
    red, green, blue = driver.execute_script(MEAN, [x, 32, 8, 12])
    assert max(red, green, blue) - min(red, green, blue) < 4
    return green * 219 / 255 + 16


def choose(driver, layer: str) -> None:
    driver.execute_script("arguments[0].click()", driver.find_element("css selector", f"[value={layer}]"))


def cut(driver) -> int:
    return int(driver.find_element("id", "divider").get_attribute("aria-valuenow"))


@pytest.mark.parametrize(("size", "theme"), VIEWS)
def test_no_error_and_no_request_but_the_file_itself(driver, pages, size, theme):
    driver.get_log("performance"), driver.get_log("browser")  # of the page before
    show(driver, pages["both"], size, theme)
    assert driver.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert pages["both"].as_uri() in urls
    own = (pages["both"].as_uri(), "data:", "blob:", "chrome://")
    assert [url for url in urls if not url.startswith(own)] == []
    assert not driver.find_element("id", "trouble").is_displayed()


def test_each_side_shows_its_own_picture_of_the_same_frame(driver, pages):
    show(driver, pages["both"])
    for index in (0, 1, 5, 3, 4):
        driver.execute_script(
            """const bar = document.getElementById('seek');
            bar.value = arguments[0];
            bar.dispatchEvent(new Event('input'));""",
            index,
        )
        shows(driver, index)
        wait(driver, "!document.querySelector('video')")  # it is drawn, never shown
        assert grey(driver, 8) == pytest.approx(255 - samples.GREYS[index], abs=5)  # the negative
        assert grey(driver, 48) == pytest.approx(samples.GREYS[index], abs=5)


def test_colours_are_those_of_the_stream(driver, tmp_path):
    """Red by BT.601, which is what a small video without a matrix means; a browser alone would take BT.709."""
    planes = [np.full(shape, value, np.uint8) for shape, value in (((48, 64), 81), ((24, 32), 90), ((24, 32), 240))]
    (tmp_path / "red.bsq").write_bytes(bsqcodec.compress([tuple(planes)], crf=10, device="cpu"))
    write_page(tmp_path / "red.bsq", tmp_path / "red.html", None, Options(device="cpu"))
    show(driver, tmp_path / "red.html")
    assert driver.execute_script(MEAN, [8, 8, 16, 16]) == pytest.approx([255, 0, 0], abs=8)


def test_the_divider_follows_pointer_and_keys(driver, pages):
    from selenium.webdriver import ActionChains, Keys

    show(driver, pages["both"])
    stage = driver.find_element("id", "stage")
    ActionChains(driver).move_to_element(stage).click_and_hold().move_by_offset(
        -stage.size["width"] // 4, 10
    ).release().perform()
    assert cut(driver) == pytest.approx(25, abs=1)
    assert grey(driver, 4) == pytest.approx(255 - samples.GREYS[0], abs=5)
    assert grey(driver, 20) == pytest.approx(samples.GREYS[0], abs=5)  # right of it now
    handle = driver.find_element("id", "divider")
    for key, expected in ((Keys.ARROW_RIGHT, 26), (Keys.PAGE_UP, 36), (Keys.HOME, 0), (Keys.END, 100)):
        handle.send_keys(key)
        assert cut(driver) == pytest.approx(expected, abs=1), key
    assert grey(driver, 48) == pytest.approx(255 - samples.GREYS[0], abs=5)
    assert handle.get_attribute("aria-valuetext") == "100 % original, 0 % decoded"
    assert [tag.text for tag in driver.find_elements("css selector", ".tag") if tag.is_displayed()] == ["original"]


def test_it_plays_to_the_end_and_again(driver, pages):
    from selenium.webdriver.support.select import Select

    show(driver, pages["both"])
    play = driver.find_element("id", "play")
    Select(driver.find_element("id", "speed")).select_by_visible_text("0.25")  # slow enough to see it run
    for _ in range(2):
        play.click()
        wait(driver, "document.getElementById('play').textContent === 'Pause'")
        wait(driver, f"document.getElementById('picture').dataset.frame === '{samples.FRAMES - 1}'")
        wait(driver, "document.getElementById('play').textContent === 'Play'")
        assert grey(driver, 48) == pytest.approx(samples.GREYS[-1], abs=5)
    driver.find_element("id", "back").click()
    shows(driver, samples.FRAMES - 2)
    assert grey(driver, 48) == pytest.approx(samples.GREYS[-2], abs=5)


def test_keys_step_through_the_frames(driver, pages):
    from selenium.webdriver import ActionChains

    show(driver, pages["alone"])
    for keys, index in (("..", 2), (",", 1), (",,,", 0)):
        ActionChains(driver).send_keys(keys).perform()
        shows(driver, index)
    driver.find_element("id", "play").send_keys(" ")  # a button is pressed once, not twice
    wait(driver, f"document.getElementById('picture').dataset.frame === '{samples.FRAMES - 1}'")


def test_a_bar_of_the_chart_leads_to_its_frame(driver, pages):
    show(driver, pages["both"])
    driver.execute_script("document.getElementById('chart').scrollIntoView({block: 'center'})")
    bars = driver.find_element("id", "bars")
    driver.execute_script(
        """const box = arguments[0].getBoundingClientRect();
        const place = { clientX: box.left + box.width * 3.5 / 6, clientY: box.top + 5, bubbles: true };
        arguments[0].dispatchEvent(new MouseEvent('click', place));""",
        bars,
    )
    shows(driver, 3)
    heights = driver.execute_script(
        "return ['tokens', 'motion'].map((n) => document.querySelector(`#bars .${n}`).getBBox().height)"
    )
    assert heights[0] > heights[1] > 0
    assert (
        driver.execute_script(
            "return document.querySelectorAll('#bars .first')[0].getAttribute('d').match(/M/g).length"
        )
        == 2
    )


def test_heat_and_motion_lie_on_the_decoded_side(driver, pages):
    show(driver, pages["both"])
    driver.find_element("id", "ahead").click()
    shows(driver, 1)
    colour = lambda x, y: driver.execute_script(MEAN, [x, y, 8, 8])  # noqa: E731
    plain = {at: colour(*at) for at in ((0, 0), (48, 40))}
    choose(driver, "bits")
    assert colour(0, 0) == plain[0, 0]  # the original stays
    assert np.ptp(colour(48, 40)) > 20 > np.ptp(plain[48, 40])
    assert driver.find_element("id", "scale").is_displayed()
    driver.execute_script(
        "document.getElementById('divider').dispatchEvent(new KeyboardEvent('keydown', {key: 'Home'}))"
    )
    choose(driver, "none")
    before = driver.execute_script(MEAN, [0, 0, 32, 24])
    choose(driver, "motion")
    assert np.abs(np.subtract(driver.execute_script(MEAN, [0, 0, 32, 24]), before)).max() > 1
    assert not driver.find_element("id", "scale").is_displayed()
    assert driver.find_element("id", "motion-note").is_displayed()


def test_the_pointer_reads_a_token(driver, pages):
    from selenium.webdriver import ActionChains

    show(driver, pages["both"])
    stage = driver.find_element("id", "stage")
    ActionChains(driver).move_to_element_with_offset(
        stage, -stage.size["width"] // 2 + 5, -stage.size["height"] // 2 + 5
    ).perform()
    said = driver.find_element("id", "now-token").text
    data = json.loads(driver.execute_script("return document.getElementById('data').textContent"))
    assert said.startswith("token 0, 0: ") and said.endswith(" bits")
    assert 0 < float(said.split()[3]) <= data["frames"][0]["tokens"]


@pytest.mark.parametrize(("size", "theme"), VIEWS)
def test_every_text_stands_out_and_fits(driver, pages, size, theme):
    from test_report_browser import CONTRAST

    show(driver, pages["both"], size, theme)
    choose(driver, "both")
    results = driver.execute_script(CONTRAST)
    assert len(results) > 30
    assert [(text, ratio) for text, ratio in results if ratio < MIN_CONTRAST] == []
    width = screenshots.SIZES[size][0]
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width


def test_served_on_loopback_it_works_too(driver, pages):
    import threading

    with PageServer(pages["alone"]) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        driver.get(server.url)
        wait(driver, "document.documentElement.dataset.ready === 'yes'")
        assert grey(driver, 48) == pytest.approx(samples.GREYS[0], abs=5)
        driver.get("about:blank")
        server.shutdown()
        thread.join()


def test_without_scripts_it_says_so(driver, pages):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        screenshots.show(driver, pages["both"], "desktop", "light")
        assert "allow scripts" in driver.find_element("css selector", "noscript").text
        assert not driver.find_element("id", "player").is_displayed()
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_screenshots_show_both_themes(driver, pages, tmp_path):
    for size, theme in VIEWS:
        show(driver, pages["both"], size, theme)
        image = np.asarray(Image.open(screenshots.save(driver, tmp_path / f"{size}_{theme}.png")).convert("L"))
        assert image.shape[1] == screenshots.SIZES[size][0]
        assert (np.median(image) > 200) == (theme == "light")
