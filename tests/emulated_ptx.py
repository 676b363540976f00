"""Small hand-written kernels for the tests of the emulator."""

import re

import numpy as np

from nbconv_kernels.cuda.emulator import launch

KINDS = {
    np.dtype(kind): name
    for kind, name in {
        np.int16: "s16",
        np.uint16: "u16",
        np.float16: "b16",
        np.int32: "s32",
        np.uint32: "u32",
        np.int64: "s64",
        np.uint64: "u64",
        np.float32: "f32",
        np.float64: "f64",
    }.items()
}
REGISTERS = """
.reg .pred %p<8>; .reg .b16 %h<16>; .reg .b32 %r<32>; .reg .b64 %d<32>; .reg .f32 %f<32>; .reg .f64 %g<16>;
"""


def kernel(body, arguments, shared=0):
    """PTX of a kernel; pointers are in %d0, %d1, ..., numbers in %r0, %r1, ..., by their place."""
    declared, loads = [], []
    for n, argument in enumerate(arguments):
        kind, register = ("u64", f"%d{n}") if isinstance(argument, np.ndarray) else ("u32", f"%r{n}")
        declared.append(f".param .{kind} a{n}")
        loads.append(f"ld.param.{kind} {register}, [a{n}];")
    memory = f".shared .align 16 .b8 room[{shared}];" if shared else ""
    return f"""
.version 8.0
.target sm_90
.address_size 64
.visible .entry tested({", ".join(declared)})
{{ {REGISTERS} {memory} {" ".join(loads)}
{body}
ret;
}}"""


def run(body, *arguments, grid=(1,), block=(32,), shared=0, **checks):
    """Launch a kernel of this body: what it counted, and its hazards."""
    return launch(kernel(body, arguments, shared), grid, block, arguments, **checks)


def compute(instruction, dtype, *operands):
    """The instruction's results for arrays of operands, which it names $1, $2, ..., and its result $0."""
    size = len(operands[0])
    result = np.full(size, 0x5A, np.uint8).repeat(np.dtype(dtype).itemsize).view(dtype)
    arrays = [result, *operands]
    lines = [
        f".reg .{KINDS[a.dtype].replace('s', 'b').replace('u', 'b')} v{n};" for n, a in enumerate(arrays)
    ]
    lines += [
        "mov.u32 %r30, %ctaid.x; shl.b32 %r30, %r30, 7; mov.u32 %r31, %tid.x; add.u32 %r31, %r31, %r30;"
    ]
    lines += [f"setp.ge.u32 %p7, %r31, {size}; @%p7 ret;"]
    for n, array in enumerate(arrays):
        lines += [f"mul.wide.u32 %d31, %r31, {array.itemsize}; add.u64 %d{n}, %d{n}, %d31;"]
        if n:
            lines += [f"ld.global.{KINDS[array.dtype]} v{n}, [%d{n}];"]
    lines += [re.sub(r"\$(\d)", r"v\1", instruction), f"st.global.{KINDS[result.dtype]} [%d0], v0;"]
    run("\n".join(lines), *arrays, grid=(-(-size // 128),), block=(128,))
    return result
