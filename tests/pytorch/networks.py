"""Small convolutional networks of the families that people export, for parity tests: ``NETWORKS[name]()``."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def _conv_bn(
    c: int, m: int, stride: int = 1, kernel: int = 3, groups: int = 1, act: nn.Module | None = None
) -> nn.Module:
    conv = nn.Conv2d(c, m, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(m), act or nn.ReLU())


class Residual(nn.Module):
    def __init__(self, c: int, m: int, stride: int, norm: Callable[[int], nn.Module] = nn.BatchNorm2d):
        super().__init__()
        self.first, self.n1 = nn.Conv2d(c, m, 3, stride, 1, bias=False), norm(m)
        self.second, self.n2 = nn.Conv2d(m, m, 3, 1, 1, bias=False), norm(m)
        self.short = nn.Sequential(nn.Conv2d(c, m, 1, stride, bias=False), norm(m)) if stride > 1 or c != m else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.n2(self.second(F.relu(self.n1(self.first(x)))))
        return F.relu(y + (x if self.short is None else self.short(x)))


class Classifier(nn.Module):
    def __init__(self, features: nn.Module, channels: int, classes: int = 10):
        super().__init__()
        self.features, self.head = features, nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(F.adaptive_avg_pool2d(self.features(x), 1), 1))


def resnet() -> nn.Module:
    stem = nn.Sequential(nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    return Classifier(nn.Sequential(stem, Residual(8, 8, 1), Residual(8, 16, 2)), 16)


def groupnorm_resnet() -> nn.Module:
    norm = lambda m: nn.GroupNorm(4, m)  # noqa: E731
    return Classifier(nn.Sequential(Residual(3, 8, 1, norm), Residual(8, 16, 2, norm)), 16)


def vgg_bn() -> nn.Module:
    def stage(c: int, m: int) -> nn.Module:
        return nn.Sequential(_conv_bn(c, m), _conv_bn(m, m), nn.MaxPool2d(2))

    layers = [stage(3, 8), stage(8, 16), nn.AdaptiveAvgPool2d((4, 5)), nn.Flatten(), nn.Linear(320, 32), nn.ReLU()]
    return nn.Sequential(*layers, nn.Dropout(0.5), nn.Linear(32, 10))


class UNet(nn.Module):
    """One step up by a transposed convolution, one by resizing."""

    def __init__(self, mode: str, align: bool | None, transposed: bool = True):
        super().__init__()
        self.a, self.b, self.c = _conv_bn(3, 8), _conv_bn(8, 16), _conv_bn(16, 16)
        self.up = nn.ConvTranspose2d(16, 16, 2, 2) if transposed else nn.ConvTranspose2d(16, 16, 3, 2, 1, 1)
        self.d, self.e, self.out = _conv_bn(32, 8), _conv_bn(16, 8), nn.Conv2d(8, 2, 1)
        self.mode, self.align = mode, align

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(F.max_pool2d(a, 2))
        c = self.up(self.c(F.max_pool2d(b, 2)))
        d = self.d(torch.cat([c, b], 1))
        up = F.interpolate(d, size=a.shape[2:], mode=self.mode, align_corners=self.align)
        return torch.sigmoid(self.out(self.e(torch.cat([up, a], 1))))


class Inverted(nn.Module):
    def __init__(self, c: int, m: int, stride: int, expand: int):
        super().__init__()
        inner = c * expand
        depthwise = _conv_bn(inner, inner, stride, groups=inner, act=nn.ReLU6())
        self.body = nn.Sequential(
            _conv_bn(c, inner, kernel=1, act=nn.ReLU6()), depthwise, nn.Conv2d(inner, m, 1, bias=False)
        )
        self.norm, self.skip = nn.BatchNorm2d(m), stride == 1 and c == m

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.body(x))
        return x + y if self.skip else y


def mobilenet_v2() -> nn.Module:
    return Classifier(nn.Sequential(_conv_bn(3, 8, 2), Inverted(8, 8, 1, 2), Inverted(8, 16, 2, 3)), 16)


class SqueezeExcite(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.down, self.up = nn.Conv2d(c, c // 4, 1), nn.Conv2d(c // 4, c, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.up(F.silu(self.down(x.mean((2, 3), keepdim=True)))))


def mobilenet_v3() -> nn.Module:
    return Classifier(nn.Sequential(_conv_bn(3, 8, 2, act=nn.Hardswish()), SqueezeExcite(8), Inverted(8, 8, 1, 2)), 8)


class Fire(nn.Module):
    def __init__(self, c: int, s: int, m: int):
        super().__init__()
        self.squeeze, self.one, self.three = nn.Conv2d(c, s, 1), nn.Conv2d(s, m, 1), nn.Conv2d(s, m, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.one(x)), F.relu(self.three(x))], 1)


def squeezenet() -> nn.Module:
    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    features = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), pool, Fire(8, 4, 8), pool, Fire(16, 4, 8))
    return nn.Sequential(features, nn.Dropout(), nn.Conv2d(16, 10, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class YoloHead(nn.Module):
    """Two scales with a path upwards, a spatial pyramid, and boxes decoded from distributions on a grid."""

    def __init__(self, classes: int = 4, bins: int = 8):
        super().__init__()
        self.classes, self.bins = classes, bins
        silu = nn.SiLU()
        self.stem, self.deep = _conv_bn(3, 8, 2, act=silu), _conv_bn(8, 16, 2, act=silu)
        self.pyramid, self.merge = _conv_bn(64, 16, kernel=1, act=silu), _conv_bn(24, 8, act=silu)
        self.heads = nn.ModuleList(nn.Conv2d(c, classes + 4 * bins, 1) for c in (8, 16))

    def forward(self, x: Tensor) -> Tensor:
        a = self.stem(x)
        b = self.deep(a)
        pools = [b]
        for _ in range(3):
            pools.append(F.max_pool2d(pools[-1], 5, 1, 2))
        b = self.pyramid(torch.cat(pools, 1))
        a = self.merge(torch.cat([F.interpolate(b, scale_factor=2.0, mode="nearest"), a], 1))
        return torch.cat([self._decode(head(y)) for head, y in zip(self.heads, (a, b), strict=True)], 2)

    def _decode(self, y: Tensor) -> Tensor:
        n, _, h, w = y.shape
        boxes, scores = y.view(n, -1, h * w).split((4 * self.bins, self.classes), 1)
        weights = torch.arange(self.bins, dtype=y.dtype, device=y.device)
        sides = (boxes.view(n, 4, self.bins, h * w).softmax(2) * weights.view(1, 1, -1, 1)).sum(2)
        rows, columns = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
        centre = torch.stack([columns, rows]).view(1, 2, -1)
        low, high = centre - sides[:, :2], centre + sides[:, 2:]
        return torch.cat([(low + high) / 2, high - low, scores.sigmoid()], 1)


class CRNN(nn.Module):
    """Columns of an image read as a sequence."""

    def __init__(self, cell: Callable[..., nn.Module] = nn.LSTM):
        super().__init__()
        self.features = nn.Sequential(_conv_bn(1, 8), nn.MaxPool2d(2), _conv_bn(8, 16), nn.MaxPool2d((2, 1)))
        self.cell, self.head = cell(16 * 8, 12, bidirectional=True), nn.Linear(24, 11)

    def forward(self, x: Tensor) -> Tensor:
        y = self.features(x)
        y = y.permute(3, 0, 1, 2).flatten(2)
        return F.log_softmax(self.head(self.cell(y)[0]), 2)


class ShuffleUnit(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.body = nn.Sequential(_conv_bn(c // 2, c // 2, kernel=1), _conv_bn(c // 2, c // 2, groups=c // 2))

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        y = torch.cat([left, self.body(right)], 1)
        n, c, h, w = y.shape
        return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def shufflenet() -> nn.Module:
    return Classifier(nn.Sequential(_conv_bn(3, 8, 2), ShuffleUnit(8), ShuffleUnit(8)), 8)


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, 4, 3, 1, 1)) for c in (3, 7, 11)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False)


class ConvNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, 32), nn.Linear(32, 8)
        self.gamma = nn.Parameter(torch.full((8,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.gamma * self.down(F.gelu(self.up(y)))
        return (x + y.permute(0, 3, 1, 2)).mean((2, 3))


class StyleTransfer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, 2), nn.InstanceNorm2d(8, affine=True)
        self.act, self.out = nn.PReLU(8), nn.Conv2d(8, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm(self.conv(F.pad(x, (1, 1, 1, 1), mode="reflect"))))
        return torch.tanh(F.pixel_shuffle(self.out(y), 2))


class DeepLab(nn.Module):
    """Dilated branches and the image's mean, resized to the input."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.out = _conv_bn(3, 8, 2), nn.Conv2d(24, 3, 1)
        self.branches = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=d, dilation=d) for d in (1, 3))
        self.image = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        mean = F.interpolate(
            self.image(F.adaptive_avg_pool2d(y, 1)), size=y.shape[2:], mode="bilinear", align_corners=False
        )
        y = self.out(torch.cat([*(branch(y) for branch in self.branches), mean], 1))
        return F.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=False)


