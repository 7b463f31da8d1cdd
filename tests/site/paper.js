/* Code that does not break its lines on paper. */
() => [...document.querySelectorAll("pre")].filter(e => e.scrollWidth > e.clientWidth)
  .map(e => `code: ${e.textContent.trim().slice(0, 60)}`)
