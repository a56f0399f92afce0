import pytest

from sepconvert.data import Preprocess, parse_preprocess
from sepconvert.errors import UsageError


def test_the_options_are_read_as_numbers_fractions_and_sizes() -> None:
    assert parse_preprocess("0.5,1/4,0", "1,2,3", "1/255", "224x160", "NHWC") == Preprocess(
        (0.5, 0.25, 0.0), (1.0, 2.0, 3.0), 1 / 255, (224, 160), "nhwc"
    )
    assert parse_preprocess(size="224").size == (224, 224)
    assert parse_preprocess() == Preprocess()


@pytest.mark.parametrize(
    "options",
    [
        {"mean": "a"},
        {"mean": "1/0"},
        {"mean": "nan"},
        {"std": "0"},
        {"std": "1,-1"},
        {"scale": "0"},
        {"scale": "1,2"},
        {"mean": "1,2", "std": "1,2,3"},
        {"size": "0"},
        {"size": "1x2x3"},
        {"size": "wide"},
        {"layout": "chwn"},
    ],
)
def test_what_cannot_be_read_is_a_usage_error_naming_the_option(options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=f"^--{next(iter(options))} "):
        parse_preprocess(**options)
