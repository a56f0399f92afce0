"""Rebuild, or check, everything in this folder: two small trained networks and their data.

    python sample_models/build.py              trains and writes all files (needs torch, about ten minutes on one core)
    python sample_models/build.py --evaluate   top-1 of the files as they are (needs only onnxruntime)

Networks: a residual and a plain (VGG-like) classifier of Fashion-MNIST, trained from a fixed seed on one thread. Batch
normalisation is folded into the convolutions; the residual one is also written with it kept (same weights). Data: 1,024
training images without labels for calibration, and as many labelled test images as fit in 2 MB; an image that occurs in
both halves of the data set is left out of the calibration file.
"""

import argparse
import gzip
import hashlib
import io
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

HERE = Path(__file__).parent
DATA_DIR = Path("/usr/share/datasets/fashion-mnist")  # Debian package dataset-fashion-mnist
MEAN, STD = 0.2860, 0.3530  # of the training images scaled to [0, 1]
INPUT, OUTPUT, LABELS = "image", "logits", "y"
SIZE = 28
CALIBRATION_IMAGES = 1024
MAX_BYTES = 2_000_000
MODELS = ("fashion_resnet.onnx", "fashion_resnet_bn.onnx", "fashion_vgg.onnx")
OPSET = 17

Images = NDArray[np.uint8]  # (N, 28, 28), grey
Labels = NDArray[np.int64]  # (N,), 0..9


def read_split(data_dir: Path, split: str) -> tuple[Images, Labels]:
    """Read ``train`` or ``t10k``: gzipped IDX, pixels from byte 16, labels from byte 8."""
    pixels = gzip.decompress((data_dir / f"{split}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((data_dir / f"{split}-labels-idx1-ubyte.gz").read_bytes())
    images = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, SIZE, SIZE)
    return images, np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)


def normalise(images: Images) -> NDArray[np.float32]:
    """Return what the networks take: (N, 1, 28, 28), zero mean and unit variance over the training images."""
    return ((images[:, None].astype(np.float32) / 255 - MEAN) / STD).astype(np.float32)


