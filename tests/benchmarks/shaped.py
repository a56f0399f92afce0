"""Networks of the shapes of ResNet-50 (He et al., 2016) and MobileNetV2 (Sandler et al., 2018), with random weights.

How long layers take does not depend on the weights.
"""

from collections.abc import Callable, Mapping

import torch
from torch import nn

# Blocks, inner and outer channels, stride of the first.
RESNET50 = ((3, 64, 256, 1), (4, 128, 512, 2), (6, 256, 1024, 2), (3, 512, 2048, 2))
# Expansion, outer channels, blocks, stride of the first.
MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class Residual(nn.Module):
    """A branch, added to its input or to a shortcut, and what follows the sum."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module, after: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut, self.after = branch, shortcut, after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.after(self.branch(x) + self.shortcut(x))
        return result


def unit(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: nn.Module | None = None
) -> nn.Module:
    """A convolution, its normalisation and, if given, an activation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([] if act is None else [act]))


def resnet50() -> nn.Module:
    layers: list[nn.Module] = [unit(3, 64, 7, 2, act=nn.ReLU()), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for blocks, inner, outer, first in RESNET50:
        for block in range(blocks):
            stride = first if block == 0 else 1
            branch = nn.Sequential(
                unit(inputs, inner, 1, act=nn.ReLU()),
                unit(inner, inner, 3, stride, act=nn.ReLU()),
                unit(inner, outer, 1),
            )
            shortcut = nn.Identity() if inputs == outer else unit(inputs, outer, 1, stride)
            layers.append(Residual(branch, shortcut, nn.ReLU()))
            inputs = outer
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000))


def mobilenet_v2() -> nn.Module:
    layers: list[nn.Module] = [unit(3, 32, 3, 2, act=nn.ReLU6())]
    inputs = 32
    for expansion, outer, blocks, first in MOBILENET_V2:
        for block in range(blocks):
            stride, inner = first if block == 0 else 1, inputs * expansion
            wider = [] if expansion == 1 else [unit(inputs, inner, 1, act=nn.ReLU6())]
            branch = nn.Sequential(*wider, unit(inner, inner, 3, stride, inner, nn.ReLU6()), unit(inner, outer, 1))
            adds = stride == 1 and inputs == outer
            layers.append(Residual(branch, nn.Identity(), nn.Identity()) if adds else branch)
            inputs = outer
    last = unit(inputs, 1280, 1, act=nn.ReLU6())
    return nn.Sequential(*layers, last, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000))


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {"resnet50": resnet50, "mobilenet_v2": mobilenet_v2}
