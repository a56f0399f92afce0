"""Records and plans from anywhere: damage of any kind is one sentence."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sepconvert.errors import ModelError
from sepconvert.record import Record
from sepconvert.record.plain import from_json
from sepconvert.workflows import render

RECORD = Path(__file__).parents[1] / "reports" / "fashion_vgg_tuned.json"
ODD = (None, True, -1, 0, 1.5, 1e308, 10**400, "", "text", "\ud800", [], {}, [None], [[]], {"a": None}, [1, "a"])


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a JSON value and one of its keys."""
    keys = data.keys() if isinstance(data, dict) else range(min(len(data), 3)) if isinstance(data, list) else ()
    for key in list(keys):
        yield data, key
        yield from places(data[key])


@pytest.mark.parametrize("seed", range(80))
def test_a_damaged_record_is_a_page_or_one_sentence(tmp_path, seed):
    rng, text = random.Random(seed), RECORD.read_text()
    data = json.loads(text)
    for _ in range(rng.choice((1, 1, 3))):
        found = list(places(data))
        container, key = rng.choice(found)
        if isinstance(container, dict) and rng.random() < 0.2:
            del container[key]
        else:
            container[key] = rng.choice(ODD)
    path = tmp_path / "r.json"
    path.write_text(json.dumps(data))
    said = ""
    try:
        render(path, tmp_path / "p.html")
    except ModelError as error:
        said = str(error)
    assert "\n" not in said
    assert (tmp_path / "p.html").exists() == (said == "")


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"schema":' * 50_000, '{"schema": ' + "9" * 5000 + "}", '{"schema": NaN}', "\0", "{}", '"a"'],
    ids=["deep list", "deep object", "many digits", "NaN", "NUL", "empty", "text"],
)
def test_what_is_no_record_is_one_sentence(text):
    with pytest.raises(ModelError, match="file is no record") as caught:
        Record.from_json(text, "file")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (list[int], "[1, 2.0]", r"\[1\] is 2.0, not a whole number"),
        (dict[str, float], '{"a": true}', "a is true, not a number"),
        (list[float], f"[{'9' * 400}]", "too large"),
        (list[int], f"[{2**63}]", "too large"),
        (list[float], "[1e999]", "inf is no number"),
        (tuple[int, str], "[1]", "holds 1 values instead of 2"),
        (int | None, '"a"', 'it is "a", not a whole number'),
        (bool, "1", "it is 1, not true or false"),
    ],
)
def test_a_wrong_type_is_named(kind, text, message):
    with pytest.raises(ValueError, match=message):
        from_json(kind, text)


def test_half_characters_become_their_escapes():
    assert from_json(str, '"a\\ud800"') == "a\\ud800"
