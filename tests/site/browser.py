"""Checks of the site in Chromium or Chrome, without access to other machines."""

import re
import shutil
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urldefrag, urljoin

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
WIDTHS = (1400, 390)
MODES = ("light", "dark")
LOOK, OVERFLOW, CUT, PIXEL = (
    Path(__file__).with_name(f"{name}.js").read_text("utf-8")
    for name in ("look", "overflow", "cut", "pixel")
)


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on a local port, and yield its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def opened() -> Iterator[Any]:
    """Yield a browser that cannot resolve the names of other hosts."""
    from playwright.sync_api import sync_playwright

    options = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        try:
            yield browser
        finally:
            browser.close()


def papers(folder: Path, theme: str, system: str) -> dict[str, str]:
    """Return the background of each figure in a theme of the site, with that of the system."""
    found: dict[str, str] = {}
    with served(folder) as site, opened() as browser:
        window = browser.new_page(color_scheme=system, viewport={"width": 1400, "height": 2400})
        for page in sorted(folder.rglob("*.html")):
            if not re.search(r'<img [^>]*\.svg"', page.read_text("utf-8")):
                continue
            window.goto(site + page.relative_to(folder).as_posix())
            window.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
            for image in window.locator("main img[src$='.svg']").all():
                name = (image.get_attribute("src") or "").rpartition("/")[2]
                png = b64encode(image.screenshot(animations="disabled")).decode()
                found[name] = window.evaluate(PIXEL, png)
    return found


def faults(folder: Path) -> list[str]:
    """Return one line for each problem of the pages in a folder, in each width and mode."""
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*.html"))
    pages = [path.as_posix() for path in paths if path.parts[0] != "_static"]
    found: list[str] = []
    links: dict[str, set[str]] = {}
    ids: dict[str, set[str]] = {}
    with served(folder) as site, opened() as browser:
        window = browser.new_page()
        watched = _watch(window, site)
        for page in pages:
            window.goto(site + page)
            seen = window.evaluate(LOOK)
            links[page], ids[page] = set(seen.pop("links")), set(seen["ids"])
            seen["id twice"] = [name for name, n in Counter(seen.pop("ids")).items() if n > 1]
            seen |= _in_every_width(window)
            found += [f"{page}: {kind}: {what}" for kind, all_ in seen.items() for what in all_]
            found += [f"{page}: {what}" for what in watched]
            watched.clear()
        found += _broken(site, links, ids, folder)
    return found


def _watch(window: Any, site: str) -> list[str]:
    """Record errors of the browser, and requests to other hosts."""
    watched: list[str] = []

    def request(request: Any) -> None:
        if not request.url.startswith((site, "data:", "blob:")):
            watched.append(f"request to {request.url}")

    def console(message: Any) -> None:
        if message.type in ("error", "warning"):
            watched.append(f"console: {message.text}")

    window.on("request", request)
    window.on("console", console)
    window.on("pageerror", lambda error: watched.append(f"script: {error}"))
    return watched


def _in_every_width(window: Any) -> dict[str, list[str]]:
    found = {}
    for width in WIDTHS:
        window.set_viewport_size({"width": width, "height": 900})
        for mode in MODES:
            window.evaluate("mode => document.documentElement.dataset.theme = mode", mode)
            found[f"too wide at {width} px, {mode}"] = window.evaluate(OVERFLOW)
        found[f"cut at {width} px"] = window.evaluate(CUT)
    return found


def _broken(
    site: str, links: dict[str, set[str]], ids: dict[str, set[str]], folder: Path
) -> Iterator[str]:
    """Return links to missing pages or missing anchors."""
    for page, targets in links.items():
        for target in sorted(targets):
            address, anchor = urldefrag(urljoin(site + page, target))
            if not address.startswith(site):
                continue
            path = address.removeprefix(site).partition("?")[0] or "index.html"
            if not (folder / path).is_file():
                yield f"{page}: broken link: {target.removeprefix(site)}"
            elif anchor and path in ids and anchor not in ids[path]:
                yield f"{page}: broken link: no such place: {target.removeprefix(site)}"
