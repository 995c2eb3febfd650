"""Chromium, without a window, as the tests of the page drive it."""

import contextlib
import os
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextlib.contextmanager
def chromium(profile):
    """A browser with a fresh profile in the folder `profile`.

    Skips the test where Chromium is not installed, except in CI.
    """
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver) and not os.environ.get("CI"):
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    assert program, "chromium is not installed"
    assert driver, "chromedriver is not installed"
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


def show(browser, path, scheme="light", width=1280):
    """Opens a file as somebody with this color scheme and window sees it."""
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.get(path.resolve().as_uri())


_FUNCTIONS = """
const pixel = document.createElement('canvas').getContext(
    '2d', {willReadFrequently: true});
function rgb(color) {
    pixel.clearRect(0, 0, 1, 1);
    pixel.fillStyle = color;
    pixel.fillRect(0, 0, 1, 1);
    return [...pixel.getImageData(0, 0, 1, 1).data];
}
function luminance(color) {
    const [r, g, b] = rgb(color).slice(0, 3).map(v => v / 255).map(
        v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function background(element) {
    for (let e = element; e; e = e.parentElement) {
        const color = getComputedStyle(e).backgroundColor;
        if (rgb(color)[3] === 255) return color;
    }
    return 'white';
}
"""

CONTRASTS = (
    _FUNCTIONS
    + """
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const found = {};
while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim()) continue;
    const style = getComputedStyle(element);
    const color = element instanceof SVGElement ? style.fill : style.color;
    const behind = background(element);
    const [dark, light] = [luminance(color), luminance(behind)].sort((a, b) => a - b);
    found[color + ' on ' + behind] = (light + 0.05) / (dark + 0.05);
}
return found;
"""
)
"""The contrast ratio (WCAG 2.2) of every pair of text and background on the page."""

BAR_CONTRAST = (
    _FUNCTIONS
    + """
const bar = document.querySelector(arguments[0]);
const [dark, light] = [
    luminance(getComputedStyle(bar).fill), luminance(background(bar)),
].sort((a, b) => a - b);
return (light + 0.05) / (dark + 0.05);
"""
)
"""The contrast of the first bar that a selector finds with what is behind it."""