def digest(image: NDArray[np.generic]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest()


def choose_calibration(train: Images, test: Images, seed: int) -> Images:
    """Draw training images at random, none of which is also a test image."""
    known = {digest(image) for image in test}
    order = np.random.default_rng(seed).permutation(len(train))
    fresh = [i for i in order[: 2 * CALIBRATION_IMAGES] if digest(train[i]) not in known]
    return train[fresh[:CALIBRATION_IMAGES]]


def pack(images: Images, labels: Labels | None = None) -> bytes:
    """Return the bytes of a compressed npz; float16 keeps the 256 grey levels apart."""
    arrays: dict[str, NDArray[np.generic]] = {INPUT: normalise(images).astype(np.float16)}
    if labels is not None:
        arrays[LABELS] = labels
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def pack_test(images: Images, labels: Labels, step: int = 100) -> bytes:
    """Pack as many of the first test images (in steps of ``step``) as fit in a file of ``MAX_BYTES``."""
    low, high = 0, len(images) // step  # the answer is in [low, high]
    while low < high:
        middle = (low + high + 1) // 2
        fits = len(pack(images[: middle * step], labels[: middle * step])) <= MAX_BYTES
        low, high = (middle, high) if fits else (low, middle - 1)
    return pack(images[: low * step], labels[: low * step])


def write_data(data_dir: Path, out: Path, seed: int) -> None:
    train, _ = read_split(data_dir, "train")
    test, labels = read_split(data_dir, "t10k")
    (out / "fashion_calibration.npz").write_bytes(pack(choose_calibration(train, test, seed)))
    (out / "fashion_test.npz").write_bytes(pack_test(test, labels))


def resnet() -> "torch.nn.Module":
    """1→16, then three residual blocks 32, 64, 128, each halving the size: 304 k parameters."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=2, bias=False)
            self.bn3 = nn.BatchNorm2d(outputs)

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            y = self.bn1(self.conv1(x)).relu()
            return (self.bn2(self.conv2(y)) + self.bn3(self.shortcut(x))).relu()

    return nn.Sequential(
        OrderedDict(
            stem=nn.Conv2d(1, 16, 3, padding=1, bias=False),
            bn=nn.BatchNorm2d(16),
            relu=nn.ReLU(),
            block1=Block(16, 32),
            block2=Block(32, 64),
            block3=Block(64, 128),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            classifier=nn.Linear(128, 10),
        )
    )


def vgg() -> "torch.nn.Module":
    """Pairs of 3×3 convolutions of 32, 64 and 128 channels, each pair followed by 2×2 pooling: 298 k parameters."""
    from torch import nn

    layers: OrderedDict[str, nn.Module] = OrderedDict()
    inputs = 1
    for stage, outputs in enumerate((32, 64, 128), start=1):
        for place in (1, 2):
            layers[f"conv{stage}_{place}"] = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            layers[f"bn{stage}_{place}"] = nn.BatchNorm2d(outputs)
            layers[f"relu{stage}_{place}"] = nn.ReLU()
            inputs = outputs
        layers[f"pool{stage}"] = nn.MaxPool2d(2)
    layers |= {"flatten": nn.Flatten(), "dropout": nn.Dropout(0.2), "classifier": nn.Linear(128 * 3 * 3, 10)}
    return nn.Sequential(layers)


def train(net: "torch.nn.Module", data_dir: Path, epochs: int, seed: int, peak: float) -> None:
    """Train in place: SGD with momentum, one learning-rate cycle, random mirroring."""
    import torch

    train_images, train_labels = read_split(data_dir, "train")
    x = torch.from_numpy(normalise(train_images)).to(memory_format=torch.channels_last)
    y = torch.from_numpy(train_labels)
    net.to(memory_format=torch.channels_last)
    batch = 128
    steps = epochs * (len(x) // batch)
    optimiser = torch.optim.SGD(net.parameters(), lr=peak, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, total_steps=steps, pct_start=0.25)
    order = torch.Generator().manual_seed(seed)
    net.train()
    for epoch in range(epochs):
        losses = []
        for chosen in torch.randperm(len(x), generator=order).split(batch)[: len(x) // batch]:
            images = x[chosen]
            mirrored = torch.rand(len(images), 1, 1, 1, generator=order) < 0.5
            loss = torch.nn.functional.cross_entropy(net(torch.where(mirrored, images.flip(3), images)), y[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        print(f"  epoch {epoch + 1}/{epochs}: loss {np.mean(losses):.4f}", flush=True)
    net.eval()


def tidy(path: Path) -> None:
    """Give every weight its own name after its node, and equal tensors, which torch shares, a copy each."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "Identity" and node.input[0] in tensors]:
        tensors[node.output[0]] = tensors[node.input[0]]
        graph.node.remove(node)
    roles = {"BatchNormalization": ("", "scale", "bias", "mean", "variance")}
    weights = []
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name not in tensors:
                continue
            copy = onnx.TensorProto()
            copy.CopyFrom(tensors[name])
            role = roles.get(node.op_type, ("", "weight", "bias"))[i]
            copy.name = f"{node.name.strip('/').removesuffix('/' + node.op_type).replace('/', '.')}.{role}"
            node.input[i] = copy.name
            weights.append(copy)
    del graph.initializer[:]
    graph.initializer.extend(weights)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def export(net: "torch.nn.Module", path: Path, fold: bool) -> None:
    """Write ``net`` as ONNX with a dynamic batch; torch folds Conv+BatchNorm exactly when asked for evaluation mode."""
    import torch

    mode = torch.onnx.TrainingMode.EVAL if fold else torch.onnx.TrainingMode.PRESERVE
    torch.onnx.export(
        net.eval().to(memory_format=torch.contiguous_format),
        (torch.zeros(1, 1, SIZE, SIZE),),
        path,
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
        opset_version=OPSET,
        training=mode,
        do_constant_folding=fold,
        dynamo=False,
    )
    tidy(path)


def build(data_dir: Path, out: Path, seed: int, only: str | None = None) -> None:
    """Train and write all models and data files into ``out``."""
    import torch

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    write_data(data_dir, out, seed)
    for name, make, epochs, peak in (("fashion_resnet", resnet, 6, 0.2), ("fashion_vgg", vgg, 3, 0.1)):
        if only not in (None, name):
            continue
        torch.manual_seed(seed)
        net = make()
        print(f"{name}: {sum(p.numel() for p in net.parameters()):,} parameters", flush=True)
        train(net, data_dir, epochs, seed, peak)
        export(net, out / f"{name}.onnx", fold=True)
        if name == "fashion_resnet":
            export(net, out / f"{name}_bn.onnx", fold=False)


def top1(model: Path, images: NDArray[np.float32], labels: Labels) -> float:
    """Return the share of ``images`` (N, 1, 28, 28) whose largest logit is at the label, in percent."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    hits = 0
    for start in range(0, len(images), 500):
        (logits,) = session.run([OUTPUT], {INPUT: images[start : start + 500]})
        hits += int((np.asarray(logits).argmax(1) == labels[start : start + 500]).sum())
    return 100 * hits / len(images)


def evaluate(data_dir: Path, out: Path) -> None:
    """Print top-1 on the test file, and on all 10,000 test images where the data set is installed."""
    with np.load(out / "fashion_test.npz") as data:
        images, labels = data[INPUT].astype(np.float32), data[LABELS]
    everything = read_split(data_dir, "t10k") if data_dir.is_dir() else None
    for name in filter(lambda name: (out / name).exists(), MODELS):
        line = f"{name:24} top-1 {top1(out / name, images, labels):.2f} % of {len(images):,}"
        if everything is not None:
            line += f", {top1(out / name, normalise(everything[0]), everything[1]):.2f} % of {len(everything[0]):,}"
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR, help="the four .gz files of Fashion-MNIST")
    parser.add_argument("--out", type=Path, default=HERE, help="where the files go (default: this folder)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["fashion_resnet", "fashion_vgg"], help="train just this network")
    parser.add_argument("--evaluate", action="store_true", help="train nothing, print the accuracy of the files")
    arguments = parser.parse_args()
    if not arguments.evaluate:
        build(arguments.data_dir, arguments.out, arguments.seed, arguments.only)
    evaluate(arguments.data_dir, arguments.out)


if __name__ == "__main__":
    main()
