"""PTX text into a program: declarations, labels and instructions with their operands.

Names are resolved here, scopes included, so that the rest meets registers by number and variables by address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from nbconv_kernels.cuda.emulator.errors import PtxError, UnknownInstructionError
from nbconv_kernels.cuda.emulator.program import (
    Address,
    Immediate,
    Instruction,
    Label,
    Operand,
    Pair,
    Program,
    Register,
    Special,
    Variable,
    Vector,
)
from nbconv_kernels.cuda.emulator.types import DTYPES, Array

__all__ = ["parse"]

_ENTRY = re.compile(r"\.entry\s+([\w$]+)\s*\(([^)]*)\)([^{]*)\{")
_VARIABLE = re.compile(r"\.align\s+(\d+)\s+\.(\w+)\s+([\w$]+)\s*((?:\[\d*\])*)\s*(?:=\s*(\{[^}]*\}|[\w.]+))?")
_INSTRUCTION = re.compile(r"(?:@(!?)([%\w$]+)\s+)?([a-z][\w.:]*)\s*(.*)", re.S)
_ADDRESS = re.compile(r"\[\s*([%\w$]+)\s*(?:\+\s*(-?\w+))?\s*\]")
_NUMBER = re.compile(r"-?(0[xX][0-9A-Fa-f]+U?|0[fF][0-9A-Fa-f]{8}|0[dD][0-9A-Fa-f]{16}|\d+U?)$")


def parse(ptx: str, dynamic_shared_bytes: int = 0) -> Program:
    """Read the first kernel of a PTX module.

    Raises:
        PtxError: if there is none, or if the text cannot be read.
    """
    source = re.sub(r"/\*.*?\*/|//[^\n]*|^\s*\.(?:loc|file)\b[^\n]*$", "", ptx, flags=re.S | re.M)
    entry = _ENTRY.search(source)
    if entry is None:
        raise PtxError("no kernel (.entry) in the PTX")
    program = Program(name=entry[1])
    program.parameters = re.findall(r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)\s+([\w$]+)", entry[2])
    if bound := re.search(r"\.(?:maxntid|reqntid)\s+([\d,\s]+)", entry[3]):
        program.most_threads = int(np.prod([int(n) for n in bound[1].split(",")]))
    reader = _Reader(program, dynamic_shared_bytes)
    for statement in re.findall(r"\.(?:global|const|shared)\s[^;]*;", source[: entry.start()]):
        reader.declare(statement.rstrip(";"))
    reader.read(source[entry.end() :])
    return program


def _statements(body: str) -> Iterator[str]:
    """Statements, labels (with their colon) and the braces of scopes, up to the kernel's last brace."""
    depth, start, vector = 1, 0, 0
    for i, letter in enumerate(body):
        if letter not in "{};:":
            continue
        if letter in "{}" and not body[start:i].strip():
            yield letter
            start, depth = i + 1, depth + (1 if letter == "{" else -1)
            if not depth:
                return
        elif letter in "{}":
            vector += 1 if letter == "{" else -1
        elif (letter == ";" or (letter == ":" and re.fullmatch(r"\s*[\w$]+", body[start:i]))) and not vector:
            yield body[start : i + (letter == ":")].strip()
            start = i + 1
    raise PtxError("the kernel's last brace is missing")


