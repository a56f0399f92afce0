import os
import re
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from sepconvert.errors import ModelError
from sepconvert.graph.count import count_totals
from sepconvert.graph.load import load_bytes, load_model
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.survey import survey
from tests.graph.models import NEWEST_OPSET, conv_model, load, model, save_with_external_data, weight


def one_sentence(error: pytest.ExceptionInfo[ModelError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert len(message) < 400
    return message


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as error:
        load_model(path)
    return one_sentence(error)


def refusal_of(proto: onnx.ModelProto) -> str:
    with pytest.raises(ModelError) as error:
        load(proto)
    return one_sentence(error)


def write(path: Path, proto: onnx.ModelProto) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


def test_a_loaded_model_knows_its_file(tmp_path):
    path = write(tmp_path / "m.onnx", conv_model())
    loaded = load_model(path)
    assert loaded.path == path
    assert loaded.bytes == path.stat().st_size
    assert re.fullmatch("[0-9a-f]{64}", loaded.sha256 or "")


def test_bytes_include_external_data(tmp_path):
    data = save_with_external_data(conv_model(), tmp_path / "m.onnx")
    loaded = load_model(tmp_path / "m.onnx")
    assert loaded.bytes == (tmp_path / "m.onnx").stat().st_size + data.stat().st_size


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 18, NEWEST_OPSET])
def test_every_opset_from_7_to_the_newest_loads(opset):
    assert load(conv_model(opset=opset)).ir.graph.opset_imports[""] == opset


def test_a_missing_file_is_named(tmp_path):
    assert "nowhere.onnx cannot be read" in refusal(tmp_path / "nowhere.onnx")


def test_a_folder_is_no_model(tmp_path):
    assert "is a folder" in refusal(tmp_path)


def test_an_empty_file_is_no_model(tmp_path):
    (tmp_path / "m.onnx").touch()
    assert "is empty" in refusal(tmp_path / "m.onnx")


@pytest.mark.parametrize("content", [b"PK\x03\x04 some zip", b"hello\n" * 100, bytes(1000), bytes(range(256)) * 8])
def test_other_files_are_no_models(content, tmp_path):
    (tmp_path / "m.onnx").write_bytes(content)
    assert "is not an ONNX model" in refusal(tmp_path / "m.onnx")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.99, 0.9999])
def test_a_truncated_file_is_refused(share, open_nsfw, tmp_path):
    data = open_nsfw.read_bytes()
    (tmp_path / "m.onnx").write_bytes(data[: int(len(data) * share)])
    assert "m.onnx" in refusal(tmp_path / "m.onnx")


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_small_file_cut_anywhere_near_its_end_is_refused(cut):
    data = conv_model().SerializeToString()
    with pytest.raises(ModelError) as error:
        load_bytes(data[:-cut])
    one_sentence(error)


def test_a_file_above_the_protobuf_limit_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "m.onnx").open("wb") as file:
        file.truncate(2**31 + 10)
    assert "larger than the 2 GB" in refusal(tmp_path / "m.onnx")


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_few_wrong_bytes_give_a_model_or_a_model_error(data):
    content = bytearray(conv_model((2, 2, 3, 3), bias=True).SerializeToString())
    places = st.integers(0, len(content) - 1)
    for place, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=3)):
        content[place] = byte
    params: int | None = 0
    with suppress(ModelError):
        loaded = load_bytes(bytes(content))
        shapes = infer_shapes(loaded)
        params = count_totals(loaded, shapes, [site.output for site in survey(loaded, shapes).sites]).params
    assert params is not None


@pytest.mark.parametrize("name", [b"\x12\x01g", b"\x0a\x01x", b"B\x01w", b"\x1a\x04conv", b'"\x04Conv'])
def test_the_name_of_a_graph_value_tensor_node_or_operator_that_is_no_text_is_refused(name):
    content = conv_model(bias=True).SerializeToString()
    assert name in content
    with pytest.raises(ModelError) as error:
        load_bytes(content.replace(name, name[:2] + b"\x80" * (len(name) - 2)))
    one_sentence(error)


