"""Networks of one layer repeated: doubling ``depth`` doubles the convolutions and leaves width and resolution alone.

Weights are random (He et al., ICCV 2015). A site's fit and a node's run cost the same at every depth, so the time of a
conversion should grow as the number of convolutions does.
"""

from collections.abc import Callable, Mapping

import numpy as np

from sepconvert.graph.load import LoadedModel
from tests.fitting.nets import Net

LEVELS = 3
SIDE_EVERY = 2


def chain(depth: int, width: int, size: int) -> LoadedModel:
    """``depth`` convolutions one after the other."""
    net = Net(width, size)
    return net.build(_convolutions(net, "conv", "image", depth, width))


def u_net(depth: int, width: int, size: int) -> LoadedModel:
    """Down two levels and up again over concatenated skips (Ronneberger et al., 2015): ``depth`` convolutions in all.

    Each of the five stretches between poolings and enlargements has a fifth of them, at least one; channels double
    from level to level. Pointwise convolutions change the width, so that all others of a level are alike. One way up
    is a ConvTranspose, the other a Resize.
    """
    net, value, skips = Net(width, size), "image", []
    each = max(1, depth // (2 * LEVELS - 1))
    for level in range(LEVELS):
        channels = width << level
        if level:
            value = net.add("MaxPool", f"pool{level}", value, kernel_shape=[2, 2], strides=[2, 2])
            value = net.conv(f"wider{level}", value, channels // 2, channels, kernel=1)
        value = _convolutions(net, f"down{level}", value, each, channels)
        skips.append(value)
    for level in reversed(range(LEVELS - 1)):
        channels = width << level
        joined = net.add("Concat", f"join{level}", _enlarged(net, level, value, 2 * channels), skips[level], axis=1)
        value = net.conv(f"narrower{level}", joined, 3 * channels, channels, kernel=1)
        value = _convolutions(net, f"up{level}", value, each, channels)
    return net.build(value)


def side_outputs(depth: int, width: int, size: int) -> LoadedModel:
    """A chain with a side output after every second convolution, all of them fused at the end (Xie & Tu, ICCV 2015)."""
    net, value, sides = Net(width, size), "image", []
    for block in range(max(1, depth // SIDE_EVERY)):
        value = _convolutions(net, f"block{block}", value, SIDE_EVERY, width)
        sides.append(net.conv(f"side{block}", value, width, 1, kernel=1))
    fused = net.conv("fuse", net.add("Concat", "sides", *sides, axis=1), len(sides), 1, kernel=1)
    return net.build(net.add("Sigmoid", "edges", fused))


NETWORKS: Mapping[str, Callable[[int, int, int], LoadedModel]] = {
    "chain": chain,
    "u-net": u_net,
    "side outputs": side_outputs,
}


def _convolutions(net: Net, name: str, value: str, count: int, channels: int) -> str:
    for i in range(count):
        value = net.relu(net.conv(f"{name}.{i}", value, channels, channels))
    return value


def _enlarged(net: Net, level: int, value: str, channels: int) -> str:
    """Twice the size and as many channels: by a ConvTranspose on odd levels, by a Resize on even ones."""
    if level % 2:
        weight = net.tensor(f"grow{level}.w", net.rng.normal(size=(channels, channels, 2, 2)) * np.sqrt(2 / channels))
        return net.add("ConvTranspose", f"grow{level}", value, weight, strides=[2, 2])
    scales = net.tensor(f"scales{level}", np.array([1, 1, 2, 2], np.float32))
    return net.add("Resize", f"grow{level}", value, "", scales, mode="nearest")
