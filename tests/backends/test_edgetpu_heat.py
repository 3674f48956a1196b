"""Temperatures as the kernel shows them, on a made-up sysfs."""

from pathlib import Path

import pytest

from mnv4serve.backends.edgetpu_heat import Heat, heat_of, heats


def card(sysfs: Path, name: str, **files: str) -> None:
    folder = sysfs / "class/apex" / name
    folder.mkdir(parents=True)
    for file, text in files.items():
        (folder / file).write_text(text + "\n", encoding="ascii")


def full(temp: str) -> dict[str, str]:
    trips = {f"trip_point{n}_temp": f"{celsius}000" for n, celsius in enumerate((85, 90, 95))}
    return {"temp": temp, **trips}


@pytest.mark.parametrize(
    ("temp", "celsius", "clock_ratio"),
    [("61250", 61.25, 1.0), ("85000", 85.0, 0.5), ("91000", 91.0, 0.25), ("97500", 97.5, 0.125)],
)
def test_a_card_slows_down_at_its_trip_points(
    tmp_path: Path, temp: str, celsius: float, clock_ratio: float
) -> None:
    """Thousandths of a degree; each trip point that is reached halves the clock."""
    card(tmp_path, "apex_0", **full(temp))

    found = heat_of("/dev/apex_0", tmp_path)

    assert found == Heat(celsius, (85.0, 90.0, 95.0))
    assert found.clock_ratio == clock_ratio


def test_a_driver_without_trip_points_still_has_a_temperature(tmp_path: Path) -> None:
    """An older driver shows less; nothing is made up for it."""
    card(tmp_path, "apex_0", temp="99000")

    assert heat_of("/dev/apex_0", tmp_path) == Heat(99.0, ())


@pytest.mark.parametrize("path", ["/sys/bus/usb/devices/2-1", "/dev/apex_1", "", "../apex_0/.."])
def test_what_shows_none_has_none(tmp_path: Path, path: str) -> None:
    """Sticks, cards that are not there, names that are no device."""
    card(tmp_path, "apex_0", **full("61000"))

    assert heat_of(path, tmp_path) is None


def test_a_file_that_holds_no_number_is_no_temperature(tmp_path: Path) -> None:
    """The driver writes what it likes while the card is reset."""
    card(tmp_path, "apex_0", temp="n/a")

    assert heat_of("/dev/apex_0", tmp_path) is None


def test_every_card_that_shows_one_is_listed(tmp_path: Path) -> None:
    """By path, in order; nothing on a machine without the driver."""
    card(tmp_path, "apex_1", **full("50000"))
    card(tmp_path, "apex_0", **full("61000"))
    card(tmp_path, "apex_2")

    assert list(heats(tmp_path)) == ["/dev/apex_0", "/dev/apex_1"]
    assert heats(tmp_path / "nowhere") == {}
