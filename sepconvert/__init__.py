"""sepconvert: make trained convolutional networks smaller and measurably faster.

The workflows are the public API and are imported when first used, so that ``import sepconvert`` stays light::

    import sepconvert

    result = sepconvert.rewrite("model.onnx", data="calibration.npz", macs=0.4)
    result.save("model.sep.onnx")

What is typed often is a keyword: data, form, budget. The rest is grouped as in the help of the commands: ``Reading``
(sizes, weights, ``Preprocess``), ``Planning``, ``Measure``, ``FineTune`` and ``Outputs``. Error messages name an option
as the command line spells it: ``--max-error`` is the keyword ``max_error``.
"""

from typing import TYPE_CHECKING, Any

from sepconvert import workflows

if TYPE_CHECKING:
    from sepconvert.workflows import *  # noqa: F403

__version__ = "0.2.0"

__all__ = ["__version__", *workflows.__all__]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'sepconvert' has no attribute '{name}'")
    return getattr(workflows, name)


def __dir__() -> list[str]:
    return sorted(__all__)
