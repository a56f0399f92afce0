"""Fine-tune the sample models at a quarter of their sites' MACs, and write what came of it under reports/.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.tuning fashion_resnet              label-free distillation
    OMP_NUM_THREADS=1 python -m tests.benchmarks.tuning fashion_vgg --init random   random layers, with labels

20,000 training images of Fashion-MNIST, judged on all 10,000 test images; no image is in both. Low-rank factors are
fitted to 1,024 of the training images and then tuned without labels; random ones are tuned with labels. The time is the
CPU time of the one thread, fits included, so that it is true on a busy machine too.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepconvert.record import Fidelity, Record
from sepconvert.workflows import FineTune, Measure, Outputs, Planning, rewrite
from tests.benchmarks.fetch import default_cache
from tests.benchmarks.models import FASHION_MNIST, SAMPLES, open_case

IMAGES = 20_000
# A quarter of the sites' MACs, as a share of the whole model's.
MACS = {"fashion_resnet": 0.285, "fashion_vgg": 0.253}
EPOCHS = {"fashion_resnet": 13, "fashion_vgg": 3}
RATE = 0.002
HARD_LABELS = {"fashion_resnet": True, "fashion_vgg": False}
AUGMENT = {"fashion_resnet": ("shift",), "fashion_vgg": ()}
RANDOM_EPOCHS = {"fashion_resnet": 5, "fashion_vgg": 1}
REPORTS = SAMPLES.parent / "reports"


def training_arrays(labelled: bool) -> Path:
    """The training images as an npz in the cache folder, made on first use."""
    path = default_cache() / f"fashion_training_{IMAGES}{'_labelled' * labelled}.npz"
    if not path.exists():
        sys.path.insert(0, str(SAMPLES))
        try:
            from build import digest, normalise, read_split
        finally:
            sys.path.remove(str(SAMPLES))
        images, labels = read_split(FASHION_MNIST, "train")
        known = {digest(image) for image in read_split(FASHION_MNIST, "t10k")[0]}
        order = np.random.default_rng(0).permutation(len(images))
        chosen = np.sort([i for i in order[: IMAGES + 100] if digest(images[i]) not in known][:IMAGES])
        arrays: dict[str, NDArray[np.generic]] = {"image": normalise(images[chosen]).astype(np.float16)}
        np.savez(path, allow_pickle=False, **(arrays | ({"y": labels[chosen]} if labelled else {})))
    return path


def tune(name: str, init: str, wanted: FineTune) -> Record:
    case = open_case(name)
    labelled = init == "random"
    unit, ratio = ("rank", 0.25) if labelled else ("macs", MACS[name])
    start = time.process_time()
    record = rewrite(
        case.model.relative_to(SAMPLES.parent),
        form="auto",
        planning=Planning(init=init),
        data=str(case.calibration),
        test_data=str(case.test),
        fine_tune=replace(wanted, train_data=str(training_arrays(labelled))),
        measure=Measure(latency=False),
        progress=_tell,
        rank=ratio if unit == "rank" else None,
        macs=ratio if unit == "macs" else None,
    ).record
    assert record.fidelity is not None
    assert record.fine_tune is not None
    spent = time.process_time() - start
    arguments = ["rewrite", case.model.name, "--form", "auto", "--init", init, f"--{unit}", f"{ratio:g}"]
    training = ["--fine-tune", "--epochs", str(wanted.epochs), "--lr", f"{wanted.lr:g}"]
    training += ["--train-weights", wanted.train_weights]
    training += ["--augment", ",".join(wanted.augment)] if wanted.augment else []
    training += ["--hard-labels"] if wanted.hard_labels else []
    return replace(
        record,
        arguments=[*arguments, *training],
        fidelity=replace(record.fidelity, data="all 10,000 test images"),
        fine_tune=record.fine_tune | {"cpu_seconds_in_all": spent},
    )


def _tell(what: str, done: int, total: int) -> None:
    if what.startswith("Fine-tune") and done % 200 == 0:
        print(f"{what}, {done} of {total}", flush=True)


def summary(record: Record) -> str:
    """One line of figures."""
    fidelity, found = record.fidelity, record.fine_tune
    assert isinstance(fidelity, Fidelity)
    assert found is not None
    sites = [site for site in record.sites if site.status == "rewritten"]
    share = sum(site.macs_after or 0 for site in sites) / sum(site.macs or 0 for site in sites)
    drop = 100 * ((fidelity.top1_before or 0) - (fidelity.top1_after or 0))
    return (
        f"top-1 {fidelity.top1_before:.2%} -> {fidelity.top1_after:.2%} (drop {drop:.2f}), same answer "
        f"{fidelity.top1_agreement:.2%}, sites' MACs {share:.3f}, divergence {found['divergence_before']:.4f} -> "
        f"{found['divergence_after']:.4f}, {found['steps']} steps, {found['cpu_seconds_in_all']:.0f} s of CPU time"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(MACS))
    parser.add_argument("--init", choices=["low-rank", "random"], default="low-rank")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--lr", type=float, default=RATE)
    parser.add_argument("--train-weights", default="all")
    parser.add_argument("--augment", help="comma-separated")
    parser.add_argument("--hard-labels", action=argparse.BooleanOptionalAction)
    given = parser.parse_args()
    random = given.init == "random"
    epochs = given.epochs or (RANDOM_EPOCHS if random else EPOCHS)[given.name]
    augment = AUGMENT[given.name] if given.augment is None else tuple(filter(None, given.augment.split(",")))
    hard = not random and (HARD_LABELS[given.name] if given.hard_labels is None else given.hard_labels)
    wanted = FineTune(epochs=epochs, lr=given.lr, train_weights=given.train_weights, augment=augment, hard_labels=hard)
    record = tune(given.name, given.init, wanted)
    print(summary(record))
    stem = f"{given.name}_tuned{'_from_random' * (given.init == 'random')}"
    Outputs(json=REPORTS / f"{stem}.json", force=True).write(record)


if __name__ == "__main__":
    main()
