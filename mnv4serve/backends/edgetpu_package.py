"""What Google's compiler put into an Edge TPU model: what stays on the chip and what is sent.

A compiled .tflite file has one operator whose options hold a package of executables: one that
loads weights into the chip's memory once, and one that runs on every picture.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from mnv4serve.backends.flatbuffer import Malformed, Table
from mnv4serve.backends.litert_file import EDGETPU_OPERATOR, Contents

_IDENTIFIER = b"DWN1"
_HEADER_BYTES = 8
"""The package's length and its root offset stand before the identifier."""


class Role(IntEnum):
    """What an executable is for."""

    STAND_ALONE = 0
    """It carries all its weights along every time."""
    PARAMETER_CACHING = 1
    EXECUTION_ONLY = 2


@dataclass(frozen=True, slots=True)
class Executable:
    """One instruction stream with the weights that it brings."""

    role: Role
    token: int
    """Models with the same token keep their weights on the chip side by side."""
    parameter_bytes: int
    instruction_bytes: int
    input_bytes: int
    batch_size: int


@dataclass(frozen=True, slots=True)
class Package:
    """What a compiled model costs to load, to switch to and to run."""

    executables: tuple[Executable, ...]
    compiler: str
    min_runtime_version: int

    @classmethod
    def of(cls, contents: Contents) -> Self:
        """The package of a compiled model; raises Malformed where the file holds none."""
        packages = [
            operation.custom
            for operation in contents.operations
            if operation.name == EDGETPU_OPERATOR
        ]
        if not packages:
            raise Malformed("it is not compiled for an Edge TPU")
        return cls._parse(_package_in(packages[0]))

    @classmethod
    def _parse(cls, data: bytes) -> Self:
        root = Table.root(data, identifier=_IDENTIFIER)
        executables = tuple(_executables(Table.root(root.content(1))))
        if not executables:
            raise Malformed("its package holds no executable")
        compiler = root.content(4).decode(errors="replace")
        return cls(executables, compiler, root.number(0, "i"))

    @property
    def cached_bytes(self) -> int:
        """Weights that are sent once and stay until another token's are sent."""
        return self._sum("parameter_bytes", caching=True)

    @property
    def streamed_bytes(self) -> int:
        """Weights that are sent again for every picture."""
        return self._sum("parameter_bytes", caching=False)

    @property
    def instruction_bytes(self) -> int:
        """Instructions that are sent for every picture."""
        return self._sum("instruction_bytes", caching=False)

    @property
    def input_bytes(self) -> int:
        return self._sum("input_bytes", caching=False)

    @property
    def token(self) -> int:
        return self.executables[0].token

    def _sum(self, name: str, *, caching: bool) -> int:
        return sum(
            int(getattr(executable, name))
            for executable in self.executables
            if (executable.role is Role.PARAMETER_CACHING) is caching
        )


def _package_in(options: bytes) -> bytes:
    """The package within an operator's options, which are a map of a kind with one large value."""
    start = options.find(_IDENTIFIER) - _HEADER_BYTES
    if start < 0:
        raise Malformed("its Edge TPU operator holds no package")
    (length,) = struct.unpack_from("<I", options, start)
    begin = start + 4
    if begin + length > len(options):
        raise Malformed("its package is cut off")
    return options[begin : begin + length]


def _executables(root: Table) -> Iterator[Executable]:
    for data in root.contents(0):
        table = Table.root(data)
        streams = table.tables(5)
        yield Executable(
            role=_role(table.number(13, "h")),
            token=table.number(14, "Q"),
            parameter_bytes=len(table.content(6)),
            instruction_bytes=sum(len(stream.content(0)) for stream in streams),
            input_bytes=sum(layer.number(1, "i") for layer in table.tables(8)),
            batch_size=table.number(3, "i"),
        )


def _role(number: int) -> Role:
    try:
        return Role(number)
    except ValueError as error:
        raise Malformed(f"its package holds an executable of the unknown kind {number}") from error
