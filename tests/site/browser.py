"""Checks of the site in Chromium or Chrome, without access to other machines."""

import shutil
from base64 import b64encode
from collections import ChainMap, Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import urldefrag, urljoin

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
MODES = ("light", "dark")
SIZES = {1280: "light", 390: "dark"}
"""Widths of the window, and the mode of each: colours take no place."""
LOOK, OVERFLOW, CUT, PAPER, PIXEL = (
    Path(__file__).with_name(f"{name}.js").read_text("utf-8")
    for name in ("look", "overflow", "cut", "paper", "pixel")
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


def papers(browser: Any, site: str, pages: list[str], theme: str, system: str) -> dict[str, str]:
    """Return the background of each figure in a theme of the site, with that of the system."""
    found: dict[str, str] = {}
    window = browser.new_page(color_scheme=system, viewport={"width": 1400, "height": 2400})
    for page in pages:
        window.goto(site + page)
        window.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
        for image in window.locator("main img[src$='.svg']").all():
            name = (image.get_attribute("src") or "").rpartition("/")[2]
            if name not in found:
                png = b64encode(image.screenshot(animations="disabled")).decode()
                found[name] = window.evaluate(PIXEL, png)
    return found


class Seen(NamedTuple):
    """Problems of some pages, and the links and ids of each."""

    problems: list[str]
    links: dict[str, set[str]]
    ids: dict[str, set[str]]


def faults(folder: Path) -> list[str]:
    """Return one line for each problem of the pages in a folder, in each width and on paper.

    Two browsers share the pages. A page that leads on to another is not looked at.
    """
    files = [f for f in folder.rglob("*.html") if "http-equiv=" not in f.read_text("utf-8")]
    paths = sorted(path.relative_to(folder) for path in files)
    pages = [path.as_posix() for path in paths if path.parts[0] != "_static"]
    halves = [half for half in (pages[::2], pages[1::2]) if half]
    with served(folder) as site, ThreadPoolExecutor(len(halves)) as pool:
        seen = list(pool.map(partial(_visited, site), halves))
    links, ids = ChainMap(*(half.links for half in seen)), ChainMap(*(half.ids for half in seen))
    problems = [line for half in seen for line in half.problems]
    return problems + list(_broken(site, links, ids, folder))


def _visited(site: str, pages: list[str]) -> Seen:
    """Look at some pages in a browser."""
    seen = Seen([], {}, {})
    with opened() as browser:
        window = browser.new_page()
        watched, sizes = _watch(window, site), list(SIZES.items())
        for page in pages:
            window.goto(site + page)
            kinds = window.evaluate(LOOK)
            seen.links[page], seen.ids[page] = set(kinds.pop("links")), set(kinds["ids"])
            kinds["id twice"] = [name for name, n in Counter(kinds.pop("ids")).items() if n > 1]
            kinds |= _in_every_width(window, sizes)
            sizes.reverse()  # the next page begins with the width that the window has
            seen.problems.extend(
                f"{page}: {kind}: {what}" for kind, several in kinds.items() for what in several
            )
            seen.problems.extend(f"{page}: {what}" for what in watched)
            watched.clear()
    return seen


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


def _in_every_width(window: Any, sizes: list[tuple[int, str]]) -> dict[str, list[str]]:
    found = {}
    for width, mode in sizes:
        window.set_viewport_size({"width": width, "height": 900})
        window.evaluate("mode => document.documentElement.dataset.theme = mode", mode)
        found[f"too wide at {width} px"] = window.evaluate(OVERFLOW)
        found[f"cut at {width} px"] = window.evaluate(CUT)
    window.emulate_media(media="print")
    found["cut on paper"] = window.evaluate(PAPER)
    window.emulate_media(media="screen")
    return found


def _broken(
    site: str, links: Mapping[str, set[str]], ids: Mapping[str, set[str]], folder: Path
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
