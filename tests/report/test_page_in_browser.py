"""The page in a real browser: headless Chromium, spoken to over its debugging pipe."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compress.report.compare_page import html_comparison
from compress.report.compare_runs import compare_runs
from compress.report.write import write_report

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the PATH")

STICKING_OUT = """
(() => {
  const right = document.querySelector('main').getBoundingClientRect().right;
  return [...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > right + 1).length;
})()
"""
OVERLAPS = """
(() => {
  const faults = [];
  document.querySelectorAll('figure svg').forEach((svg, at) => {
    const texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
    const outer = svg.getBoundingClientRect();
    texts.forEach(([a, p], i) => {
      if (p.left < outer.left - 1 || p.right > outer.right + 1) faults.push(`${at}: "${a}" sticks out`);
      texts.slice(i + 1).forEach(([b, q]) => {
        const across = Math.min(p.right, q.right) - Math.max(p.left, q.left);
        const down = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
        if (across > 1 && down > 3) faults.push(`${at}: "${a}" on "${b}"`);
      });
    });
  });
  return faults;
})()
"""
CONTRAST = """
(() => {
  const light = rgb => {
    const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = rgb.match(/[\\d.]+/g).slice(0, 3).map(v => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (!/^rgba.*, 0.$/.test(colour)) return light(colour);
    }
  };
  const ratio = (e, ink) => {
    const [a, b] = [light(ink), behind(e)].sort((p, q) => q - p);
    return (a + 0.05) / (b + 0.05);
  };
  const words = 'p, th, td, dd, dt, li, q, summary, figcaption, h1, h2, h3, small, span';
  const html = [...document.querySelectorAll(words)].map(e => ratio(e, getComputedStyle(e).color));
  const drawn = [...document.querySelectorAll('svg text')].map(e => ratio(e, getComputedStyle(e).fill));
  return Math.min(...html, ...drawn);
})()
"""


class Browser:
    """One headless browser with one page; `events` holds all that it reported."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        arguments = [
            "--remote-debugging-pipe",
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ]
        arguments += ["--disable-background-networking", "--no-first-run", f"--user-data-dir={profile}"]
        descriptors = (to_browser, from_browser)
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}', CHROMIUM, *arguments],
            pass_fds=descriptors,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for descriptor in descriptors:
            os.close(descriptor)
        self._buffer, self._last, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._last:
            self.events.append(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._read, 1 << 20)
            assert part, "the browser ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    def open(self, page: Path, width: int, scheme: str) -> None:
        self.events.clear()
        phone = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=phone)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Page.navigate", url=page.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())
        self.evaluate("document.fonts.ready.then(() => new Promise(requestAnimationFrame)).then(() => 1)")

    def evaluate(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"]["value"]

    def screenshot(self, path: Path) -> None:
        import base64

        content = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(content))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)
        os.close(self._write)
        os.close(self._read)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        opened = Browser(Path(profile))
        yield opened
        opened.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_pictures_are_there_and_the_console_is_silent(
    browser: Browser, digits: dict[str, Any], tmp_path: Path, width: int, scheme: str
) -> None:
    write_report(digits, tmp_path)
    browser.open(tmp_path / "report.html", width, scheme)

    sizes = browser.evaluate(
        "[...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect()).map(r => [r.width, r.height])"
    )
    assert len(sizes) == 5
    assert all(shown >= 300 and high >= 100 for shown, high in sizes)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate(STICKING_OUT) == 0
    assert browser.evaluate(OVERLAPS) == []
    assert browser.evaluate(CONTRAST) >= 4.5

    background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    _nothing_went_wrong(browser, tmp_path)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_targets_and_changed_answers_can_be_seen(
    browser: Browser, pages: dict[str, str], tmp_path: Path, width: int, scheme: str
) -> None:
    for name, images in (("targets side by side", 7), ("changed texts", 0)):
        (tmp_path / "report.html").write_text(pages[name])
        browser.open(tmp_path / "report.html", width, scheme)
        boxes = "[...document.querySelectorAll('img')].map(i => [i.naturalWidth, i.getBoundingClientRect().width])"
        assert browser.evaluate(boxes) == [[8, 72]] * images
        assert browser.evaluate("document.querySelectorAll('.flips li').length") == 7
        shown = "[...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect().height)"
        assert min(browser.evaluate(shown)) >= 100
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate(STICKING_OUT) == 0 and browser.evaluate(OVERLAPS) == []
        assert browser.evaluate(CONTRAST) >= 4.5
        _nothing_went_wrong(browser, tmp_path)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_what_pruning_did_can_be_read(
    browser: Browser, pages: dict[str, str], tmp_path: Path, width: int, scheme: str
) -> None:
    for name, pictures in (("pruned to a time", 4), ("pruned, very deep", 11)):
        (tmp_path / "report.html").write_text(pages[name])
        browser.open(tmp_path / "report.html", width, scheme)
        section = "[...document.querySelectorAll('section')].filter(s => /^What pruning did/.test(s.innerText))"
        assert browser.evaluate(f"{section}.flatMap(s => [...s.querySelectorAll('figure svg')]).length") == pictures
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate(STICKING_OUT) == 0 and browser.evaluate(OVERLAPS) == []
        assert browser.evaluate(CONTRAST) >= 4.5
        letters = (
            f"{section}.flatMap(s => [...s.querySelectorAll('svg text')]).map(t => t.getBoundingClientRect().height)"
        )
        assert browser.evaluate(f"Math.min(...{letters})") >= 9
        _nothing_went_wrong(browser, tmp_path)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_compared_runs_fit(
    browser: Browser, variants: dict[str, dict[str, Any]], digits: dict[str, Any], tmp_path: Path, scheme: str
) -> None:
    folders = []
    for name, report in (("a-run-of-the-week-before", variants["targets side by side"]), ("b", digits)):
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        (folders[-1] / "report.json").write_text(json.dumps(report))
    (tmp_path / "report.html").write_text(html_comparison(compare_runs(folders)))
    for width in (390, 1400):
        browser.open(tmp_path / "report.html", width, scheme)
        assert browser.evaluate("document.querySelectorAll('section').length") == 3
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate(STICKING_OUT) == 0
        assert browser.evaluate(CONTRAST) >= 4.5
        _nothing_went_wrong(browser, tmp_path)


