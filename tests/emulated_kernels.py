"""Kernels compiled by Numba for the tests of the emulator: a transpose, sums, products, tensor cores."""

import functools
import math

from llvmlite import ir
from numba.cuda.extending import intrinsic

from nbconv_kernels.cuda.build import device_function, kernel
from nbconv_kernels.cuda.target import cuda, f32s, float32, types, u32, uint32

F32, I32, I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)


@functools.cache
def transpose(padding):
    """y (columns, rows) = x (rows, columns) transposed, by tiles of 32 x 32 in shared memory."""
    pitch = 32 + padding

    @kernel(block=256, constants=(padding,))
    def tiles(x: f32s, y: f32s, rows: u32, columns: u32):
        tile = cuda.shared.array((32, pitch), float32)
        across, along = uint32(cuda.threadIdx.x & 31), uint32(cuda.threadIdx.x >> 5)
        left, top = uint32(cuda.blockIdx.x * 32), uint32(cuda.blockIdx.y * 32)
        for k in range(4):
            row = uint32(top + along + 8 * k)
            if row < rows and uint32(left + across) < columns:
                tile[along + 8 * k, across] = x[uint32(row * columns + left + across)]
        cuda.syncthreads()
        for k in range(4):
            row = uint32(left + along + 8 * k)
            if row < columns and uint32(top + across) < rows:
                y[uint32(row * rows + top + across)] = tile[across, along + 8 * k]

    return tiles


@kernel(block=256)
def block_sums(x: f32s, y: f32s, n: u32):
    """y[block]: the sum of the block's 256 elements of x, by shuffles."""
    parts = cuda.shared.array(8, float32)
    thread = uint32(cuda.threadIdx.x)
    i = uint32(cuda.blockIdx.x * 256 + thread)
    value = x[i] if i < n else float32(0)
    for step in (16, 8, 4, 2, 1):
        value += cuda.shfl_down_sync(0xFFFFFFFF, value, step)
    if uint32(thread & 31) == 0:
        parts[thread >> 5] = value
    cuda.syncthreads()
    if thread < 8:
        value = parts[thread]
        for step in (4, 2, 1):
            value += cuda.shfl_down_sync(0xFF, value, step)
        if thread == 0:
            y[uint32(cuda.blockIdx.x)] = value


@kernel(block=256)
def product(a: f32s, b: f32s, c: f32s, m: u32, n: u32, k: u32):
    """c (m, n) = a (m, k) b (k, n), by tiles of 16 x 16."""
    tile_a = cuda.shared.array((16, 16), float32)
    tile_b = cuda.shared.array((16, 16), float32)
    x, y = uint32(cuda.threadIdx.x & 15), uint32(cuda.threadIdx.x >> 4)
    row, column = uint32(cuda.blockIdx.y * 16 + y), uint32(cuda.blockIdx.x * 16 + x)
    total = float32(0)
    for start in range(0, k, 16):
        at = uint32(start)
        inside = row < m and uint32(at + x) < k
        tile_a[y, x] = a[uint32(row * k + at + x)] if inside else float32(0)
        inside = column < n and uint32(at + y) < k
        tile_b[y, x] = b[uint32((at + y) * n + column)] if inside else float32(0)
        cuda.syncthreads()
        for i in range(16):
            total += tile_a[y, i] * tile_b[i, x]
        cuda.syncthreads()
    if row < m and column < n:
        c[uint32(row * n + column)] = total


@kernel(block=128)
def functions(x: f32s, y: f32s, n: u32):
    """Rows of y (4, n): sin, exp, tanh and log of the absolute value of x."""
    i = uint32(cuda.blockIdx.x * 128 + cuda.threadIdx.x)
    if i < n:
        y[i] = math.sin(x[i])
        y[uint32(n + i)] = math.exp(x[i])
        y[uint32(2 * n + i)] = math.tanh(x[i])
        y[uint32(3 * n + i)] = math.log(abs(x[i]))


def assembly(builder, result, arguments, text, constraints):
    kinds = [argument.type for argument in arguments]
    called = ir.InlineAsm(ir.FunctionType(result, kinds), text, constraints, side_effect=True)
    return builder.call(called, arguments)


@intrinsic
def shared_address(context, array):
    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(builder.addrspacecast(data, ir.PointerType(data.type.pointee, 3)), I32)

    return types.uint32(array), generate


@intrinsic
def copy_16(context, target, source, index, nbytes):
    """Start to copy 16 bytes from source[index] to a shared address; only ``nbytes`` are read, then zeros."""

    def generate(context, builder, signature, arguments):
        place = builder.gep(arguments[1], [builder.zext(arguments[2], I64)])
        text = "{ .reg .u64 g; cvta.to.global.u64 g, $1; cp.async.cg.shared.global [$0], [g], 16, $2; }"
        inputs = [arguments[0], builder.ptrtoint(place, I64), arguments[3]]
        assembly(builder, ir.VoidType(), inputs, text, "r,l,r,~{memory}")
        return context.get_dummy_value()

    return types.void(types.uint32, source, types.uint32, types.uint32), generate


def statement(text):
    @intrinsic
    def it(context):
        def generate(context, builder, signature, arguments):
            assembly(builder, ir.VoidType(), [], text, "~{memory}")
            return context.get_dummy_value()

        return types.void(), generate

    return it


