"""Pages in a real browser: Chromium without a window, driven by Playwright; tests skip where either is missing."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_QUIET = [  # the browser itself asks nothing of the network
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_WEBGL = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
_NO_WEBGL = ["--disable-gpu", "--disable-3d-apis"]

_drivers: list[Any] = []  # only one can run in a process at a time; pages that are open together share it


class Opened(NamedTuple):
    """A page and what went wrong in it so far."""

    page: Any
    console_errors: list[str]
    page_errors: list[str]
    """exceptions that nothing caught"""
    requests: list[str]
    """addresses that it asked for, besides its own file and data within it"""

    def assert_clean(self) -> None:
        """No errors and no requests."""
        assert (self.console_errors, self.page_errors, self.requests) == ([], [], [])


@contextmanager
def open_page(
    path: Path, *, with_webgl: bool = True, width: int = 1100, height: int = 1000, **context: Any
) -> Iterator[Opened]:
    """The page of a file, opened from `file://`; `context` is Playwright's, e.g. `java_script_enabled=False`."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    browser_path = next(filter(None, map(shutil.which, _NAMES)), None)
    if browser_path is None:
        pytest.skip(f"no browser on this machine: none of {', '.join(_NAMES)}")
    address = Path(path).resolve().as_uri()
    with _driver(playwright) as driver:
        arguments = _QUIET + (_WEBGL if with_webgl else _NO_WEBGL)
        browser = driver.chromium.launch(executable_path=browser_path, args=arguments)
        try:
            page = browser.new_context(viewport={"width": width, "height": height}, **context).new_page()
            opened = Opened(page, [], [], [])
            page.on("console", lambda line: line.type == "error" and opened.console_errors.append(line.text))
            page.on("pageerror", lambda error: opened.page_errors.append(str(error)))
            page.on("websocket", lambda socket: opened.requests.append(socket.url))
            page.on("request", lambda request: _note(opened, request.url, address))
            page.goto(address)
            yield opened
        finally:
            browser.close()


@contextmanager
def _driver(playwright: Any) -> Iterator[Any]:
    if _drivers:
        yield _drivers[0]
        return
    with playwright.sync_playwright() as driver:
        _drivers.append(driver)
        try:
            yield driver
        finally:
            _drivers.clear()


def _note(opened: Opened, url: str, address: str) -> None:
    if url != address and not url.startswith(("data:", "blob:")):
        opened.requests.append(url)
