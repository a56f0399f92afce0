"""What analysing costs, measured in a process of its own."""

import subprocess
import sys
from pathlib import Path

from tests.graph.models import conv_model, sparse_external_model

ANALYSE = """
import resource, sys
from pathlib import Path
from sepconvert.graph.count import count_totals
from sepconvert.graph.load import load_model
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.sites import CONV
from sepconvert.separable.forms import named
from sepconvert.graph.survey import survey
model = load_model(Path(sys.argv[1]))
shapes = infer_shapes(model)
found = survey(model, shapes).allowing(named("auto"), [CONV])
totals = count_totals(model, shapes, [site.output for site in found.sites])
status = Path("/proc/self/status")
if status.exists():
    # Not ru_maxrss: on Linux it starts at the size of the process that started this one.
    peak = next(1024 * int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM"))
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(len(found.sites), totals.params, totals.file_bytes, peak)
for heavy in ("onnxruntime", "torch", "altair", "scipy", "networkx"):
    assert heavy not in sys.modules, heavy
"""


def analyse(path: Path) -> list[float]:
    done = subprocess.run([sys.executable, "-c", ANALYSE, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [float(word) for word in done.stdout.split()]


def test_a_model_with_3_gb_of_external_weights_is_analysed_in_under_1_gb(tmp_path):
    stored = sparse_external_model(tmp_path / "m.onnx", convs=20, channels=2048)
    assert stored > 3e9
    sites, params, file_bytes, peak = analyse(tmp_path / "m.onnx")
    assert sites == 20
    assert params == stored / 4
    assert file_bytes == stored + (tmp_path / "m.onnx").stat().st_size
    assert peak < 1e9


def test_peak_memory_is_at_most_three_times_the_file_and_200_mb(open_nsfw):
    *_, peak = analyse(open_nsfw)
    assert peak < 3 * open_nsfw.stat().st_size + 200e6


def test_a_large_inline_model_needs_at_most_three_times_its_size_and_200_mb(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(conv_model((2048, 2048, 3, 3)).SerializeToString())
    *_, peak = analyse(path)
    assert peak < 3 * path.stat().st_size + 200e6