commit = statement("cp.async.commit_group;")
wait_for_all_but_one = statement("cp.async.wait_group 1;")


@intrinsic
def four_matrices(context, address):
    def generate(context, builder, signature, arguments):
        text = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$0, $1, $2, $3}, [$4];"
        found = assembly(builder, ir.LiteralStructType([I32] * 4), arguments, text, "=r,=r,=r,=r,r,~{memory}")
        parts = [builder.extract_value(found, i) for i in range(4)]
        return context.make_tuple(builder, signature.return_type, parts)

    return types.UniTuple(types.uint32, 4)(types.uint32), generate


@intrinsic
def multiply_add(context, c, a, b0, b1):
    """C (16 x 8) + A (16 x 8) B (8 x 8) of a warp, A and B in TF32."""

    def generate(context, builder, signature, arguments):
        inputs = [builder.extract_value(arguments[1], i) for i in range(4)] + list(arguments[2:])
        inputs += [builder.extract_value(arguments[0], i) for i in range(4)]
        text = "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        text += "{$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};"
        found = assembly(
            builder, ir.LiteralStructType([F32] * 4), inputs, text, "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f"
        )
        return context.make_tuple(
            builder, signature.return_type, [builder.extract_value(found, i) for i in range(4)]
        )

    return c(c, a, b0, b1), generate


@functools.cache
def tensor_product(swizzled=True):
    """c (m, n) = a (m, k) b (n, k)^T in TF32, k in sixteens: blocks of 32 x 32, three stages of copies.

    A row of a stage is 16 numbers, four chunks of 16 bytes; chunk j of row i lies in place j ^ (i / 2 % 4).
    """
    half = 32 * 64  # bytes of a stage's part of a, or of b
    stage, numbers = 2 * half, 3 * 2 * 32 * 16
    mixing = 3 if swizzled else 0

    @device_function
    def start(base, a, b, m, n, k, at):
        row, chunk = uint32(cuda.threadIdx.x >> 2), uint32(cuda.threadIdx.x & 3)
        place = uint32(base + row * 64 + ((chunk ^ ((row >> 1) & mixing)) << 4))
        of_a, of_b = uint32(cuda.blockIdx.x * 32 + row), uint32(cuda.blockIdx.y * 32 + row)
        here = uint32(at + chunk * 4)
        copy_16(place, a, uint32(of_a * k + here) if of_a < m else uint32(0), uint32(16 if of_a < m else 0))
        place = uint32(place + half)
        copy_16(place, b, uint32(of_b * k + here) if of_b < n else uint32(0), uint32(16 if of_b < n else 0))

    @device_function
    def store(c, tile, row, column, m, n):
        for i in range(4):
            r, s = uint32(row + (i >> 1) * 8), uint32(column + (i & 1))
            if r < m and s < n:
                c[uint32(r * n + s)] = tile[i]

    @kernel(block=128, capability=(8, 0), constants=(swizzled,))
    def tiles(a: f32s, b: f32s, c: f32s, m: u32, n: u32, k: u32):
        room = cuda.shared.array(numbers, float32, alignment=128)
        base = shared_address(room)
        thread = uint32(cuda.threadIdx.x)
        lane, warp = uint32(thread & 31), uint32(thread >> 5)
        top, left = uint32((warp & 1) * 16), uint32((warp >> 1) * 16)
        for s in range(2):
            if uint32(s * 16) < k:
                start(uint32(base + s * stage), a, b, m, n, k, uint32(s * 16))
            commit()
        row_a, row_b = uint32(top + (lane & 15)), uint32(left + (lane & 7) + ((lane >> 4) << 3))
        half_a, half_b = uint32(lane >> 4), uint32((lane >> 3) & 1)
        zero = float32(0)
        left_tile, right_tile = (zero, zero, zero, zero), (zero, zero, zero, zero)
        current, following = uint32(0), uint32(2)
        for at in range(0, k, 16):
            wait_for_all_but_one()
            cuda.syncthreads()
            if uint32(at + 32) < k:
                start(uint32(base + following * stage), a, b, m, n, k, uint32(at + 32))
            commit()
            from_a = uint32(base + current * stage + row_a * 64)
            from_b = uint32(base + current * stage + half + row_b * 64)
            for step in range(2):
                chunk_a = uint32((half_a + 2 * step) ^ ((row_a >> 1) & mixing))
                chunk_b = uint32((half_b + 2 * step) ^ ((row_b >> 1) & mixing))
                fragment = four_matrices(uint32(from_a + (chunk_a << 4)))
                b0, b1, b2, b3 = four_matrices(uint32(from_b + (chunk_b << 4)))
                left_tile = multiply_add(left_tile, fragment, b0, b1)
                right_tile = multiply_add(right_tile, fragment, b2, b3)
            current = uint32(0) if current == 2 else uint32(current + 1)
            following = uint32(0) if following == 2 else uint32(following + 1)
        row = uint32(cuda.blockIdx.x * 32 + top + (lane >> 2))
        column = uint32(cuda.blockIdx.y * 32 + left + (lane & 3) * 2)
        store(c, left_tile, row, column, m, n)
        store(c, right_tile, row, uint32(column + 8), m, n)

    return tiles
