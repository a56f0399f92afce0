"""When a rewritten network is beyond use: the one rule that rewrites, sweeps and pages follow."""

# A relative error of the worst output, before its activation: less than a tenth of what varies in it is left, where of
# a constant answer nothing is left. A detector at 0.92 found nothing any more. Most tasks suffer from 0.1 on, and
# records say so (on Fashion-MNIST a ResNet had lost 10 points of top-1 at 0.12 and 22 at 0.32, a VGG 19 at 0.19 and 32
# at 0.31), but such a network may still be trained.
RUIN = 0.9


def ruins(error: float | None, limit: float = RUIN) -> bool:
    """Return whether an error is beyond use; one that is not known (None) is not, one that is no number is."""
    return error is not None and not error < limit
