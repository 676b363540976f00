"""A program: instructions with their operands, registers by number, and variables."""

from __future__ import annotations

from dataclasses import dataclass, field

from nbconv_kernels.cuda.emulator.errors import UnknownInstructionError
from nbconv_kernels.cuda.emulator.types import DTYPES, Array

__all__ = [
    "Address",
    "Immediate",
    "Instruction",
    "Label",
    "Operand",
    "Pair",
    "Program",
    "Register",
    "Special",
    "Variable",
    "Vector",
]


@dataclass(frozen=True)
class Register:
    """A register by its number; ``negated`` only for predicates."""

    number: int
    kind: str
    negated: bool = False


@dataclass(frozen=True)
class Immediate:
    """A number in the text."""

    text: str


@dataclass(frozen=True)
class Special:
    """A read-only register such as ``%tid.x``."""

    name: str


@dataclass(frozen=True)
class Variable:
    """A variable in shared, local or global memory, or a parameter."""

    name: str
    space: str


@dataclass(frozen=True)
class Address:
    """``[base + offset]``."""

    base: Register | Variable | Immediate
    offset: int


@dataclass(frozen=True)
class Vector:
    """``{a, b, ...}``."""

    items: tuple[Operand, ...]


@dataclass(frozen=True)
class Pair:
    """``a|b``: two results."""

    first: Operand
    second: Operand


@dataclass(frozen=True)
class Label:
    """A place in the program, or a list of them."""

    name: str


Operand = Register | Immediate | Special | Variable | Address | Vector | Pair | Label


@dataclass(frozen=True)
class Instruction:
    """One instruction; ``kinds`` are those of its modifiers that name types."""

    text: str
    opcode: str
    name: str
    modifiers: tuple[str, ...]
    operands: tuple[Operand, ...]
    guard: Register | None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The types among the modifiers, in order."""
        return tuple(m for m in self.modifiers if m in DTYPES)

    @property
    def kind(self) -> str:
        """The last type named: that of the operands."""
        if not self.kinds:
            raise self.unknown()
        return self.kinds[-1]

    def only(self, *known: str) -> None:
        """Raise unless every modifier is a type or one of ``known``."""
        for modifier in self.modifiers:
            if modifier not in DTYPES and modifier not in known:
                raise self.unknown(f"its modifier .{modifier}")

    def one_of(self, *names: str) -> str | None:
        """The first modifier that is one of ``names``."""
        return next((m for m in self.modifiers if m in names), None)

    def unknown(self, what: str = "it") -> UnknownInstructionError:
        """The error for an instruction without a model."""
        return UnknownInstructionError(f"unknown instruction ({what} is not modelled): {self.text}")


@dataclass
class Program:
    """A kernel as text says it."""

    name: str = ""
    parameters: list[tuple[str, str]] = field(default_factory=list)
    registers: list[str] = field(default_factory=list)
    shared: dict[str, int] = field(default_factory=dict)
    shared_bytes: int = 0
    local: dict[str, int] = field(default_factory=dict)
    local_bytes: int = 0
    constants: dict[str, Array] = field(default_factory=dict)
    most_threads: int | None = None
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    tables: dict[str, tuple[str, ...]] = field(default_factory=dict)
