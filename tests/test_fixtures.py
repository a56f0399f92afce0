"""The shared fixtures point at what they say."""

from pathlib import Path


def test_real_models_are_onnx_files_of_the_expected_size(open_nsfw, ppocr_det, ppocr_rec, ppocr_cls):
    sizes = [path.stat().st_size for path in (open_nsfw, ppocr_det, ppocr_rec, ppocr_cls)]
    assert sizes == [23_792_792, 4_745_517, 10_857_958, 585_532]


def test_the_zoo_holds_all_real_models(model_zoo: Path):
    assert len(list(model_zoo.glob("*.onnx"))) == 4


def test_light_models_are_found_inside_the_onnx_package(light_models):
    assert {"light_resnet50.onnx", "light_vgg19.onnx"} <= {path.name for path in light_models}
