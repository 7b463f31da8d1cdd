"""The orders in which the official package stores R and b of an sLSTM: each backend has its own.

"vanilla" is ours, R (NH, 4·DH out, DH in) and b (4, NH, DH) in one row; "cuda" has R
(NH, DH in, 4·DH out) and b (NH, 4, DH) in one row. Both rows have the same shape, so that nothing
but R says which is which. Newer versions store what is called "canonical" here, R (NH, DH, 4, DH)
and b (NH, 4, DH).
"""

from numpy_xlstm.errors import ShapeError
from numpy_xlstm.numerics import Array, check_choice

KERNEL, BIAS = "_recurrent_kernel_", "_bias_"
"""What the names of R and b end in."""

LAYOUTS = "vanilla", "cuda"
"""The orders that can be written."""

Shape = tuple[int, ...]


def shapes(layout: str, NH: int, DH: int) -> tuple[Shape, Shape]:
    """Shapes of R and b."""
    return {
        "vanilla": ((NH, 4 * DH, DH), (4 * NH * DH,)),
        "cuda": ((NH, DH, 4 * DH), (4 * NH * DH,)),
        "canonical": ((NH, DH, 4, DH), (NH, 4, DH)),
    }[layout]


def found_layouts(
    name: str, R: Shape, b: Shape, ours: Shape, layout: str | None = None
) -> tuple[str, str]:
    """Return the orders of R and of b, from their shapes and from the shape of R here.

    Parameters
    ----------
    name : str
        What R is called.
    R, b, ours : tuple of int
        The shapes.
    layout : {"vanilla", "cuda"}, optional
        The order of b, where it is known from elsewhere; else it is that of R.

    Raises
    ------
    ShapeError
        If a shape is none of an sLSTM of this size, or the order of b cannot be told.
    """
    NH, DH = ours[0], ours[2]
    known = {each: shapes(each, NH, DH) for each in (*LAYOUTS, "canonical")}
    of_R = next((each for each, (shape, _) in known.items() if shape == R), None)
    if of_R is None:
        expected = " or ".join(str(shape) for shape, _ in known.values())
        raise ShapeError(f"{name}: expected shape {expected}; got {R}")
    bias = name.removesuffix(KERNEL) + BIAS
    if b == known["canonical"][1]:
        return of_R, "canonical"
    if b != known["cuda"][1]:
        raise ShapeError(f"{bias}: expected shape {known['cuda'][1]}; got {b}")
    if layout is not None:
        return of_R, check_choice("layout", layout, LAYOUTS)
    if of_R == "canonical" and NH > 1:
        raise ShapeError(
            f"{bias}: expected shape {known['canonical'][1]} beside R {R}; got {b}, which may be "
            "in either order: say which, layout='vanilla' or layout='cuda'"
        )
    return of_R, "vanilla" if of_R == "canonical" else of_R


def kernel_to_vanilla(R: Array, layout: str) -> Array:
    """R, in any order, as (NH, 4·DH, DH)."""
    if layout == "vanilla":
        return R
    NH, DH = R.shape[:2]
    return R.reshape(NH, DH, 4, DH).transpose(0, 2, 3, 1).reshape(NH, 4 * DH, DH)


def bias_to_vanilla(b: Array, layout: str, NH: int) -> Array:
    """b, in any order, gate by gate."""
    return b if layout == "vanilla" else b.reshape(NH, 4, -1).swapaxes(0, 1).reshape(-1)


def kernel_from_vanilla(R: Array, layout: str) -> Array:
    """R (NH, 4·DH, DH) in another order: the inverse of :func:`kernel_to_vanilla`."""
    if layout == "vanilla":
        return R
    NH, _, DH = R.shape
    canonical = R.reshape(NH, 4, DH, DH).transpose(0, 3, 1, 2)
    return canonical.reshape(shapes(layout, NH, DH)[0])


def bias_from_vanilla(b: Array, layout: str, NH: int) -> Array:
    """b, gate by gate, in another order: the inverse of :func:`bias_to_vanilla`."""
    if layout == "vanilla":
        return b
    canonical = b.reshape(4, NH, -1).swapaxes(0, 1)
    return canonical.reshape(shapes(layout, NH, canonical.shape[2])[1])


def in_layout(params: dict[str, Array], layout: str) -> dict[str, Array]:
    """Return parameters, in our order, with every R and b in another."""
    check_choice("layout", layout, (*LAYOUTS, "canonical"))
    found = dict(params)
    for name, R in params.items():
        if name.endswith(KERNEL):
            bias = name.removesuffix(KERNEL) + BIAS
            found[name] = kernel_from_vanilla(R, layout)
            found[bias] = bias_from_vanilla(params[bias], layout, len(R))
    return found
