"""Layouts of R and b of an sLSTM in the official package, one for each of its backends.

"vanilla" is also the layout of this package: R (NH, 4·DH out, DH in) and b (4, NH, DH), flattened.
"cuda" has R (NH, DH in, 4·DH out) and b (NH, 4, DH), flattened. The flattened b has the same shape
in both, so only R shows the layout. Newer versions store R (NH, DH, 4, DH) and b (NH, 4, DH), which
is called "canonical" here.
"""

from numpy_xlstm.errors import ShapeError
from numpy_xlstm.numerics import Array, check_choice

KERNEL, BIAS = "_recurrent_kernel_", "_bias_"
"""Suffixes of the names of R and b."""

LAYOUTS = "vanilla", "cuda"
"""Layouts in which R and a flattened b can be stored."""

Shape = tuple[int, ...]


def shapes(layout: str, NH: int, DH: int) -> tuple[Shape, Shape]:
    """Return the shapes of R and b in a layout."""
    return {
        "vanilla": ((NH, 4 * DH, DH), (4 * NH * DH,)),
        "cuda": ((NH, DH, 4 * DH), (4 * NH * DH,)),
        "canonical": ((NH, DH, 4, DH), (NH, 4, DH)),
    }[layout]


def found_layouts(
    name: str, R: Shape, b: Shape, ours: Shape, layout: str | None = None
) -> tuple[str, str]:
    """Determine the layouts of R and of b from their shapes, and from that of R in the model.

    ``name`` is the name of R. ``layout`` is the layout of b, if it is known; otherwise that of R.
    """
    NH, DH = ours[0], ours[2]
    known = {layout: shapes(layout, NH, DH) for layout in (*LAYOUTS, "canonical")}
    fitting = [layout for layout, (shape, _) in known.items() if shape == R]
    if not fitting:
        expected = " or ".join(str(shape) for shape, _ in known.values())
        raise ShapeError(f"{name}: expected shape {expected}; got {R}")
    of_R = fitting[0]
    bias = name.removesuffix(KERNEL) + BIAS
    if b == known["canonical"][1]:
        return of_R, "canonical"
    if b != known["cuda"][1]:
        raise ShapeError(f"{bias}: expected shape {known['cuda'][1]}; got {b}")
    if layout is not None:
        return of_R, check_choice("layout", layout, LAYOUTS)
    if of_R == "canonical" and NH > 1:
        raise ShapeError(
            f"{bias}: expected shape {known['canonical'][1]} for R {R}; got {b}, whose layout is "
            "ambiguous: pass layout='vanilla' or layout='cuda'"
        )
    return of_R, "vanilla" if of_R == "canonical" else of_R


def kernel_to_vanilla(R: Array, layout: str) -> Array:
    """Convert R from any layout to (NH, 4·DH, DH)."""
    if layout == "vanilla":
        return R
    NH, DH = R.shape[:2]
    return R.reshape(NH, DH, 4, DH).transpose(0, 2, 3, 1).reshape(NH, 4 * DH, DH)


def bias_to_vanilla(b: Array, layout: str, NH: int) -> Array:
    """Convert b from any layout to "vanilla", gate by gate."""
    return b if layout == "vanilla" else b.reshape(NH, 4, -1).swapaxes(0, 1).reshape(-1)


def kernel_from_vanilla(R: Array, layout: str) -> Array:
    """Convert R (NH, 4·DH, DH) to another layout. Inverse of :func:`kernel_to_vanilla`."""
    if layout == "vanilla":
        return R
    NH, _, DH = R.shape
    canonical = R.reshape(NH, 4, DH, DH).transpose(0, 3, 1, 2)
    return canonical.reshape(shapes(layout, NH, DH)[0])


def bias_from_vanilla(b: Array, layout: str, NH: int) -> Array:
    """Convert b, gate by gate, to another layout. Inverse of :func:`bias_to_vanilla`."""
    if layout == "vanilla":
        return b
    canonical = b.reshape(4, NH, -1).swapaxes(0, 1)
    return canonical.reshape(shapes(layout, NH, canonical.shape[2])[1])


def in_layout(params: dict[str, Array], layout: str) -> dict[str, Array]:
    """Return the parameters with every R and b in another layout."""
    check_choice("layout", layout, (*LAYOUTS, "canonical"))
    arrays = dict(params)
    for name, R in params.items():
        if name.endswith(KERNEL):
            bias = name.removesuffix(KERNEL) + BIAS
            arrays[name] = kernel_from_vanilla(R, layout)
            arrays[bias] = bias_from_vanilla(params[bias], layout, len(R))
    return arrays
