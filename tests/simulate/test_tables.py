from pathlib import Path

import pytest

from mnv4serve.errors import ProfileError
from mnv4serve.simulate.tables import load_table, parse_table, shipped

TABLE = """
name = "box"
slots = 2
[[arms]]
variant = "a"
accuracy = 0.8
service.1 = { p50_ms = 1.0, p90_ms = 1.5 }
service.4 = { p50_ms = 2.0, p90_ms = 2.5, p99_ms = 3.0 }
"""


@pytest.mark.parametrize("name", shipped())
def test_shipped_tables_can_be_used(name: str) -> None:
    """Each has a frontier of several arms and a capacity."""
    found = load_table(name)

    assert len(found.frontier()) > 3
    assert found.capacity_per_s() > 0.0


def test_the_prototype_counts_load_in_its_third_arm() -> None:
    """Two slots of 2.2 ms."""
    assert load_table("prototype").capacity_per_s() == pytest.approx(2000.0 / 2.2)


def test_a_file_describes_a_kind(tmp_path: Path) -> None:
    """TOML with batch sizes as keys."""
    path = tmp_path / "box.toml"
    path.write_text(TABLE, encoding="utf-8")

    found = load_table(path)

    assert found.name == "box"
    assert found.slots == 2
    assert found.arms[0].id == "a/cpu/fp32/box"
    assert found.service_ms(found.arms[0].id, 4) == 2.0


def test_json_will_do_as_well(tmp_path: Path) -> None:
    """The same fields, with batch sizes as text."""
    path = tmp_path / "box.json"
    path.write_text(
        '{"name": "box", "slots": 1, "arms": [{"variant": "a", "accuracy": 0.5,'
        ' "service": {"1": {"p50_ms": 1, "p90_ms": 1}}}]}',
        encoding="utf-8",
    )

    assert load_table(path).arms[0].accuracy == 0.5


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("p50_ms = 1.0", "p50_ms = 0.0", "greater than 0"),
        ("p50_ms = 1.0", "p50_ms = -1.0", "greater than 0"),
        ("p50_ms = 1.0", "p50_ms = nan", "finite"),
        ("p50_ms = 1.0", "p50_ms = inf", "finite"),
        ("p90_ms = 1.5", "p90_ms = 0.5", "must not fall"),
        ("accuracy = 0.8", "accuracy = 1.8", "less than or equal to 1"),
        ("slots = 2", "slots = 0", "greater than or equal to 1"),
        ("slots = 2", "slots = 2\nspeed = 3", "speed"),
        ("slots = 2", "slots = 2\ndecode = { base_ms = 1.0 }", "decode"),
        ("service.1 =", "service.2 =", "no timing for batch 1"),
        ("[[arms]]", "[[arms", "cannot be read"),
    ],
)
def test_an_absurd_table_is_one_sentence(old: str, new: str, sentence: str) -> None:
    """Zero, negative, NaN, falling percentiles, unknown keys: the file and the key are named."""
    with pytest.raises(ProfileError, match=sentence) as error:
        parse_table(TABLE.replace(old, new), source="box.toml", toml=True)

    assert str(error.value).startswith("profile box.toml")
    assert "\n" not in str(error.value)


def test_decoding_cannot_take_less_than_nothing() -> None:
    """Coefficients are checked as well."""
    cost = "decode = { base_ms = -1.0, per_megabyte_ms = 0.0, per_megapixel_ms = 0.0, "
    cost += "per_output_megapixel_ms = 0.0, other_per_megapixel_ms = 0.0 }"

    with pytest.raises(ProfileError, match=r"decode\.base_ms is -1"):
        parse_table(TABLE.replace("slots = 2", f"slots = 2\n{cost}"), source="b", toml=True)


def test_an_arm_cannot_be_there_twice() -> None:
    """Two arms of one id would be one."""
    twice = TABLE + TABLE[TABLE.index("[[arms]]") :]

    with pytest.raises(ProfileError, match="twice"):
        parse_table(twice, source="box", toml=True)


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    """A name that is neither shipped nor a file."""
    with pytest.raises(ProfileError, match="imagenette, prototype"):
        load_table("nonsense")
