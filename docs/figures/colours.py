"""Colours of all figures, in the light and the dark theme; the drawn ones repeat them."""

LIGHT = {
    "paper": "#ffffff",
    "ink": "#1f2328",
    "faint": "#656d76",
    "plain": "#f6f8fa",
    "weight": "#ddeafb",
    "norm": "#e6f4e4",
    "memory": "#fdebcf",
    "act": "#efe7fa",
}
DARK = {
    "paper": "#161b22",
    "ink": "#e6edf3",
    "faint": "#9aa4af",
    "plain": "#21262d",
    "weight": "#1d3557",
    "norm": "#1f3d2b",
    "memory": "#52391a",
    "act": "#372a52",
}
