"""Pictures of a report as a browser shows it: desktop and phone width, light and dark, the whole page each.

    python benchmarks/screenshots.py report.html screenshots/

Drives an installed Chromium or Chrome through selenium; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}  # CSS px
THEMES = ("light", "dark")
MAX_HEIGHT = 12_000  # px of a picture: Chromium draws no taller one
TIMEOUT = 30  # s for a page to be laid out
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",  # the report is our own file, and a container has no sandbox
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def missing() -> str | None:
    """What is not installed that `browser` needs, None when all is there."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed"
    if not any(map(shutil.which, BROWSERS)):
        return "no Chromium or Chrome is installed"
    return None if shutil.which("chromedriver") else "chromedriver is not installed"


@contextmanager
def browser() -> Iterator[WebDriver]:
    """A headless browser with an empty profile of its own that logs every request and console message."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, BROWSERS)))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
        try:
            driver.get("about:blank")  # instead of the new tab, whose own requests would be logged
            yield driver
        finally:
            driver.quit()


def show(driver: WebDriver, page: Path, size: str, theme: str) -> None:
    """Load a page as a device of a size in `SIZES` with a colour scheme would."""
    width, height = SIZES[size]
    device = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == "phone"}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
    features = [{"name": "prefers-color-scheme", "value": theme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    driver.get("about:blank")  # or the same page again could still be the old one when it is looked at
    driver.get(page.resolve().as_uri())
    _wait_for_layout(driver, width)


def _wait_for_layout(driver: WebDriver, width: int) -> None:
    """`get` returns when the page is loaded, which may be before it is laid out for the device."""
    from selenium.webdriver.support.wait import WebDriverWait

    ready = f"""
        const page = document.documentElement;
        return document.readyState === "complete" && page.clientWidth === {width}
            && page.scrollHeight > 0 && [...document.images].every((image) => image.complete);
    """
    WebDriverWait(driver, TIMEOUT, poll_frequency=0.05).until(
        lambda d: d.execute_script(ready), "the page has no layout"
    )


def save(driver: WebDriver, path: Path, top: float = 0, height: float | None = None) -> Path:
    """Write a PNG of the page from `top` on; height None = all of it, up to `MAX_HEIGHT`."""
    size = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
    rest = size["height"] - top if height is None else height
    clip = {"x": 0, "y": top, "width": size["width"], "height": min(MAX_HEIGHT, rest), "scale": 1}
    shot = driver.execute_cdp_cmd(
        "Page.captureScreenshot", {"format": "png", "clip": clip, "captureBeyondViewport": True}
    )
    part = path.with_name(path.name + ".part")
    part.write_bytes(base64.b64decode(shot["data"]))
    return part.replace(path)


def screenshots(page: Path, out: Path) -> list[Path]:
    """The whole page in every size and theme: <size>_<theme>.png in the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    made = []
    with browser() as driver:
        for size, theme in itertools.product(SIZES, THEMES):
            show(driver, page, size, theme)
            made.append(save(driver, out / f"{size}_{theme}.png"))
    return made


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="report.html")
    parser.add_argument("out", type=Path, help="folder for the pictures")
    args = parser.parse_args(argv)
    if not args.report.is_file():
        print(f"error: {args.report}: there is no such file; make it with bsqcodec bench", file=sys.stderr)
        return 1
    if (reason := missing()) is not None:
        print(f"error: {reason}; screenshots need selenium, Chromium and chromedriver", file=sys.stderr)
        return 1
    for path in screenshots(args.report, args.out):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
