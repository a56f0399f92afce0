from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest

from sepconvert.errors import DeviceError, ModelError
from sepconvert.model_bytes import ModelBytes
from sepconvert.runtime.sessions import open_session, run_model


def test_a_session_describes_its_inputs_and_outputs(conv_net: Callable[..., bytes]) -> None:
    session = open_session(conv_net())
    assert [(i.name, i.dtype, i.shape) for i in session.inputs] == [("x", "float32", ("N", 3, 8, 8))]
    assert [(o.name, o.dtype, o.shape) for o in session.outputs] == [("logits", "float32", ("N", 5))]
    assert session.device.provider == "CPUExecutionProvider"


def test_a_model_runs_from_bytes_and_from_a_path_alike(conv_net: Callable[..., bytes], tmp_path: Path) -> None:
    model, x = conv_net(), np.random.default_rng(1).standard_normal((2, 3, 8, 8), dtype=np.float32)
    (tmp_path / "m.onnx").write_bytes(model)
    from_bytes = run_model(model, {"x": x})
    from_path = run_model(tmp_path / "m.onnx", {"x": x})
    assert from_bytes.keys() == {"logits"}
    np.testing.assert_array_equal(from_bytes["logits"], from_path["logits"])


def test_external_data_of_model_bytes_is_found_in_the_given_folder(
    conv_net: Callable[..., bytes], tmp_path: Path
) -> None:
    model, x = onnx.load_from_string(conv_net()), np.ones((1, 3, 8, 8), np.float32)
    onnx.save(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    raw = (tmp_path / "m.onnx").read_bytes()
    result = run_model(ModelBytes(raw, tmp_path), {"x": x})
    np.testing.assert_array_equal(result["logits"], run_model(conv_net(), {"x": x})["logits"])


def test_only_the_named_outputs_come_back(conv_net: Callable[..., bytes]) -> None:
    x = np.ones((1, 3, 8, 8), np.float32)
    assert run_model(conv_net(softmax=True), {"x": x}, ["logits"]).keys() == {"logits"}


def test_bfloat16_goes_in_and_comes_out(bfloat16_net: bytes) -> None:
    x = np.array([[1.0, 1.00390625, -3.0]], np.float32)
    result = run_model(bfloat16_net, {"x": x, "b": x.astype(ml_dtypes.bfloat16)})
    assert result["y"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(result["y"], x.astype(ml_dtypes.bfloat16))
    np.testing.assert_array_equal(result["z"], x.astype(ml_dtypes.bfloat16).astype(np.float32))


@pytest.mark.parametrize("model", [b"", b"not a model", "truncated"])
def test_what_is_no_model_is_refused_in_one_sentence(model: bytes | str, conv_net: Callable[..., bytes]) -> None:
    data = conv_net()[:60] if isinstance(model, str) else model
    with pytest.raises(ModelError, match=r"^onnxruntime could not load the model: [^\n]*\.$"):
        open_session(data)


def test_a_wrong_shape_is_one_sentence_and_nothing_on_stderr(
    conv_net: Callable[..., bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ModelError, match=r"^onnxruntime could not run the model: [^\n]*\.$"):
        run_model(conv_net(), {"x": np.ones((1, 2, 8, 8), np.float32)})
    assert capfd.readouterr() == ("", "")


def test_an_unknown_output_is_named_with_those_there_are(conv_net: Callable[..., bytes]) -> None:
    with pytest.raises(ModelError, match="no output 'y'; it has 'logits'"):
        run_model(conv_net(), {"x": np.ones((1, 3, 8, 8), np.float32)}, ["y"])


def test_a_missing_device_is_an_error_and_never_the_cpu(conv_net: Callable[..., bytes]) -> None:
    with pytest.raises(DeviceError, match="onnxruntime-gpu"):
        open_session(conv_net(), device="cuda")


def test_an_unknown_device_lists_the_known_ones(conv_net: Callable[..., bytes]) -> None:
    with pytest.raises(DeviceError, match="'abacus' is not known; choose one of cpu, cuda"):
        open_session(conv_net(), device="abacus")