class AudioNet(nn.Module):
    """One-dimensional convolutions and a GRU on a waveform."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(1, 8, 16, 8), nn.BatchNorm1d(8)
        self.cell, self.out = nn.GRU(8, 6, batch_first=True), nn.Conv1d(6, 4, 5, padding=2)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.norm(self.conv(x)), 0.2)
        y, _ = self.cell(F.avg_pool1d(y, 2).transpose(1, 2))
        return F.softplus(self.out(y.transpose(1, 2))).amax(2)


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "resnet": resnet,
    "groupnorm_resnet": groupnorm_resnet,
    "vgg_bn": vgg_bn,
    "unet_bilinear": lambda: UNet("bilinear", False),
    "unet_corners": lambda: UNet("bilinear", True, transposed=False),
    "unet_nearest": lambda: UNet("nearest", None),
    "unet_bicubic": lambda: UNet("bicubic", False),
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3": mobilenet_v3,
    "squeezenet": squeezenet,
    "yolo": YoloHead,
    "crnn_lstm": CRNN,
    "crnn_gru": lambda: CRNN(nn.GRU),
    "shufflenet": shufflenet,
    "dense": Dense,
    "convnext": ConvNeXt,
    "style": StyleTransfer,
    "deeplab": DeepLab,
    "audio": AudioNet,
}

SHAPES: Mapping[str, tuple[int, ...]] = {"crnn_lstm": (2, 1, 32, 40), "crnn_gru": (2, 1, 32, 40), "audio": (2, 1, 400)}


def build(name: str) -> tuple[nn.Module, Tensor]:
    """A network in evaluation mode with lively weights and statistics, and an input for it."""
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return network, torch.randn(SHAPES.get(name, (2, 3, 32, 40)))
