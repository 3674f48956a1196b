"""Reads tables of a flatbuffer without trusting it: every offset and length is checked.

Model files come from anywhere, and the generated readers believe what a file says about itself.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

_LENGTH_BYTES = 4


class Malformed(ValueError):
    """The bytes are no flatbuffer of the expected kind, or lie about their sizes."""


@dataclass(frozen=True, slots=True)
class Table:
    """One table; its fields are numbered as in the schema and may be absent."""

    data: bytes
    position: int

    @classmethod
    def root(cls, data: bytes, *, identifier: bytes = b"") -> Self:
        """The outermost table; of a file with a four-letter identifier where one is given."""
        if identifier and data[4:8] != identifier:
            raise Malformed(f"it does not start like a {identifier.decode()} file")
        return cls(data, _read("<I", data, 0))

    def number(self, field: int, form: str, default: int = 0) -> int:
        """A whole number in the form that `struct` calls it by, for example `b` or `I`."""
        place = self._place(field)
        return default if place is None else _read("<" + form, self.data, place)

    def table(self, field: int) -> Self | None:
        """A table within this one."""
        place = self._place(field)
        return None if place is None else type(self)(self.data, self._follow(place))

    def tables(self, field: int) -> Iterator[Self]:
        """The tables of a vector."""
        start, count = self._vector(field, _LENGTH_BYTES)
        for index in range(count):
            yield type(self)(self.data, self._follow(start + index * _LENGTH_BYTES))

    def numbers(self, field: int, form: str) -> tuple[int, ...]:
        """The whole numbers of a vector."""
        start, count = self._vector(field, struct.calcsize("<" + form))
        return struct.unpack_from(f"<{count}{form}", self.data, start)

    def content(self, field: int) -> bytes:
        """The bytes of a vector or a string."""
        start, count = self._vector(field, 1)
        return self.data[start : start + count]

    def contents(self, field: int) -> Iterator[bytes]:
        """The strings of a vector."""
        start, count = self._vector(field, _LENGTH_BYTES)
        for index in range(count):
            text = self._follow(start + index * _LENGTH_BYTES)
            length = _read("<I", self.data, text)
            yield self._slice(text + _LENGTH_BYTES, length)

    def _slice(self, start: int, length: int) -> bytes:
        if start + length > len(self.data):
            raise Malformed(f"{length} bytes at {start} pass the end of the file")
        return self.data[start : start + length]

    def _vector(self, field: int, size: int) -> tuple[int, int]:
        """Where a vector's elements start and how many of `size` bytes there are."""
        place = self._place(field)
        if place is None:
            return 0, 0
        start = self._follow(place)
        count = _read("<I", self.data, start)
        if start + _LENGTH_BYTES + count * size > len(self.data):
            raise Malformed(f"a list of {count} entries passes the end of the file")
        return start + _LENGTH_BYTES, count

    def _follow(self, place: int) -> int:
        return place + _read("<I", self.data, place)

    def _place(self, field: int) -> int | None:
        """Where a field lies, None where it is absent."""
        fields = self.position - _read("<i", self.data, self.position)
        offset = 4 + 2 * field
        if offset + 2 > _read("<H", self.data, fields):
            return None
        found = _read("<H", self.data, fields + offset)
        return self.position + found if found else None


def _read(form: str, data: bytes, place: int) -> int:
    if place < 0:
        raise Malformed("an offset points before the start of the file")
    try:
        (value,) = struct.unpack_from(form, data, place)
    except struct.error as error:
        raise Malformed("an offset points past the end of the file") from error
    return int(value)
