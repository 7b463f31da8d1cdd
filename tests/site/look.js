/* Errors that a page shows, and its links. */
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
