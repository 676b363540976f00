"""From PTX to machine code, and what the machine code needs and does; no GPU and no driver."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nbconv_kernels.cuda.target import Capability

__all__ = ["Instruction", "Resources", "arch", "assemble", "disassemble", "link", "main_loop"]


@dataclass(frozen=True)
class Resources:
    """Registers and bytes of stack, spills and local memory of a thread, and shared bytes of a block."""

    registers: int
    stack: int
    spills: int
    local: int
    shared: int


@dataclass(frozen=True)
class Instruction:
    """A line of machine code: where it lies, ``LDG.E.128``, its operands, and where it may jump to."""

    address: int
    name: str
    operands: str
    target: int | None = None


def arch(capability: Capability) -> str:
    """``sm_80``; from Hopper on with all that this architecture alone has, as ``sm_90a``."""
    major, minor = capability[:2]
    return f"sm_{major}{minor}{'a' if major >= 9 else ''}"


def link(ptx: str, capability: Capability) -> bytes:
    """The machine code of ``ptx`` for devices of ``capability``, by nvJitLink.

    Raises:
        RuntimeError: with the linker's words, if it refuses.
    """
    from cuda.core import Linker, LinkerOptions, ObjectCode

    linker = Linker(ObjectCode.from_ptx(ptx.encode()), options=LinkerOptions(arch=arch(capability)))
    try:
        return bytes(linker.link("cubin").code)
    finally:
        linker.close()


def assemble(ptx: str, capability: Capability) -> tuple[bytes, Resources]:
    """The machine code of ``ptx`` by ptxas of the wheel nvidia-cuda-nvcc, and what it needs.

    Raises:
        RuntimeError: with the assembler's words, if it refuses.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(ptx)
        said = _run("ptxas", "-v", f"-arch={arch(capability)}", str(source), "-o", str(target))
        return target.read_bytes(), _resources(said)


def _resources(said: str) -> Resources:
    def figure(pattern: str) -> int:
        return sum(map(int, re.findall(pattern, said)))

    return Resources(
        registers=figure(r"Used (\d+) registers"),
        stack=figure(r"(\d+) bytes stack frame"),
        spills=figure(r"(\d+) bytes spill (?:stores|loads)"),
        local=figure(r"(\d+) bytes lmem"),
        shared=figure(r"(\d+) bytes smem"),
    )


def disassemble(cubin: bytes) -> list[Instruction]:
    """The instructions of a kernel, in order, by the wheel nvidia-cuda-nvdisasm."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(cubin)
        listing = _run("nvdisasm", "-c", str(path))
    labels: dict[str, int] = {}
    pending: list[str] = []
    lines: list[tuple[int, str, str]] = []
    for line in listing.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            pending.append(label[1])
        elif found := re.match(r"\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+ )?\s*([\w.]+)\s*(.*?)\s*;", line):
            address = int(found[1], 16)
            labels.update(dict.fromkeys(pending, address))
            pending.clear()
            lines.append((address, found[2], found[3]))
    return [
        Instruction(address, name, operands, labels[jump[1]] if (jump := _JUMP.search(operands)) else None)
        for address, name, operands in lines
    ]


_JUMP = re.compile(r"`\((\.L_x_\d+)\)")


def main_loop(code: Sequence[Instruction], name: str) -> list[Instruction]:
    """The loop with most instructions of this name outside any loop inside it; empty if none has one.

    What loops inside it consist of is part of it.
    """
    ends: dict[int, int] = {}
    for one in code:
        if one.name.startswith("BRA") and one.target is not None and one.target < one.address:
            ends[one.target] = max(one.address, ends.get(one.target, 0))
    spans = [range(start, end + 1) for start, end in ends.items()]
    best: list[Instruction] = []
    most = 0
    for span in spans:
        inner = [s for s in spans if s != span and s.start in span and s[-1] in span]
        loop = [one for one in code if one.address in span]
        own = sum(one.name.split(".")[0] == name and not any(one.address in s for s in inner) for one in loop)
        if own > most:
            best, most = loop, own
    return best


def _run(tool: str, *arguments: str) -> str:
    from cuda import pathfinder

    path = pathfinder.find_nvidia_binary_utility(tool)
    if path is None:
        raise FileNotFoundError(f'{tool} is not installed: run "pip install nbconv[dev]"')
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{tool}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stderr + done.stdout
