"""What a trial counts as the package's own fault."""

from tests.fuzz.trials import blames_itself


def test_a_folder_that_happens_to_be_called_a_bug_is_none():
    assert not blames_itself("/tmp/fuzz-k7ebug0l/work/m.onnx is not an ONNX model; export it again.")
    assert blames_itself("Site 'c0' differs from the convolution it stands for; this is a bug, please report it.")