def test_missing_external_data_is_named(tmp_path):
    save_with_external_data(conv_model(), tmp_path / "m.onnx").unlink()
    assert "'weights.bin' is missing" in refusal(tmp_path / "m.onnx")


def test_truncated_external_data_is_named(tmp_path):
    data = save_with_external_data(conv_model(), tmp_path / "m.onnx")
    os.truncate(data, data.stat().st_size - 1)
    assert "'weights.bin' is cut off" in refusal(tmp_path / "m.onnx")


def with_location(location: str) -> onnx.ModelProto:
    proto = conv_model()
    (tensor,) = proto.graph.initializer
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return proto


def test_external_data_outside_the_folder_is_refused_even_where_it_exists(tmp_path):
    (tmp_path / "outside.bin").write_bytes(bytes(4 * 6 * 4 * 9))
    folder = tmp_path / "model"
    folder.mkdir()
    for location in ("../outside.bin", str(tmp_path / "outside.bin"), "sub/../../outside.bin"):
        assert "outside the model's folder" in refusal(write(folder / "m.onnx", with_location(location)))


def test_a_pipe_is_refused_rather_than_read_without_end(tmp_path):
    os.mkfifo(tmp_path / "m.onnx")
    assert "a device, pipe or socket" in refusal(tmp_path / "m.onnx")


def test_a_link_that_leaves_the_folder_is_refused(tmp_path):
    (tmp_path / "outside.bin").write_bytes(bytes(4 * 6 * 4 * 9))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "weights.bin").symlink_to(tmp_path / "outside.bin")
    assert "a link that leads outside the model's folder" in refusal(
        write(folder / "m.onnx", with_location("weights.bin"))
    )


def test_a_link_inside_the_folder_is_followed(tmp_path):
    data = save_with_external_data(conv_model(), tmp_path / "m.onnx")
    data.rename(tmp_path / "real.bin")
    data.symlink_to("real.bin")
    assert load_model(tmp_path / "m.onnx").bytes


def test_external_data_with_several_hard_links_is_refused_as_the_onnx_libraries_do(tmp_path):
    data = save_with_external_data(conv_model(), tmp_path / "m.onnx")
    (tmp_path / "twin.bin").hardlink_to(data)
    assert "several hard links" in refusal(tmp_path / "m.onnx")


def test_external_data_that_is_a_folder_is_refused(tmp_path):
    (tmp_path / "weights.bin").mkdir()
    assert "is not a file" in refusal(write(tmp_path / "m.onnx", with_location("weights.bin")))


def test_external_data_needs_a_path():
    with pytest.raises(ModelError, match="needs the model's path"):
        load(with_location("weights.bin"))


def test_a_cycle_is_refused():
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    assert "not a valid ONNX model" in refusal_of(model(nodes, {"x": [1]}, ["b"]))


def test_an_unsorted_graph_is_refused():
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Abs", ["x"], ["a"])]
    assert "sorted" in refusal_of(model(nodes, {"x": [1]}))


def test_a_value_made_twice_is_refused():
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["y"])]
    assert "not a valid ONNX model" in refusal_of(model(nodes, {"x": [1]}))


def test_an_unknown_operator_of_the_standard_domain_is_refused():
    assert "Frobnicate" in refusal_of(model([helper.make_node("Frobnicate", ["x"], ["y"])], {"x": [1]}))


def test_an_operator_of_another_domain_loads():
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain="com.example")
    assert load(model([node], {"x": [1]}, domains={"com.example": 1}))


def test_an_output_that_nothing_makes_is_refused():
    assert "not a valid ONNX model" in refusal_of(model([helper.make_node("Relu", ["x"], ["y"])], {"x": [1]}, ["z"]))


def test_a_missing_attribute_is_refused():
    assert "axis" in refusal_of(model([helper.make_node("Concat", ["x", "x"], ["y"])], {"x": [1]}))


def test_a_model_without_outputs_is_refused():
    assert "no outputs" in refusal_of(model([helper.make_node("Relu", ["x"], ["y"])], {"x": [1]}, []))


