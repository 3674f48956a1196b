"""Which way labels pictures best, and when that is not clear."""

from pathlib import Path

from mnv4serve.build.foreign.score import Mark, decide, spread
from mnv4serve.build.foreign.values import Way
from mnv4serve.catalog import Preprocessing

USUAL = Preprocessing(resize="squash", mean=(0.5,) * 3, std=(0.5,) * 3)
WAYS = [Way(name=name, colours="RGB", preprocessing=USUAL) for name in ("guess", "other", "third")]


def row(right: int, n: int, *, likelihood: float = -0.5) -> list[Mark | None]:
    """Right on the first pictures, surely wrong on the others."""
    return [Mark(at < right, likelihood - 0.01 * at if at < right else -5.0) for at in range(n)]


def test_the_better_way_is_taken_where_it_is_clear() -> None:
    """And the next best is named."""
    verdict = decide(WAYS, [row(10, 40), row(38, 40), row(20, 40)])

    assert verdict.way.name == "other"
    assert verdict.sentence == ("of 40 pictures right: other 95.0%; the next best way: third 50.0%")


def test_the_guess_stays_where_pictures_are_too_few() -> None:
    """One picture more may be chance; the sentence names the other way."""
    verdict = decide(WAYS[:2], [row(4, 6), row(5, 6)])

    assert verdict.way.name == "guess"
    assert "too few to prefer other 83.3%" in verdict.sentence


def test_ways_that_are_not_ruled_out_are_counted() -> None:
    """The guess is best, yet two others do as well."""
    verdict = decide(WAYS, [row(6, 6)] * 3)

    assert verdict.way.name == "guess"
    assert "too few to rule out other 100.0% and 1 more" in verdict.sentence


def test_being_surer_of_the_same_answers_is_no_merit() -> None:
    """Larger numbers make many networks surer of whatever they say."""
    verdict = decide(WAYS[:2], [row(30, 40), row(30, 40, likelihood=-0.1)])

    assert verdict.way.name == "guess"


def test_unreadable_pictures_do_not_count() -> None:
    """They are none in every row."""
    verdict = decide(WAYS[:1], [[None, *row(3, 4)]])

    assert verdict.sentence == "of 4 pictures right: guess 75.0%"


def test_few_pictures_of_many_cover_all_classes() -> None:
    """Evenly from the first to the last."""
    files = [(Path(str(at)), at // 100) for at in range(1000)]

    some = spread(files, 20)

    assert len(some) == 20
    assert {label for _, label in some} == set(range(10))
    assert spread(files[:5], 20) == files[:5]
