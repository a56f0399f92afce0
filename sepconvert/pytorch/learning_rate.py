"""The learning rate over the steps of a training: a linear warm-up, then half a cosine down to zero.

Warm-up lets Adam's second moments settle before steps are long; the decay ends the noise that the best weights would
otherwise carry (Loshchilov and Hutter, "SGDR", ICLR 2017, without restarts).
"""

from math import ceil, cos, pi

WARM_UP = 0.05  # share of the steps


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Return the rate of one step.

    Args:
        step: 0 … steps − 1.
        steps: of the whole training.
        peak: the highest rate, reached when the warm-up ends.
    """
    warm = max(1, ceil(WARM_UP * steps))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * (1 + cos(pi * (step - warm + 1) / max(1, steps - warm + 1))) / 2
