"""Checks of the site in Debian's Chromium, without access to other machines."""

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

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WIDTHS = (1400, 390)
MODES = ("light", "dark")

# Errors that a page shows, and its links.
LOOK = r"""
() => {
  const shown = e => e.getClientRects().length > 0;
  const text = node => {
    const copy = node.cloneNode(true);
    copy.querySelectorAll("pre, code, script, style").forEach(e => e.remove());
    return copy.textContent;
  };
  const main = document.querySelector("main") ?? document.body;
  return {
    "formula in error": [...document.querySelectorAll("merror, .math, mjx-merror")]
      .map(e => e.textContent),
    "raw TeX": text(main).match(/\\[a-zA-Z]+|\$\$?[^$\s][^$]*\$|\\[()\[\]]/g) ?? [],
    "doubled mark": text(main).match(/.{0,20}([,;])\1.{0,20}/g) ?? [],
    "empty head": [...document.querySelectorAll("thead")].filter(e => !e.textContent.trim())
      .map(e => e.parentElement.textContent.trim().slice(0, 60)),
    "broken image": [...document.images].filter(e => shown(e) && !e.naturalWidth)
      .map(e => e.src),
    links: [...document.querySelectorAll("a[href]")].map(e => e.href),
    ids: [...document.querySelectorAll("[id]")].map(e => e.id),
  };
}
"""

# Elements wider than the window, except those that scroll.
OVERFLOW = r"""
() => {
  const width = document.documentElement.clientWidth;
  const scrolls = e => e.closest("pre, .pst-scrollable-table-container");
  const out = [];
  const look = (node, element) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    const right = Math.max(...[...range.getClientRects()].map(box => box.right));
    if (right > width + 1 && !scrolls(element)) out.push(node.textContent.trim().slice(0, 60));
  };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode())
    if (walk.currentNode.data.trim() && walk.currentNode.parentElement.checkVisibility({
      checkOpacity: true, checkVisibilityCSS: true }))
      look(walk.currentNode, walk.currentNode.parentElement);
  for (const e of document.querySelectorAll("img, svg, math"))
    if (e.getBoundingClientRect().right > width + 1 && !scrolls(e))
      out.push(e.outerHTML.slice(0, 60));
  if (document.documentElement.scrollWidth > width) out.push("the page itself");
  for (const e of [...document.querySelectorAll("td, th")].filter(e => e.checkVisibility())) {
    const longest = Math.max(...e.textContent.split(/\s/).map(word => word.length));
    if (e.clientWidth < 4 * Math.min(longest, 10)) out.push(`a narrow column: ${e.textContent}`);
  }
  return out;
}
"""

# Text that is cut off at the current width, and bad line breaks.
CUT = r"""
() => {
  const out = [];
  const words = e => e.nodeName == "#text"
    ? /[A-Za-z]{2}/.test(e.data) : e.nodeName != "math" && [...e.childNodes].some(words);
  for (const table of document.querySelectorAll(".pst-scrollable-table-container table")) {
    const right = table.parentElement.getBoundingClientRect().right + 1;
    if ([...table.querySelectorAll("td:not(:first-child)")].some(words))
      for (const e of table.querySelectorAll("td"))
        if (e.getBoundingClientRect().right > right) out.push(`a cell: ${e.textContent}`);
  }
  for (const e of document.querySelectorAll("pre")) {
    const longest = Math.max(...e.textContent.split("\n").map(line => line.length));
    if (e.scrollWidth > e.clientWidth && longest <= 100 && innerWidth >= 1400)
      out.push(`code: ${e.textContent.trim().slice(0, 60)}`);
  }
  const top = (node, start, end) => {
    const range = document.createRange();
    range.setStart(node, start);
    range.setEnd(node, end);
    return range.getBoundingClientRect().top;
  };
  for (const {firstChild: name} of document.querySelectorAll("dt > strong"))
    for (const {0: word, index} of name.data.matchAll(/\w+/g))
      if (top(name, index, index + 1) < top(name, index + word.length - 1, index + word.length) - 1)
        out.push(`a name: ${word}`);
  for (const e of document.querySelectorAll("math")) {
    const mark = e.nextSibling;
    if (mark?.nodeName == "#text" && /^[.,;:!?)]/.test(mark.data)
        && top(mark, 0, 1) > e.getBoundingClientRect().bottom)
      out.push(`a mark: ${e.textContent}${mark.data}`);
  }
  return out;
}
"""

# The colour near the upper left corner of a picture.
PIXEL = r"""
async png => {
  const image = new Image();
  image.src = `data:image/png;base64,${png}`;
  await image.decode();
  const sheet = new OffscreenCanvas(1, 1).getContext("2d");
  sheet.drawImage(image, -12, -3);
  return "#" + [...sheet.getImageData(0, 0, 1, 1).data.slice(0, 3)]
    .map(part => part.toString(16).padStart(2, "0")).join("");
}
"""


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
