/* Elements wider than the window, except those that scroll. */
() => {
  const width = document.documentElement.clientWidth;
  const scrolls = e => e.closest("pre, .pst-scrollable-table-container")
    || e.matches("p > img") && getComputedStyle(e.parentElement).overflowX == "auto";
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
