"""The emulated machine: grids, branches, barriers, warps and memory, right and wrong use of them."""

import numpy as np
import pytest

pytest.importorskip("cuda.bindings", reason="the CUDA backend needs numba-cuda")
pytest.importorskip("nbconv_kernels.cuda.emulator")
from emulated_ptx import kernel, run

from nbconv_kernels.cuda.emulator import (
    DeadlockError,
    Kernel,
    MemoryFaultError,
    PtxError,
    launch,
    schedule,
)

# %r10: the thread in its block; %d10: its place in the array %d0
PLACE = "mov.u32 %r10, %tid.x; mul.wide.u32 %d10, %r10, 4; add.u64 %d10, %d0, %d10;"
# %r20: the place of the thread's word in shared memory; %r21: that of the thread opposite
ROOM = """mov.u32 %r20, room; mad.lo.u32 %r20, %r10, 4, %r20;
mov.u32 %r22, %ntid.x; sub.u32 %r22, %r22, %r10; sub.u32 %r22, %r22, 1;
mov.u32 %r21, room; mad.lo.u32 %r21, %r22, 4, %r21;"""


@pytest.mark.parametrize(
    ("grid", "block"), [((3, 2, 4), (5, 3, 2)), ((7,), (33,)), ((1, 600), (32,)), ((2, 1, 3), (1, 1, 64))]
)
def test_every_thread_of_every_block_runs_once(grid, block):
    threads = int(np.prod(block))
    counts = np.zeros(threads * int(np.prod(grid)), np.uint32)
    index = """
    mov.u32 %r1, %ctaid.z; mov.u32 %r2, %nctaid.y; mov.u32 %r3, %ctaid.y; mad.lo.u32 %r1, %r1, %r2, %r3;
    mov.u32 %r2, %nctaid.x; mov.u32 %r3, %ctaid.x; mad.lo.u32 %r1, %r1, %r2, %r3;
    mov.u32 %r2, %ntid.z; mov.u32 %r3, %tid.z; mad.lo.u32 %r1, %r1, %r2, %r3;
    mov.u32 %r2, %ntid.y; mov.u32 %r3, %tid.y; mad.lo.u32 %r1, %r1, %r2, %r3;
    mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x; mad.lo.u32 %r1, %r1, %r2, %r3;
    mul.wide.u32 %d1, %r1, 4; add.u64 %d1, %d0, %d1;
    ld.global.u32 %r4, [%d1]; add.u32 %r4, %r4, 1; st.global.u32 [%d1], %r4;"""
    statistics, hazards = run(index, counts, grid=grid, block=block, race=True)
    assert (counts == 1).all()
    assert not hazards
    assert statistics["ld.global.u32"] == -(-threads // 32) * int(np.prod(grid))


def test_loops_of_different_lengths_and_branches_within_them():
    n = 97
    out = np.zeros(n, np.uint32)
    run(
        PLACE
        + """
    mov.u32 %r1, 0; mov.u32 %r2, %r10;
    LOOP: setp.eq.u32 %p1, %r2, 0; @%p1 bra DONE;
    and.b32 %r3, %r2, 1; setp.eq.u32 %p2, %r3, 0; @%p2 bra EVEN;
    add.u32 %r1, %r1, %r2; bra NEXT;
    EVEN: @!%p2 add.u32 %r1, %r1, 1000; add.u32 %r1, %r1, 1;
    NEXT: sub.u32 %r2, %r2, 1; bra LOOP;
    DONE: st.global.u32 [%d10], %r1;""",
        out,
        block=(n,),
    )
    assert out.tolist() == [sum(k if k % 2 else 1 for k in range(1, thread + 1)) for thread in range(n)]


def interpret(program, thread, registers):
    """One thread of a random program, in plain Python."""
    held, pc, fuel = [thread, *registers], 0, 60
    while pc < len(program):
        kind, *parts = program[pc]
        pc += 1
        if kind == "branch":
            condition, bit, target = parts
            fuel -= 1
            if fuel > 0 and held[condition] >> bit & 1:
                pc = target
        else:
            target, a, b, condition = parts
            if condition is None or held[condition] & 1:
                function = {"add": int.__add__, "sub": int.__sub__, "xor": int.__xor__, "mul.lo": int.__mul__}
                held[target] = function[kind](held[a], held[b]) % (1 << 32)
    return held


@pytest.mark.parametrize("seed", range(30))
def test_random_programs_run_as_each_thread_would_alone(seed):
    rng = np.random.default_rng(seed)
    count, size = 6, int(rng.integers(8, 30))
    program = []
    for _ in range(size):
        if rng.random() < 0.35:
            program.append(("branch", *map(int, (rng.integers(count), rng.integers(5), rng.integers(size)))))
        else:
            operands = [int(n) for n in rng.integers(count, size=3)]
            guard = int(rng.integers(count)) if rng.random() < 0.3 else None
            program.append((rng.choice(["add", "sub", "xor", "mul.lo"]), *operands, guard))
    constants = [int(n) for n in rng.integers(1 << 32, size=count - 1)]
    lines = ["mov.u32 %r0, %tid.x; mov.s32 %r20, 60;"]
    lines += [f"mov.u32 %r{n + 1}, {c};" for n, c in enumerate(constants)]
    for pc, (kind, *parts) in enumerate(program):
        lines.append(f"L{pc}:")
        if kind == "branch":
            lines.append(
                f"sub.s32 %r20, %r20, 1; setp.gt.s32 %p1, %r20, 0; "
                f"and.b32 %r21, %r{parts[0]}, {1 << parts[1]};"
            )
            lines.append(f"setp.ne.and.u32 %p1, %r21, 0, %p1; @%p1 bra L{parts[2]};")
        else:
            target, a, b, guard = parts
            if guard is not None:
                lines.append(f"and.b32 %r21, %r{guard}, 1; setp.ne.u32 %p2, %r21, 0;")
            suffix = "b32" if kind == "xor" else "u32"
            lines.append(f"{'@%p2 ' if guard is not None else ''}{kind}.{suffix} %r{target}, %r{a}, %r{b};")
    lines.append("mov.u32 %r22, %tid.x; mul.wide.u32 %d10, %r22, 24; add.u64 %d10, %d0, %d10;")
    lines += [f"st.global.u32 [%d10+{4 * n}], %r{n};" for n in range(count)]
    out = np.zeros((70, count), np.uint32)
    run("\n".join(lines), out, block=(70,))
    assert out.tolist() == [interpret(program, thread, constants) for thread in range(70)]


def test_branches_by_a_table():
    out = np.zeros(8, np.uint32)
    run(
        PLACE
        + """
    and.b32 %r1, %r10, 3;
    TABLE: .branchtargets A, B, C, A;
    brx.idx %r1, TABLE;
    A: mov.u32 %r2, 10; bra DONE;
    B: mov.u32 %r2, 20; bra DONE;
    C: mov.u32 %r2, 30;
    DONE: st.global.u32 [%d10], %r2;""",
        out,
        block=(8,),
    )
    assert out.tolist() == [10, 20, 30, 10] * 2


def test_threads_that_have_ended_hold_nobody_up_at_a_barrier():
    out = np.zeros(96, np.uint32)
    body = PLACE + "setp.ge.u32 %p1, %r10, 70; @%p1 ret; bar.sync 0; st.global.u32 [%d10], 7;"
    run(body, out, block=(96,))
    assert out.tolist() == [7] * 70 + [0] * 26


@pytest.mark.parametrize(
    "body",
    [
        "setp.lt.u32 %p1, %r10, 32; @%p1 bra SECOND; bar.sync 0; SPIN: bar.warp.sync 0xffffffff; ret; "
        "SECOND: setp.lt.u32 %p2, %r10, 16; @%p2 bra OTHER; bar.warp.sync 0xffffffff; OTHER: bar.sync 0;",
        "setp.lt.u32 %p1, %r10, 16; @!%p1 bra LATER; shfl.sync.bfly.b32 %r1, %r10, 1, 31, 0xffffffff; "
        "LATER: bar.sync 0;",
    ],
)
def test_lanes_that_wait_for_others_which_wait_elsewhere_are_a_deadlock(body):
    with pytest.raises(DeadlockError, match=r"thread \d+.*sync"):
        run(PLACE + body, np.zeros(64, np.uint32), block=(64,))


def test_a_warp_may_not_part_over_two_barriers():
    body = "setp.lt.u32 %p1, %r10, 16; @%p1 bra OTHER; bar.sync 0; ret; OTHER: bar.sync 0;"
    with pytest.raises(PtxError, match="different barriers"):
        run(PLACE + body, np.zeros(32, np.uint32))


def test_an_endless_loop_ends(monkeypatch):
    monkeypatch.setattr(schedule, "_MOST_STEPS", 1000)
    with pytest.raises(DeadlockError, match="endless"):
        run("AGAIN: add.u32 %r1, %r1, 1; bra AGAIN;", np.zeros(4, np.uint32))


def test_a_barrier_counts_predicates():
    out = np.zeros(80, np.uint32)
    body = """setp.lt.u32 %p1, %r10, 5; bar.red.popc.u32 %r1, 0, %p1; bar.red.or.pred %p2, 0, %p1;
    bar.red.and.pred %p3, 0, %p1; selp.u32 %r2, 100, 0, %p2; selp.u32 %r3, 1000, 0, %p3;
    add.u32 %r1, %r1, %r2; add.u32 %r1, %r1, %r3; st.global.u32 [%d10], %r1;"""
    run(PLACE + body, out, block=(80,))
    assert (out == 105).all()


@pytest.mark.parametrize(
    ("kind", "register", "size"),
    [
        ("u32", "%r1", 4),
        ("u8", "%r1", 1),
        ("v2.u32", "{%r1, %r2}", 8),
        ("v4.f32", "{%f1, %f2, %f3, %f4}", 16),
        ("f64", "%g1", 8),
    ],
)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_global_memory_ends_where_each_array_ends(kind, register, size, which):
    arrays = [np.zeros(48, np.uint8), np.zeros(80, np.uint8), np.zeros(32, np.uint8)]
    end = arrays[which].nbytes
    address = f"add.u64 %d9, %d{which}, {{}};"
    for access in (f"ld.global.{kind} {register}, [%d9];", f"st.global.{kind} [%d9], {register};"):
        run(address.format(0) + access, *arrays)
        run(address.format(end - size) + access, *arrays)
        for wrong in (end, -size):
            with pytest.raises(
                MemoryFaultError, match=rf"out of bounds.*byte {wrong} of array {which}, of {end} bytes"
            ):
                run(address.format(wrong) + access, *arrays)
        if size > 1:
            with pytest.raises(MemoryFaultError, match="misaligned"):
                run(address.format(size // 2) + access, *arrays)


def test_a_view_keeps_the_alignment_of_its_memory():
    whole = np.zeros(40, np.float32)
    assert whole.ctypes.data % 16 == 0
    body = "ld.global.v4.f32 {%f1, %f2, %f3, %f4}, [%d0];"
    run(body, whole)
    run(body, whole[4:])
    with pytest.raises(MemoryFaultError, match="misaligned"):
        run(body, whole[1:])
    run("ld.global.f32 %f1, [%d0];", whole[1:])


def test_the_lane_at_fault_is_named():
    out = np.zeros(50, np.uint32)
    with pytest.raises(MemoryFaultError, match=r"block \(0, 0, 0\), thread 50: st.global.u32"):
        run(PLACE + "st.global.u32 [%d10], 1;", out, block=(64,))


def test_null_and_wild_pointers():
    with pytest.raises(MemoryFaultError, match="null"):
        run("cvt.u64.u32 %d9, %r1; ld.global.u32 %r2, [%d9];", np.zeros(4, np.uint32), 0)
    with pytest.raises(MemoryFaultError, match="no array"):
        run("mov.u64 %d9, 0x7000000000000; ld.global.u32 %r2, [%d9];", np.zeros(4, np.uint32))


def test_shared_memory_ends_and_aligned_access_only():
    run("mov.u32 %r1, room; st.shared.u32 [%r1+60], 1;", np.zeros(1, np.uint32), shared=64)
    for offset, message in ((64, "out of bounds"), (-4, "out of bounds"), (2, "misaligned")):
        with pytest.raises(MemoryFaultError, match=message):
            run(f"mov.u32 %r1, room; st.shared.u32 [%r1+{offset}], 1;", np.zeros(1, np.uint32), shared=64)


def test_generic_addresses_lead_to_their_memory():
    out = np.zeros(32, np.uint32)
    body = """cvt.u64.u32 %d1, %r20; cvta.shared.u64 %d1, %d1; st.u32 [%d1], %r10; bar.warp.sync 0xffffffff;
    ld.shared.u32 %r1, [%r20]; cvta.to.shared.u64 %d2, %d1; cvt.u32.u64 %r2, %d2; sub.u32 %r2, %r2, %r20;
    add.u32 %r1, %r1, %r2; st.u32 [%d10], %r1;"""
    run(PLACE + ROOM + body, out, shared=128)
    assert out.tolist() == list(range(32))


def test_a_float_nobody_wrote_is_nan_and_a_hazard():
    out = np.zeros(32, np.float32)
    body = PLACE + ROOM + "ld.shared.f32 %f1, [%r20]; st.global.f32 [%d10], %f1;"
    _, hazards = run(body, out, shared=128, race=True)
    assert np.isnan(out).all()
    assert [h.kind for h in hazards] == ["a read of what nobody wrote"]
    assert hazards[0].lanes == 32


def test_a_register_nobody_wrote_is_nan():
    out = np.zeros(32, np.float32)
    run(PLACE + "st.global.f32 [%d10], %f9;", out)
    assert np.isnan(out).all()


def test_atomics_on_integers():
    rng = np.random.default_rng(0)
    values = rng.integers(0, 16, 256).astype(np.uint32)
    counts, extremes = np.zeros(16, np.uint32), np.array([1 << 31, 0, 0, 0], np.uint32)
    body = """mov.u32 %r11, %ctaid.x; mov.u32 %r12, %ntid.x; mad.lo.u32 %r10, %r11, %r12, %r10;
    mul.wide.u32 %d10, %r10, 4; add.u64 %d10, %d0, %d10; ld.global.u32 %r1, [%d10];
    mul.wide.u32 %d11, %r1, 4; add.u64 %d11, %d1, %d11; red.global.add.u32 [%d11], 1;
    atom.global.min.u32 %r2, [%d2], %r1; atom.global.max.u32 %r2, [%d2+4], %r1;
    atom.global.add.u32 %r3, [%d2+8], 1; setp.eq.u32 %p1, %r3, 17; @%p1 red.global.add.u32 [%d2+12], %r3;
    atom.global.inc.u32 %r4, [%d2+16], 99;"""
    extremes = np.append(extremes, np.uint32(0))
    _, hazards = run(
        "mov.u32 %r10, %tid.x;" + body, values, counts, extremes, grid=(4,), block=(64,), race=True
    )
    np.testing.assert_array_equal(counts, np.bincount(values, minlength=16))
    assert extremes.tolist() == [values.min(), values.max(), 256, 17, 256 % 100]
    assert not [h for h in hazards if "ld" not in h.instruction]


def test_a_lock_by_compare_and_swap_is_taken_once():
    state, winners = np.zeros(1, np.uint32), np.zeros(64, np.uint32)
    body = """mul.wide.u32 %d10, %r10, 4; add.u64 %d10, %d1, %d10; atom.global.cas.b32 %r1, [%d0], 0, 1;
    setp.eq.u32 %p1, %r1, 0; @%p1 st.global.u32 [%d10], 1;"""
    run("mov.u32 %r10, %tid.x;" + body, state, winners, block=(64,))
    assert state[0] == 1
    assert winners.sum() == 1


REVERSED = (
    PLACE + ROOM + "st.shared.u32 [%r20], %r10; {} ld.shared.u32 %r1, [%r21]; st.global.u32 [%d10], %r1;"
)


def test_a_barrier_parts_writing_from_reading():
    out = np.zeros(128, np.uint32)
    _, hazards = run(REVERSED.format("bar.sync 0;"), out, block=(128,), shared=512, race=True)
    assert out.tolist() == list(range(127, -1, -1))
    assert not hazards
    _, hazards = run(REVERSED.format(""), out, block=(128,), shared=512, race=True)
    assert [h.kind for h in hazards] == ["a read of what another wrote"]
    assert hazards[0].lanes == 128
    assert "warp 3" in hazards[0].other
    _, hazards = run(REVERSED.format(""), out, block=(32,), shared=512, race=True)
    assert not hazards  # one warp


def test_a_second_round_needs_a_second_barrier():
    again = REVERSED.format("bar.sync 0;") + "{} st.shared.u32 [%r20], %r10;"
    out = np.zeros(64, np.uint32)
    assert not run(again.format("bar.sync 0;"), out, block=(64,), shared=256, race=True)[1]
    (hazard,) = run(again.format(""), out, block=(64,), shared=256, race=True)[1]
    assert hazard.kind == "a write over what another read"


def test_two_warps_that_write_one_place():
    (hazard,) = run(
        "mov.u32 %r1, room; st.shared.u32 [%r1], 1;",
        np.zeros(1, np.uint32),
        block=(64,),
        shared=16,
        race=True,
    )[1]
    assert hazard.kind == "a write over what another wrote"


def test_a_barrier_of_one_block_does_not_hide_the_race_of_another():
    body = (
        PLACE
        + ROOM
        + """st.shared.u32 [%r20], %r10; mov.u32 %r1, %ctaid.x; setp.eq.u32 %p1, %r1, 1;
    @%p1 bra SKIP; bar.sync 0; SKIP: ld.shared.u32 %r2, [%r21];"""
    )
    _, hazards = run(body, np.zeros(64, np.uint32), grid=(2,), block=(64,), shared=256, race=True)
    assert {h.place.partition(",")[0] for h in hazards} == {"block (1"}


def test_blocks_that_meet_in_global_memory():
    body = PLACE + "ld.global.u32 %r1, [%d10]; add.u32 %r1, %r1, 1; st.global.u32 [%d10], %r1;"
    _, hazards = run(body, np.zeros(32, np.uint32), grid=(300,), race=True)
    assert {h.space for h in hazards} == {"global"}
    assert "block" in str(hazards[0])
    assert not run(body, np.zeros(32, np.uint32), race=True)[1]


def test_a_block_that_writes_what_all_have_read():
    body = "ld.global.u32 %r1, [%d0]; mov.u32 %r2, %ctaid.x; setp.eq.u32 %p1, %r2, 0;"
    body += "@%p1 st.global.u32 [%d0], 1;"
    (hazard,) = run(body, np.zeros(1, np.uint32), grid=(3,), race=True)[1]
    assert (hazard.kind, hazard.other) == ("a write over what another read", "several blocks")


def test_neighbouring_bytes_are_no_race():
    body = "mov.u32 %r1, %tid.x; mov.u32 %r2, room; add.u32 %r2, %r2, %r1; st.shared.u8 [%r2], %r1;"
    assert not run(body, np.zeros(1, np.uint32), block=(70,), shared=80, race=True)[1]


@pytest.mark.parametrize(
    ("mode", "source"),
    {
        "bfly": lambda lane: lane ^ 5,
        "up": lambda lane: lane - 5 if lane >= 5 else lane,
        "down": lambda lane: lane + 5 if lane + 5 < 32 else lane,
        "idx": lambda lane: 5,
    }.items(),
)
def test_shuffles(mode, source):
    out = np.zeros(64, np.uint32)
    bound = 0 if mode == "up" else 31
    run(
        PLACE + f"shfl.sync.{mode}.b32 %r1|%p1, %r10, 5, {bound}, 0xffffffff; st.global.u32 [%d10], %r1;",
        out,
        block=(64,),
    )
    assert out.tolist() == [32 * warp + source(lane) for warp in range(2) for lane in range(32)]


def test_shuffles_within_teams():
    out = np.zeros(32, np.uint32)
    body = "shfl.sync.down.b32 %r1|%p1, %r10, 2, 6175, 0xffffffff; "
    body += "selp.u32 %r2, 0, 100, %p1; add.u32 %r1, %r1, %r2;"
    run(PLACE + body + "st.global.u32 [%d10], %r1;", out)  # 6175: teams of 8
    assert out.tolist() == [t + 2 if t % 8 < 6 else t + 100 for t in range(32)]


def test_a_shuffle_waits_for_lanes_that_come_by_another_way():
    out = np.zeros(32, np.uint32)
    body = """setp.lt.u32 %p1, %r10, 16; @%p1 bra LONG;
    MEET: shfl.sync.bfly.b32 %r1, %r10, 31, 31, 0xffffffff; st.global.u32 [%d10], %r1; ret;
    LONG: add.u32 %r10, %r10, 100; bra MEET;"""
    run(PLACE + body, out)
    assert out.tolist() == [31 - t for t in range(16)] + [131 - t for t in range(16, 32)]


def test_a_shuffle_from_a_lane_that_has_ended_gives_nothing_to_rely_on():
    out = np.zeros(32, np.float32)
    body = "setp.ge.u32 %p1, %r10, 16; @%p1 ret; mov.f32 %f1, 0f3F800000; mov.b32 %r1, %f1; "
    body += "shfl.sync.bfly.b32 %r2, %r1, 16, 31, 0xffffffff; st.global.u32 [%d10], %r2;"
    run(PLACE + body, out)
    assert np.isnan(out[:16]).all()


def test_a_lane_outside_its_own_member_mask():
    with pytest.raises(PtxError, match="thread 16 is not in the member mask"):
        run(PLACE + "shfl.sync.bfly.b32 %r2, %r1, 1, 31, 0x0000ffff;", np.zeros(32, np.uint32))


def test_votes_and_sums_of_a_warp():
    out = np.zeros((6, 32), np.uint32)
    body = """setp.lt.u32 %p1, %r10, 3; vote.sync.ballot.b32 %r1, %p1, 0xffffffff; st.global.u32 [%d10], %r1;
    vote.sync.any.pred %p2, %p1, 0xffffffff; selp.u32 %r1, 1, 0, %p2; st.global.u32 [%d10+128], %r1;
    vote.sync.all.pred %p2, %p1, 0xffffffff; selp.u32 %r1, 1, 0, %p2; st.global.u32 [%d10+256], %r1;
    redux.sync.add.u32 %r1, %r10, 0xffffffff; st.global.u32 [%d10+384], %r1;
    shr.u32 %r2, %r10, 3; match.any.sync.b32 %r1, %r2, 0xffffffff; st.global.u32 [%d10+512], %r1;
    @!%p1 ret; activemask.b32 %r1; st.global.u32 [%d10+640], %r1;"""
    run(PLACE + body, out)
    assert (out[0] == 7).all()
    assert (out[1] == 1).all()
    assert (out[2] == 0).all()
    assert (out[3] == sum(range(32))).all()
    assert out[4].tolist() == [0xFF << 8 * (t // 8) for t in range(32)]
    assert out[5].tolist() == [7] * 3 + [0] * 29


COPY = "cp.async.ca.shared.global [%r20], [%d11], 4{}; cp.async.commit_group;"


@pytest.mark.parametrize(("allowed", "landed"), [(0, True), (1, False)])
def test_a_copy_lands_when_it_is_waited_for(allowed, landed):
    source, out = np.arange(32, dtype=np.float32), np.zeros(32, np.float32)
    body = PLACE + ROOM + "mul.wide.u32 %d11, %r10, 4; add.u64 %d11, %d1, %d11;" + COPY.format("")
    body += f"cp.async.wait_group {allowed}; ld.shared.f32 %f1, [%r20]; st.global.f32 [%d10], %f1;"
    run(body, out, source, shared=128)
    assert (out.tolist() == source.tolist()) == landed
    assert np.isnan(out).all() == (not landed)


def test_a_copy_makes_what_was_there_before_unreadable():
    source, out = np.arange(32, dtype=np.float32), np.zeros(32, np.float32)
    body = PLACE + ROOM + "mul.wide.u32 %d11, %r10, 4; add.u64 %d11, %d1, %d11; st.shared.u32 [%r20], 0;"
    body += COPY.format("") + "ld.shared.f32 %f1, [%r20]; st.global.f32 [%d10], %f1;"
    run(body, out, source, shared=128)
    assert np.isnan(out).all()


def test_a_short_copy_fills_up_with_zeros_and_reads_no_further():
    source, out = np.full(5, -1, np.int16), np.zeros((32, 4), np.int32)
    body = """mov.u32 %r10, %tid.x; mul.wide.u32 %d10, %r10, 16; add.u64 %d10, %d0, %d10; mov.u32 %r20, room;
    mad.lo.u32 %r20, %r10, 16, %r20; setp.eq.u32 %p1, %r10, 0; selp.u32 %r1, 10, 0, %p1;
    cp.async.cg.shared.global [%r20], [%d1], 16, %r1; cp.async.wait_all;
    ld.shared.v4.u32 {%r1, %r2, %r3, %r4}, [%r20]; st.global.v4.u32 [%d10], {%r1, %r2, %r3, %r4};"""
    run(body, out, source, shared=512)
    assert out[0].tolist() == [-1, -1, 0xFFFF, 0]
    assert not out[1:].any()
    with pytest.raises(MemoryFaultError, match="out of bounds"):
        run(body.replace("selp.u32 %r1, 10,", "selp.u32 %r1, 11,"), out, source, shared=512)


def test_lanes_count_their_groups_each_for_itself():
    """The first half copies once, the other twice; both wait until one group at most is under way."""
    source, out = np.arange(32, dtype=np.float32), np.zeros(32, np.float32)
    body = PLACE + ROOM + "mul.wide.u32 %d11, %r10, 4; add.u64 %d11, %d1, %d11; setp.lt.u32 %p1, %r10, 16;"
    body += COPY.format("") + "@%p1 bra ON; cp.async.commit_group; ON: cp.async.wait_group 1;"
    run(body + "ld.shared.f32 %f1, [%r20]; st.global.f32 [%d10], %f1;", out, source, shared=128)
    assert np.isnan(out[:16]).all()
    assert out[16:].tolist() == source[16:].tolist()


@pytest.mark.parametrize(("stride", "wavefronts"), [(0, 1), (1, 1), (2, 2), (8, 8), (32, 32), (33, 1)])
def test_bank_conflicts(stride, wavefronts):
    body = f"mov.u32 %r1, %tid.x; mov.u32 %r2, room; mad.lo.u32 %r2, %r1, {4 * stride}, %r2;"
    body += "st.shared.u32 [%r2], 1;"
    statistics, _ = run(
        body + "ld.shared.u32 %r3, [%r2];", np.zeros(1, np.uint32), shared=4 * 33 * 32, banks=True
    )
    assert statistics["shared load requests"] == 1
    assert statistics["shared load wavefronts"] == statistics["shared store wavefronts"] == wavefronts


@pytest.mark.parametrize(("stride", "wavefronts"), [(16, 4), (32, 8), (144, 4), (128, 32)])
def test_wide_accesses_take_quarters_of_a_warp(stride, wavefronts):
    body = f"mov.u32 %r1, %tid.x; mov.u32 %r2, room; mad.lo.u32 %r2, %r1, {stride}, %r2;"
    body += "ld.shared.v4.u32 {%r3, %r4, %r5, %r6}, [%r2];"
    statistics, _ = run(body, np.zeros(1, np.uint32), shared=144 * 32, banks=True)
    assert statistics["shared load wavefronts"] == wavefronts
    assert statistics["shared load requests"] == 4


@pytest.mark.parametrize(("stride", "sectors"), [(4, 4), (8, 8), (32, 32), (0, 1), (64, 32)])
def test_sectors(stride, sectors):
    body = f"mov.u32 %r1, %tid.x; mul.wide.u32 %d1, %r1, {stride}; add.u64 %d1, %d1, %d0;"
    body += "ld.global.u32 %r2, [%d1];"
    statistics, _ = run(body, np.zeros(32 * 16, np.uint32), banks=True)
    assert statistics["global load sectors"] == sectors
    assert statistics["global load bytes"] == 128


def test_wrong_launches_are_refused():
    x = np.zeros((4, 4), np.float32)
    with pytest.raises(PtxError, match="2 arguments for 1 parameters"):
        launch(kernel("", [x]), (1,), (32,), [x, x])
    with pytest.raises(PtxError, match="2048 threads, 1024 at most"):
        run("", x, block=(2048,))
    with pytest.raises(PtxError, match="positive"):
        run("", x, grid=(0,))
    with pytest.raises(PtxError, match="gaps"):
        launch(kernel("", [x]), (1,), (32,), [x.T[:2]])
    with pytest.raises(PtxError, match="no kernel"):
        Kernel(".version 8.0")
    with pytest.raises(PtxError, match="brace"):
        Kernel(kernel("", [x]).rstrip("}"))


def test_bounds_on_the_block_that_the_kernel_promises():
    ptx = kernel("", [np.zeros(1)]).replace(")\n{", ")\n.maxntid 64, 1, 1\n{")
    launch(ptx, (1,), (64,), [np.zeros(1)])
    with pytest.raises(PtxError, match="96 threads, 64 at most"):
        launch(ptx, (1,), (96,), [np.zeros(1)])


def test_variables_of_the_module_and_names_of_inner_scopes():
    out = np.zeros(32, np.uint32)
    ptx = kernel(
        PLACE
        + """mov.u64 %d1, table; and.b32 %r1, %r10, 3; mul.wide.u32 %d2, %r1, 2; add.u64 %d1, %d1, %d2;
    ld.const.u16 %h1, [%d1]; cvt.u32.u16 %r2, %h1;
    { .reg .b64 %r2; mov.u64 %r2, 5; }
    { .reg .b32 inner; add.u32 inner, %r2, 1; mov.u32 %r2, inner; } /* a note */ // and another
    st.global.u32 [%d10], %r2;""",
        [out],
    ).replace(".visible", ".const .align 2 .u16 table[4] = {7, 70, 0x100, 65535};\n.visible")
    launch(ptx, (1,), (32,), [out])
    assert out.tolist() == [8, 71, 257, 65536] * 8


def test_local_memory_belongs_to_a_lane():
    out = np.zeros(64, np.uint32)
    body = """.local .align 4 .b8 own[8]; mov.u64 %d1, own; cvta.local.u64 %d2, %d1;
    st.local.u32 [%d1+4], %r10;
    bar.sync 0; ld.u32 %r1, [%d2+4]; st.global.u32 [%d10], %r1;"""
    run(PLACE + body, out, block=(64,))
    assert out.tolist() == list(range(64))