def test_a_long_list_of_layers_scrolls_but_is_printed_whole(
    browser: Browser, pages: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "report.html").write_text(pages["pruned, very deep"])
    browser.open(tmp_path / "report.html", 688, "light")
    hidden = "(e => e.scrollHeight - e.clientHeight)(document.querySelector('.scroll'))"
    assert browser.evaluate(hidden) > 1000
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.evaluate(hidden) <= 1
    assert browser.evaluate(STICKING_OUT) == 0
    browser.call("Emulation.setEmulatedMedia", media="")


def test_every_awkward_report_fits(browser: Browser, pages: dict[str, str], tmp_path: Path) -> None:
    for at, (name, page) in enumerate(pages.items()):
        folder = tmp_path / str(at)
        folder.mkdir()
        (folder / "report.html").write_text(page)
        for width in (390, 820, 1130, 1400):
            browser.open(folder / "report.html", width, "light")
            assert browser.evaluate("document.documentElement.scrollWidth") <= width, (name, width)
            assert browser.evaluate(STICKING_OUT) == 0, (name, width)
            assert browser.evaluate(OVERLAPS) == [], (name, width)
            _nothing_went_wrong(browser, folder)


def test_prints_on_paper(browser: Browser, digits: dict[str, Any], tmp_path: Path) -> None:
    import base64

    write_report(digits, tmp_path)
    browser.open(tmp_path / "report.html", 1400, "dark")
    printed = base64.b64decode(browser.call("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)["data"])
    (tmp_path / "report.pdf").write_bytes(printed)
    assert printed.startswith(b"%PDF") and len(printed) > 20_000
    browser.call(
        "Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    browser.call("Emulation.setDeviceMetricsOverride", width=688, height=900, deviceScaleFactor=1, mobile=False)
    assert browser.evaluate(STICKING_OUT) == 0
    browser.call("Emulation.setEmulatedMedia", media="")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_all_that_can_be_measured_finds_its_place(
    browser: Browser, pages: dict[str, str], tmp_path: Path, width: int, scheme: str
) -> None:
    for name, shown in (("all measured", "Throughput"), ("two rounds", "too few rounds")):
        (tmp_path / "report.html").write_text(pages[name])
        browser.open(tmp_path / "report.html", width, scheme)
        assert shown in browser.evaluate("document.body.innerText")
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.evaluate(STICKING_OUT) == 0 and browser.evaluate(OVERLAPS) == []
        assert browser.evaluate(CONTRAST) >= 4.5
        _nothing_went_wrong(browser, tmp_path)


def _nothing_went_wrong(browser: Browser, folder: Path) -> None:
    said = [
        event
        for event in browser.events
        if event["method"] in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    ]
    assert said == []
    asked = {
        event["params"]["request"]["url"] for event in browser.events if event["method"] == "Network.requestWillBeSent"
    }
    assert {url for url in asked if not url.startswith("data:")} == {(folder / "report.html").as_uri()}
