"""What a trial counts as the package's own fault, and that every seed damages a model."""

from tests.fuzz.trials import blames_itself, damaged


def test_a_folder_that_happens_to_be_called_a_bug_is_none():
    assert not blames_itself("/tmp/fuzz-k7ebug0l/work/m.onnx is not an ONNX model; export it again.")
    assert blames_itself("Site 'c0' differs from the convolution it stands for; this is a bug, please report it.")


def test_bytes_that_an_earlier_mutation_left_half_a_number_of_can_be_damaged_again():
    assert damaged("structural", 5_009_569)
