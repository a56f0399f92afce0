"""sepconvert: make trained convolutional networks smaller and measurably faster.

The workflows are the public API and are imported when first used, so that ``import sepconvert`` stays light::

    import sepconvert

    result = sepconvert.rewrite("model.onnx", data="calibration.npz", macs=0.4)
    result.save("model.sep.onnx")
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sepconvert.workflows import analyze, compare, doctor, rebuild, render, rewrite, sweep

__version__ = "0.1.0"

__all__ = ["__version__", "analyze", "compare", "doctor", "rebuild", "render", "rewrite", "sweep"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'sepconvert' has no attribute '{name}'")
    from sepconvert import workflows

    return getattr(workflows, name)
