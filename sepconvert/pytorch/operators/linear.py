"""Matrix products."""

import torch
from torch import Tensor
from torch.nn import functional as F

from sepconvert.pytorch.operators.specification import operator


def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    """Return alpha·AB + beta·C."""
    left, right = a.T if transA else a, b.T if transB else b
    if alpha == 1 and beta == 1 and c is not None and c.ndim == 1 and a.is_floating_point():
        return F.linear(left, right.T, c.expand(right.shape[1]))
    product = torch.matmul(left, right)
    y = product if alpha == 1 else (alpha * product).to(a.dtype)
    if c is None:
        return y
    return y + (c if beta == 1 else (beta * c).to(a.dtype))


OPERATORS = {
    "Einsum": operator(lambda *xs, equation: torch.einsum(equation.replace(" ", ""), *xs)),
    "Gemm": operator(gemm),
    "MatMul": operator(lambda a, b: torch.matmul(a, b)),
}