def test_an_opset_newer_than_known_is_refused():
    proto = conv_model()
    proto.opset_import[0].version = NEWEST_OPSET + 1
    assert "upgrade onnx" in refusal_of(proto)


def test_an_ir_version_newer_than_known_is_refused():
    proto = conv_model()
    proto.ir_version = onnx.IR_VERSION + 1
    assert "upgrade onnx" in refusal_of(proto)


def test_an_opset_older_than_7_is_refused():
    proto = conv_model(opset=7)
    proto.opset_import[0].version = 6
    assert "version_converter" in refusal_of(proto)


def test_a_model_without_the_standard_operator_set_is_refused():
    proto = conv_model()
    proto.opset_import[0].domain = "com.example"
    assert "no ONNX operator set" in refusal_of(proto)


def test_a_weight_with_too_few_bytes_is_refused():
    proto = conv_model()
    proto.graph.initializer[0].raw_data = proto.graph.initializer[0].raw_data[:-4]
    assert "'w' holds 860 bytes instead of 864" in refusal_of(proto)


@pytest.mark.parametrize("channels", [1, 400])
def test_a_weight_without_data_is_refused(channels):
    proto = conv_model((channels, 1, 3, 3))
    proto.graph.initializer[0].ClearField("raw_data")
    assert "numbers instead of" in refusal_of(proto)


def test_a_weight_with_too_few_numbers_is_refused():
    proto = conv_model()
    proto.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0]))
    proto.graph.initializer[0].dims[:] = [6, 4, 3, 3]
    assert "numbers instead of" in refusal_of(proto)


def test_a_name_that_is_no_text_is_refused_wherever_it_stands():
    block = onnx.helper.make_function("local", "Block", ["a"], ["b"], [onnx.helper.make_node("Relu", ["a"], ["b"])], [])
    proto = conv_model()
    proto.functions.append(block)
    proto.opset_import.add(domain="local", version=1)
    proto.functions[0].opset_import.add(version=17)
    load(proto)
    data = proto.SerializeToString()
    for name in (b"Block", b"conv", b"local", b"Relu", b"Conv", b"w"):
        place = data.index(bytes([len(name)]) + name) + 1
        damaged = data[:place] + b"\xff" + data[place + 1 :]
        with pytest.raises(ModelError, match="holds a name that is not UTF-8 text"):
            load_bytes(damaged)


def test_a_text_that_is_none_is_refused_where_onnx_reads_it():
    proto = conv_model(auto_pad="VALID")
    (attribute,) = proto.graph.node[0].attribute
    attribute.s = b"\xff\xfe"
    assert "Conv 'conv' has an attribute 'auto_pad' that is not UTF-8 text" in refusal_of(proto)


def test_sparse_weights_are_refused():
    proto = conv_model()
    dense = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])
    proto.graph.sparse_initializer.add(
        values=dense, indices=helper.make_tensor("", TensorProto.INT64, [1], [0]), dims=[9]
    )
    assert "sparse" in refusal_of(proto)


def test_a_large_constant_node_is_not_copied_into_the_check():
    # If it were, loading would need more than one copy of it: the checker gets a typed input in its place.
    big = onnx.numpy_helper.from_array(weight((300, 300)))
    nodes = [helper.make_node("Constant", [], ["w"], value=big), helper.make_node("MatMul", ["x", "w"], ["y"])]
    assert load(model(nodes, {"x": [1, 300]})).ir.graph.num_nodes() == 2


def test_weights_in_subgraphs_and_functions_may_be_external(tmp_path):
    inner = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["then"])],
        "body",
        [],
        [helper.make_tensor_value_info("then", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(weight((6, 4, 3, 3)), "w")],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["else"])],
        "body",
        [],
        [helper.make_tensor_value_info("else", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(np.array(True))),
        helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=other),
    ]
    proto = model(nodes, {"x": [1, 4, 9, 9]})
    (tensor,) = (tensor for attribute in proto.graph.node[1].attribute for tensor in attribute.g.initializer)
    (tmp_path / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    assert load_model(write(tmp_path / "m.onnx", proto)).bytes