class _Reader:
    def __init__(self, program: Program, dynamic_shared_bytes: int) -> None:
        self.program = program
        self.dynamic = dynamic_shared_bytes
        self.scopes: list[dict[str, Register]] = [{}]

    def read(self, body: str) -> None:
        for statement in _statements(body):
            if statement == "{":
                self.scopes.append({})
            elif statement == "}":
                self.scopes.pop()
            elif statement.endswith(":"):
                self.program.labels[statement[:-1]] = len(self.program.instructions)
            elif statement.startswith(".reg"):
                self._registers(statement)
            elif statement.startswith((".shared", ".local", ".global", ".const")):
                self.declare(statement)
            elif statement.startswith(".branchtargets"):
                name = next(n for n, at in reversed(self.program.labels.items()))
                self.program.tables[name] = tuple(t.strip() for t in statement.split(None, 1)[1].split(","))
            elif statement and not statement.startswith((".pragma", ".param")):
                self._instruction(statement)

    def _registers(self, statement: str) -> None:
        kind, names = re.fullmatch(r"\.reg\s+\.(\w+)\s+(.*)", statement, re.S).groups()  # type: ignore[union-attr]
        if kind not in DTYPES:
            raise PtxError(f"registers of the type .{kind} are not modelled: {statement}")
        for name in names.split(","):
            many = re.fullmatch(r"([%\w$]+)<(\d+)>", name.strip())
            all_names = [f"{many[1]}{i}" for i in range(int(many[2]))] if many else [name.strip()]
            for one in all_names:
                self.scopes[-1][one] = Register(len(self.program.registers), kind)
                self.program.registers.append(kind)

    def declare(self, statement: str) -> None:
        """Give a variable its place."""
        space = re.search(r"\.(shared|local|global|const)", statement)
        found = _VARIABLE.search(statement)
        if space is None or found is None:
            raise PtxError(f"cannot read the declaration: {statement}")
        align, kind, name = int(found[1]), found[2], found[3]
        sizes = [int(n or 0) for n in re.findall(r"\[(\d*)\]", found[4])]
        size = DTYPES[kind].itemsize * int(np.prod(sizes, dtype=np.int64))
        program = self.program
        if space[1] == "shared":
            program.shared[name] = -(-program.shared_bytes // align) * align
            program.shared_bytes = program.shared[name] + (self.dynamic if sizes == [0] else size)
        elif space[1] == "local":
            program.local[name] = -(-program.local_bytes // align) * align
            program.local_bytes = program.local[name] + size
        else:
            program.constants[name] = _initial(kind, size, found[5])

    def _instruction(self, statement: str) -> None:
        text = " ".join(statement.split())
        found = _INSTRUCTION.fullmatch(text)
        if found is None:
            raise PtxError(f"cannot read the statement: {text}")
        name, *modifiers = found[3].split(".")
        if name == "call" or (name == "st" and "param" in modifiers):
            raise UnknownInstructionError(f"unknown instruction (calls are not modelled): {text}")
        guard = None
        if found[2]:
            guard = self._register(("!" if found[1] else "") + found[2])
            if guard is None:
                raise PtxError(f"no predicate {found[2]}: {text}")
        operands = tuple(self._operand(part, text) for part in _split(found[4]))
        self.program.instructions.append(Instruction(text, found[3], name, tuple(modifiers), operands, guard))

    def _register(self, name: str) -> Register | None:
        bare = name.removeprefix("!")
        for scope in reversed(self.scopes):
            if bare in scope:
                found = scope[bare]
                return Register(found.number, found.kind, negated=bare != name)
        return None

    def _operand(self, part: str, text: str) -> Operand:
        if part.startswith("{"):
            return Vector(tuple(self._operand(item, text) for item in _split(part.strip("{}"))))
        if part.startswith("["):
            found = _ADDRESS.fullmatch(part)
            base = self._operand(found[1], text) if found else None
            if found is None or not isinstance(base, Register | Variable | Immediate):
                raise PtxError(f"cannot read the address {part}: {text}")
            return Address(base, int(found[2] or "0", 0))
        if "|" in part:
            first, second = (self._operand(item.strip(), text) for item in part.split("|"))
            return Pair(first, second)
        if register := self._register(part):
            return register
        if part.startswith("%") or part == "WARP_SZ":
            return Special(part)
        if _NUMBER.match(part):
            return Immediate(part)
        program = self.program
        for space, names in (
            ("shared", program.shared),
            ("local", program.local),
            ("global", program.constants),
            ("param", {n: k for k, n in program.parameters}),
        ):
            if part in names:
                return Variable(part, space)
        return Label(part)


def _split(operands: str) -> list[str]:
    """Operands at the commas outside braces and brackets."""
    parts = re.split(r",(?![^{\[]*[}\]])", operands)
    return [part.strip() for part in parts if part.strip()]


def _initial(kind: str, size: int, values: str | None) -> Array:
    """A module's variable with its first values."""
    content = np.zeros(max(size, DTYPES[kind].itemsize), np.uint8)
    if values and re.fullmatch(r"[{}\d\s,xXa-fA-F-]*", values):
        numbers = [int(n, 0) for n in values.strip("{}").split(",")]
        typed = content.view(DTYPES[kind])
        typed[: len(numbers)] = np.array([n % (1 << 64) for n in numbers], np.uint64).astype(typed.dtype)
    elif values and "0f" not in values.lower():
        raise PtxError(f"cannot read the first values {values[:60]}")
    return content
