/* Text that is cut off at the current width, and bad line breaks. */
() => {
  const out = [];
  const words = e => e.nodeName == "#text"
    ? /[A-Za-z]{2}/.test(e.data) : e.nodeName != "math" && [...e.childNodes].some(words);
  for (const table of document.querySelectorAll(".pst-scrollable-table-container table")) {
    const right = table.parentElement.getBoundingClientRect().right + 1;
    if (!table.querySelector("td.text-right") // a table of numbers scrolls
        && [...table.querySelectorAll("td:not(:first-child)")].some(words))
      for (const e of table.querySelectorAll("td"))
        if (e.getBoundingClientRect().right > right) out.push(`a cell: ${e.textContent}`);
  }
  for (const e of document.querySelectorAll("pre")) {
    const longest = Math.max(...e.textContent.split("\n").map(line => line.length));
    if (e.scrollWidth > e.clientWidth && longest <= 100 && innerWidth >= 1280)
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
