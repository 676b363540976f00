"""ptxemu: run one PTX kernel on the CPU, all lanes of a batch of blocks in numpy lockstep.

Checks while running: out-of-bounds and misaligned global/shared access, reads of poisoned (never
written) shared memory show up as NaN, cp.async data only lands at wait_group, optional inter-warp
shared-memory race check between barriers, optional bank-conflict and sector counts.
Test tool: correctness model, not a timing model.
"""

import re
from collections import Counter

import numpy as np

NP = {
    "u8": np.uint8,
    "s8": np.int8,
    "b8": np.uint8,
    "u16": np.uint16,
    "s16": np.int16,
    "b16": np.uint16,
    "u32": np.uint32,
    "s32": np.int32,
    "b32": np.uint32,
    "u64": np.uint64,
    "s64": np.int64,
    "b64": np.uint64,
    "f32": np.float32,
    "f64": np.float64,
    "f16": np.float16,
    "pred": np.bool_,
}
SHIFT = 40
GBASE = 1 << 46
SHWIN = 1 << 60
LOCWIN = 1 << 61


class PtxError(Exception):
    pass


def _saturated(v):
    """Clamped to 0 .. 1; NaN becomes 0."""
    return np.where(np.isnan(v), v.dtype.type(0), np.clip(v, 0, 1)).astype(v.dtype)


class Kernel:
    def __init__(self, ptx, smem_dyn=0):
        src = re.sub(r"//[^\n]*", "", ptx)
        m = re.search(r"\.visible \.entry\s+([\w$]+)\s*\((.*?)\)\s*(?:\.\w+\s+[\d, ]+\s*)*\{", src, re.S)
        self.name = m[1]
        self.params = re.findall(r"\.param\s+(?:\.align \d+\s+)?\.(\w+)\s+([\w$]+)", m[2])
        depth, i = 1, m.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(src[i], 0)
            i += 1
        body = src[m.end() : i - 1]
        self.smem_vars, self.smem = {}, 0
        for al, nm, sz in re.findall(r"\.shared\s+\.align\s+(\d+)\s+\.b8\s+([\w$]+)(?:\[(\d*)\])?", src):
            al = int(al)
            self.smem = -(-self.smem // al) * al
            self.smem_vars[nm] = self.smem
            self.smem += int(sz) if sz else smem_dyn
        self.local_vars, self.local = {}, 0
        for al, nm, sz in re.findall(r"\.local\s+\.align\s+(\d+)\s+\.b8\s+([\w$]+)\[(\d+)\]", src):
            self.local_vars[nm] = self.local
            self.local += int(sz)
        self.regs = {}
        self.code, self.labels = [], {}
        self._parse(body)

    def _parse(self, body):
        body = re.sub(r"\.reg\s+\.(\w+)\s+([^;]*);", self._reg, body)
        body = re.sub(r"\.(?:local|shared)\s[^;]*;", "", body)
        # split into statements; braces of vector operands stay, scope braces go
        toks = []
        for st in re.split(r";|(?<=:)\s*\n", body):
            st = st.strip()
            while True:
                mm = re.match(r"^[{}]\s*(?=[a-z@.{}$]|$)", st)
                if mm and not re.match(r"^\{\s*%", st):
                    st = st[mm.end() :].strip()
                    continue
                break
            if st and st != "}" and not st.startswith(".pragma"):
                toks.append(st)
        for st in toks:
            mm = re.match(r"^([$\w]+):$", st)
            if mm:
                self.labels[mm[1]] = len(self.code)
                continue
            mm = re.match(r"^(?:@(!?)([%\w]+)\s+)?([a-z][\w.:]*)\s*(.*)$", st, re.S)
            if not mm:
                raise PtxError("cannot parse: " + st)
            self.code.append((mm[2], bool(mm[1]), mm[3], self._ops(mm[4]), st))

    def _reg(self, m):
        for r in m[2].split(","):
            r = r.strip()
            mm = re.match(r"^(%\w+?)<(\d+)>$", r)
            if mm:
                for i in range(int(mm[2])):
                    self.regs[f"{mm[1]}{i}"] = m[1]
            else:
                self.regs[r] = m[1]
        return ""

    @staticmethod
    def _ops(s):
        out, depth, cur = [], 0, ""
        for ch in s:
            if ch in "{[":
                depth += 1
            if ch in "}]":
                depth -= 1
            if ch == "," and not depth:
                out.append(cur.strip())
                cur = ""
            else:
                cur += ch
        if cur.strip():
            out.append(cur.strip())
        return out


class Launch:
    """One batch of blocks (their lanes are the numpy axis)."""

    def __init__(self, k, grid, block, blocks, bufs, pvals, race=False, banks=False):
        self.k, self.bufs = k, bufs
        self.T = T = int(np.prod(block))
        if T % 32:
            raise PtxError("block size must be a multiple of 32 here")
        self.B = B = len(blocks)
        self.L = L = B * T
        lin = np.tile(np.arange(T), B)
        self.blk = np.repeat(np.arange(B), T)
        self.lin = lin
        z = {}
        z["%tid.x"] = lin % block[0]
        z["%tid.y"] = lin // block[0] % block[1]
        z["%tid.z"] = lin // (block[0] * block[1])
        for i, c in enumerate("xyz"):
            z["%ctaid." + c] = np.repeat([b[i] for b in blocks], T)
            z["%ntid." + c] = np.full(L, block[i])
            z["%nctaid." + c] = np.full(L, grid[i])
        z["%laneid"] = lin % 32
        self.special = {n: v.astype(np.uint32) for n, v in z.items()}
        self.smem = np.full((B, max(k.smem, 16)), 0xFF, np.uint8)  # 0xFFFFFFFF is a NaN
        self.lmem = np.full((L, max(k.local, 8)), 0xFF, np.uint8)
        self.reg = {}
        self.pv = pvals
        self.race, self.banks = race, banks
        if race:
            w = self.smem.shape[1] // 4 + 1
            self.epoch = 1
            self.we = np.zeros((B, w), np.int64)
            self.wt = np.zeros((B, w), np.int64)
            self.re = np.zeros((B, w), np.int64)
            self.rt = np.zeros((B, w), np.int64)
        self.hazards = []
        self.stat = Counter()
        self.pend, self.groups = [], []
        self.ops = [self._compile(*c) for c in k.code]

    # ---- operands
    def _getter(self, op, t):
        dt = NP[t]
        if op in self.k.regs:
            cls = NP[self.k.regs[op]]

            def g(op=op, dt=dt, cls=cls):
                v = self.reg.get(op)
                if v is None:
                    v = self.reg[op] = np.zeros(self.L, cls)
                if v.dtype == dt:
                    return v
                if v.dtype.itemsize == np.dtype(dt).itemsize:
                    return v.view(dt)
                return (
                    v.astype(dt)
                    if np.dtype(dt).kind in "ui" and v.dtype.kind in "ui"
                    else self._bad(op, dt, v)
                )

            return g
        if op in self.special:
            v = self.special[op].astype(dt)
            return lambda: v
        m = re.match(r"^0([fd])([0-9A-Fa-f]+)$", op)
        if m:
            v = (
                np.array(int(m[2], 16), np.uint32).view(np.float32)
                if m[1] == "f"
                else np.array(int(m[2], 16), np.uint64).view(np.float64)
            )
            v = v.astype(dt) if np.dtype(dt).kind == "f" else v.view(dt)
            return lambda: v
        if op == "%clock" or op == "WARP_SZ":
            v = np.array(32, dt)
            return lambda: v
        if op in self.k.smem_vars:
            v = np.array(self.k.smem_vars[op], dt)
            return lambda: v
        if op in self.k.local_vars:
            v = np.array(self.k.local_vars[op], dt)
            return lambda: v
        n = int(op.rstrip("U"), 0)
        if np.dtype(dt).kind == "f":
            v = np.array(n, dt)
        else:
            bits = np.dtype(dt).itemsize * 8
            v = (
                np.array(n & ((1 << bits) - 1), f"u{bits // 8}").view(dt)
                if t != "pred"
                else np.array(bool(n))
            )
        return lambda: v

    def _bad(self, op, dt, v):
        raise PtxError(f"type clash {op} {v.dtype} as {dt}")

    def _putter(self, op):
        if op == "_":
            return lambda v, m: None
        cls = np.dtype(NP[self.k.regs[op]])

        def p(v, m, op=op, cls=cls):
            v = np.asarray(v)
            if v.dtype != cls:
                if v.dtype.itemsize == cls.itemsize and cls.kind != "b":
                    v = v.view(cls)
                else:
                    v = v.astype(cls)
            if v.ndim == 0:
                v = np.broadcast_to(v, (self.L,))
            if m is None:
                self.reg[op] = v if v.flags.writeable else v.copy()
            else:
                d = self.reg.get(op)
                if d is None:
                    d = self.reg[op] = np.zeros(self.L, cls)
                self.reg[op] = np.where(m, v, d)

        return p

    # ---- memory
    def _addr(self, op):
        m = re.match(r"^\[\s*([%\w$]+)\s*(?:\+\s*(-?\d+))?\s*\]$", op)
        base, off = m[1], int(m[2] or 0)
        if base in self.k.regs and self.k.regs[base] in ("b32", "u32"):
            g = self._getter(base, "u32")
            return lambda: g().astype(np.int64) + off
        g = self._getter(base, "u64")
        return lambda: np.broadcast_to(
            g().view(np.int64) + off if g().ndim else g().astype(np.int64) + off, (self.L,)
        )

    def _space(self, sp, a):
        if sp:
            return sp, a
        hi = a >> 60
        if (hi == 1).all():
            return "shared", a - SHWIN
        if (hi == 2).all():
            return "local", a - LOCWIN
        if (hi == 0).all():
            return "global", a
        raise PtxError("generic access mixes spaces")

    def _fail(self, what, a, lanes, st):
        l = int(lanes[0])
        raise PtxError(
            f"{what} at {st!r} block {self.blk[l]} thread {self.lin[l]} address {int(a[0]):#x} ({len(lanes)} lanes)"
        )

    def _load(self, sp, a, dt, n, idx, st):
        """N elements per lane, for lanes idx -> list of arrays"""
        sz = np.dtype(dt).itemsize
        sp, a = self._space(sp, a)
        bad = a % (sz * n) != 0
        if bad.any():
            self._fail(f"misaligned {sz * n}-byte {sp} load", a[bad], idx[bad], st)
        if sp == "shared":
            bad = (a < 0) | (a + sz * n > self.k.smem)
            if bad.any():
                self._fail("shared load out of bounds", a[bad], idx[bad], st)
            if self.race:
                self._racechk(a, idx, sz * n, False, st)
            if self.banks:
                self._bank("ld", a, idx, sz * n)
            v = self.smem.view(dt)
            b = self.blk[idx]
            return [v[b, a // sz + j] for j in range(n)]
        if sp == "local":
            v = self.lmem.view(dt)
            return [v[idx, a // sz + j] for j in range(n)]
        if self.banks:
            self._sector("ld", a, idx, sz * n)
        ids = (a - GBASE) >> SHIFT
        if not len(ids):
            return [np.zeros(0, dt)] * n
        i0 = int(ids[0])
        out = None
        for i in [i0] if (ids == i0).all() else np.unique(ids):
            sel = slice(None) if (ids == i).all() else ids == i
            aa = a[sel] - GBASE - (int(i) << SHIFT)
            if not 0 <= i < len(self.bufs):
                self._fail("wild global load", aa, idx[sel], st)
            buf = self.bufs[int(i)]
            bad = (aa < 0) | (aa + sz * n > buf.nbytes)
            if bad.any():
                self._fail(
                    f"global load out of bounds (buffer {i}, {buf.nbytes} bytes, offset {int(aa[bad][0])})",
                    aa[bad],
                    idx[sel][bad],
                    st,
                )
            v = buf[: buf.nbytes // sz * sz].view(dt)
            r = [v[aa // sz + j] for j in range(n)]
            if isinstance(sel, slice):
                return r
            if out is None:
                out = [np.zeros(len(a), dt) for _ in range(n)]
            for o, q in zip(out, r):
                o[sel] = q
        return out

    def _store(self, sp, a, vals, dt, idx, st):
        sz = np.dtype(dt).itemsize
        n = len(vals)
        sp, a = self._space(sp, a)
        bad = a % (sz * n) != 0
        if bad.any():
            self._fail(f"misaligned {sz * n}-byte {sp} store", a[bad], idx[bad], st)
        if sp == "shared":
            bad = (a < 0) | (a + sz * n > self.k.smem)
            if bad.any():
                self._fail("shared store out of bounds", a[bad], idx[bad], st)
            if self.race:
                self._racechk(a, idx, sz * n, True, st)
            if self.banks:
                self._bank("st", a, idx, sz * n)
            v = self.smem.view(dt)
            b = self.blk[idx]
            for j in range(n):
                v[b, a // sz + j] = vals[j]
            return
        if sp == "local":
            v = self.lmem.view(dt)
            for j in range(n):
                v[idx, a // sz + j] = vals[j]
            return
        if self.banks:
            self._sector("st", a, idx, sz * n)
        ids = (a - GBASE) >> SHIFT
        for i in np.unique(ids):
            sel = ids == i
            aa = a[sel] - GBASE - (int(i) << SHIFT)
            if not 0 <= i < len(self.bufs):
                self._fail("wild global store", aa, idx[sel], st)
            buf = self.bufs[int(i)]
            bad = (aa < 0) | (aa + sz * n > buf.nbytes)
            if bad.any():
                self._fail(
                    f"global store out of bounds (buffer {i}, {buf.nbytes} bytes, offset {int(aa[bad][0])})",
                    aa[bad],
                    idx[sel][bad],
                    st,
                )
            v = buf[: buf.nbytes // sz * sz].view(dt)
            for j in range(n):
                v[aa // sz + j] = vals[j][sel]

    def _racechk(self, a, idx, nb, wr, st):
        b, t = self.blk[idx], self.lin[idx] // 32  # warp granularity
        for j in range(max(1, nb // 4)):
            w = a // 4 + j
            hz = (self.we[b, w] == self.epoch) & (self.wt[b, w] != t)
            if wr:
                hz |= (self.re[b, w] == self.epoch) & (self.rt[b, w] != t)
            if hz.any():
                q = int(np.nonzero(hz)[0][0])
                self.hazards.append(
                    (("write" if wr else "read"), st, int(self.blk[idx[q]]), int(self.lin[idx[q]]), int(a[q]))
                )
            if wr:
                self.we[b, w] = self.epoch
                self.wt[b, w] = t
            else:
                same = (self.re[b, w] == self.epoch) & (self.rt[b, w] != t)
                self.re[b, w] = self.epoch
                self.rt[b, w] = np.where(same, -1, t)

    def _bank(self, kind, a, idx, nb):
        """Ideal and actual shared-memory wavefronts, per warp"""
        warp = idx // 32
        per = {16: 8, 8: 16}.get(nb, 32)  # lanes per phase
        ph = (idx % 32) // per
        key = warp * 8 + ph
        words = np.unique(
            np.stack(
                [np.repeat(key, max(1, nb // 4)), (a[:, None] // 4 + np.arange(max(1, nb // 4))).ravel()]
            ),
            axis=1,
        )
        kb = words[0] * 32 + words[1] % 32
        u, c = np.unique(kb, return_counts=True)
        mx = {}
        for kk, cc in zip(u // 32, c):
            mx[kk] = max(mx.get(kk, 0), cc)
        self.stat[f"smem_{kind}_requests"] += len(mx)
        self.stat[f"smem_{kind}_wavefronts"] += int(sum(mx.values()))

    def _sector(self, kind, a, idx, nb):
        s = np.unique(np.stack([idx // 32, a // 32]), axis=1)
        self.stat[f"gmem_{kind}_requests"] += len(np.unique(idx // 32))
        self.stat[f"gmem_{kind}_sectors"] += s.shape[1]
        self.stat[f"gmem_{kind}_bytes"] += len(a) * nb

    # ---- instructions
    def _compile(self, pred, neg, op, ops, st):
        p = op.split(".")
        base = p[0]
        t = next((x for x in reversed(p) if x in NP), None)
        gp = None
        if pred:
            g0 = self._getter(pred, "pred")
            gp = (lambda: ~g0()) if neg else g0
        fn = getattr(self, "i_" + base, None)
        if fn is None:
            raise PtxError("unknown instruction: " + st)
        f = fn(p, t, ops, st)
        return (base, gp, f, st, ops)

    def _alu(self, ops, t, fn, tin=None, tout=None):
        gs = [self._getter(o, tin or t) for o in ops[1:]]
        put = self._putter(ops[0])

        def f(m):
            put(fn(*[g() for g in gs]), m)

        return f

    def i_mov(self, p, t, ops, st):
        if ops[0].startswith("{") or ops[1].startswith("{"):
            if ops[1].startswith("{"):
                src = [
                    self._getter(o.strip(), {"b32": "b16", "b64": "b32"}[t]) for o in ops[1][1:-1].split(",")
                ]
                put = self._putter(ops[0])
                half = {"b32": 16, "b64": 32}[t]

                def f(m):
                    put(src[0]().astype(NP[t]) | (src[1]().astype(NP[t]) << NP[t](half)), m)

                return f
            g = self._getter(ops[1], t)
            puts = [self._putter(o.strip()) for o in ops[0][1:-1].split(",")]
            half = {"b32": 16, "b64": 32}[t]
            sub = {"b32": np.uint16, "b64": np.uint32}[t]

            def f(m):
                v = g()
                puts[0](v.astype(sub), m)
                puts[1]((v >> NP[t](half)).astype(sub), m)

            return f
        return self._alu(ops, t, lambda a: a if a.ndim == 0 else a.copy())

    def i_cvta(self, p, t, ops, st):
        if "to" in p:
            off = {"shared": SHWIN, "local": LOCWIN, "global": 0}[p[p.index("to") + 1]]
            return self._alu(ops, t, lambda a: a - np.uint64(off))
        off = {"shared": SHWIN, "local": LOCWIN, "global": 0}[p[1]]
        return self._alu(ops, t, lambda a: a + np.uint64(off))

    def i_add(self, p, t, o, st):
        return self._alu(o, t, lambda a, b: a + b)

    def i_sub(self, p, t, o, st):
        return self._alu(o, t, lambda a, b: a - b)

    def i_and(self, p, t, o, st):
        return self._alu(o, t, lambda a, b: a & b)

    def i_or(self, p, t, o, st):
        return self._alu(o, t, lambda a, b: a | b)

    def i_xor(self, p, t, o, st):
        return self._alu(o, t, lambda a, b: a ^ b)

    def i_not(self, p, t, o, st):
        return self._alu(o, t, lambda a: ~a)

    def i_neg(self, p, t, o, st):
        return self._alu(o, t, lambda a: -a)

    def i_abs(self, p, t, o, st):
        return self._alu(o, t, np.abs)

    def i_min(self, p, t, o, st):
        return self._alu(o, t, np.fmin if t[0] == "f" else np.minimum)

    def i_max(self, p, t, o, st):
        return self._alu(o, t, (np.maximum if "NaN" in p else np.fmax) if t[0] == "f" else np.maximum)

    def i_sqrt(self, p, t, o, st):
        return self._alu(o, t, np.sqrt)

    def i_rsqrt(self, p, t, o, st):
        return self._alu(o, t, lambda a: NP[t](1) / np.sqrt(a))

    def i_rcp(self, p, t, o, st):
        return self._alu(o, t, lambda a: NP[t](1) / a)

    def i_ex2(self, p, t, o, st):
        return self._alu(o, t, np.exp2)

    def i_lg2(self, p, t, o, st):
        return self._alu(o, t, np.log2)

    def i_copysign(self, p, t, o, st):
        return self._alu(o, t, lambda a, b: np.copysign(b, a))

    def i_sin(self, p, t, o, st):
        return self._alu(o, t, np.sin)

    def i_cos(self, p, t, o, st):
        return self._alu(o, t, np.cos)

    def i_tanh(self, p, t, o, st):
        return self._alu(o, t, np.tanh)

    def i_mul(self, p, t, o, st):
        if "wide" in p:
            w = {"s32": np.int64, "u32": np.uint64, "s16": np.int32, "u16": np.uint32}[t]
            return self._alu(o, t, lambda a, b: a.astype(w) * b.astype(w))
        if "hi" in p:
            if t in ("s32", "u32"):
                w = {"s32": np.int64, "u32": np.uint64}[t]
                return self._alu(o, t, lambda a, b: ((a.astype(w) * b.astype(w)) >> w(32)).astype(NP[t]))
            return self._alu(
                o, t, lambda a, b: np.array([(int(x) * int(y)) >> 64 for x, y in np.broadcast(a, b)], NP[t])
            )
        return self._alu(o, t, lambda a, b: a * b)

    def i_mad(self, p, t, o, st):
        if "wide" in p:
            w = {"s32": np.int64, "u32": np.uint64}[t]
            tw = {"s32": "s64", "u32": "u64"}[t]
            g = [self._getter(o[1], t), self._getter(o[2], t), self._getter(o[3], tw)]
            put = self._putter(o[0])
            return lambda m: put(g[0]().astype(w) * g[1]().astype(w) + g[2](), m)
        return self._alu(o, t, lambda a, b, c: a * b + c)

    def i_fma(self, p, t, o, st):
        if t == "f32":
            d = np.float64

            def fma(a, b, c):
                exact = a.astype(d) * b + c
                v = exact.astype(np.float32)
                if "rm" in p:
                    v = np.where(v > exact, np.nextafter(v, np.float32(-np.inf)), v)
                return _saturated(v) if "sat" in p else v

            return self._alu(o, t, fma)
        return self._alu(o, t, lambda a, b, c: a * b + c)

    def i_div(self, p, t, o, st):
        if t[0] == "f":
            return self._alu(o, t, lambda a, b: a / b)

        def dv(a, b):
            b = np.where(b == 0, 1, b).astype(NP[t])
            if t[0] == "u":
                return a // b
            q = np.abs(a) // np.abs(b)
            return np.where((a < 0) ^ (b < 0), -q, q).astype(NP[t])

        return self._alu(o, t, dv)

    def i_rem(self, p, t, o, st):
        return self._alu(o, t, lambda a, b: np.fmod(a, np.where(b == 0, 1, b).astype(NP[t])))

    def i_shl(self, p, t, o, st):
        g, s, put = self._getter(o[1], t), self._getter(o[2], "u32"), self._putter(o[0])
        bits = np.dtype(NP[t]).itemsize * 8
        return lambda m: put(
            np.where(s() >= bits, NP[t](0), g() << np.minimum(s(), bits - 1).astype(NP[t])), m
        )

    def i_shr(self, p, t, o, st):
        g, s, put = self._getter(o[1], t), self._getter(o[2], "u32"), self._putter(o[0])
        bits = np.dtype(NP[t]).itemsize * 8
        if t[0] == "s":
            return lambda m: put(g() >> np.minimum(s(), bits - 1).astype(NP[t]), m)
        return lambda m: put(
            np.where(s() >= bits, NP[t](0), g() >> np.minimum(s(), bits - 1).astype(NP[t])), m
        )

    def i_bfe(self, p, t, o, st):
        g, a, b, put = (
            self._getter(o[1], t),
            self._getter(o[2], "u32"),
            self._getter(o[3], "u32"),
            self._putter(o[0]),
        )
        if t != "u32":
            raise PtxError("unknown instruction: " + st)
        return lambda m: put(
            (g() >> a()) & ((np.uint64(1) << b().astype(np.uint64)) - np.uint64(1)).astype(np.uint32), m
        )

    def i_bfi(self, p, t, o, st):
        a, b, c, d, put = [
            self._getter(o[1], t),
            self._getter(o[2], t),
            self._getter(o[3], "u32"),
            self._getter(o[4], "u32"),
            self._putter(o[0]),
        ]
        ty = NP[t]

        def f(m):
            pos, ln = c().astype(np.uint64), d().astype(np.uint64)
            mask = (((np.uint64(1) << ln) - np.uint64(1)) << pos).astype(ty)
            put((b() & ~mask) | ((a() << pos.astype(ty)) & mask), m)

        return f

    def i_popc(self, p, t, o, st):
        g, put = self._getter(o[1], t), self._putter(o[0])
        return lambda m: put(np.bitwise_count(g()).astype(np.uint32), m)

    def i_prmt(self, p, t, o, st):
        a, b, s, put = (
            self._getter(o[1], "u32"),
            self._getter(o[2], "u32"),
            self._getter(o[3], "u32"),
            self._putter(o[0]),
        )

        def f(m):
            v = a().astype(np.uint64) | (b().astype(np.uint64) << np.uint64(32))
            r = np.uint32(0)
            for i in range(4):
                sel = (s() >> np.uint32(4 * i)) & np.uint32(0xF)
                by = (v >> ((sel & np.uint32(7)).astype(np.uint64) * np.uint64(8))) & np.uint64(0xFF)
                by = np.where(
                    sel & np.uint32(8), np.where(by & np.uint64(0x80), np.uint64(0xFF), np.uint64(0)), by
                )
                r = r | (by.astype(np.uint32) << np.uint32(8 * i))
            put(r, m)

        return f

    def i_selp(self, p, t, o, st):
        a, b, c, put = (
            self._getter(o[1], t),
            self._getter(o[2], t),
            self._getter(o[3], "pred"),
            self._putter(o[0]),
        )
        return lambda m: put(np.where(c(), a(), b()), m)

    def i_setp(self, p, t, o, st):
        cmp = p[1]
        c = {
            "eq": np.equal,
            "ne": np.not_equal,
            "lt": np.less,
            "le": np.less_equal,
            "gt": np.greater,
            "ge": np.greater_equal,
            "lo": np.less,
            "ls": np.less_equal,
            "hi": np.greater,
            "hs": np.greater_equal,
            "neu": np.not_equal,
            "equ": lambda a, b: ~(np.less(a, b) | np.greater(a, b)),
            "ltu": lambda a, b: ~np.greater_equal(a, b),
            "leu": lambda a, b: ~np.greater(a, b),
            "gtu": lambda a, b: ~np.less_equal(a, b),
            "geu": lambda a, b: ~np.less(a, b),
            "num": lambda a, b: ~(np.isnan(a) | np.isnan(b)),
            "nan": lambda a, b: np.isnan(a) | np.isnan(b),
        }[cmp]
        if cmp == "ne" and t[0] == "f":
            c = lambda a, b: np.less(a, b) | np.greater(a, b)
        ga, gb, put = self._getter(o[1], t), self._getter(o[2], t), self._putter(o[0])
        if len(o) == 4:
            gc = self._getter(o[3], "pred")
            comb = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}[p[2]]
            return lambda m: put(comb(c(ga(), gb()), gc()), m)
        return lambda m: put(c(ga(), gb()), m)

    def i_cvt(self, p, t, o, st):
        ty = [x for x in p if x in NP]
        if "tf32" in p:  # cvt.rna.tf32.f32

            def rna(a):
                u = a.view(np.uint32)
                return np.where(np.isfinite(a), (u + np.uint32(0x1000)) & np.uint32(0xFFFFE000), u).astype(
                    np.uint32
                )

            return self._alu(o, "f32", rna)
        dst, src = ty[0], ty[1]
        ds, ss = NP[dst], NP[src]
        rnd = next((x for x in p if x in ("rzi", "rni", "rmi", "rpi")), None)
        g, put = self._getter(o[1], src), self._putter(o[0])
        R = {"rzi": np.trunc, "rni": np.rint, "rmi": np.floor, "rpi": np.ceil}.get(rnd)

        def f(m):
            v = g()
            if R is not None:
                v = R(v)
                if ds is not np.float32 and ds is not np.float64:
                    ii = np.iinfo(ds)
                    v = np.clip(np.nan_to_num(v.astype(np.float64)), ii.min, ii.max)
            v = np.asarray(v).astype(ds)
            put(_saturated(v) if "sat" in p and v.dtype.kind == "f" else v, m)

        return f

    def i_bra(self, p, t, o, st):
        return self.k.labels[o[0]]

    def i_ret(self, p, t, o, st):
        return None

    def i_exit(self, p, t, o, st):
        return None

    def i_bar(self, p, t, o, st):
        return None

    def i_barrier(self, p, t, o, st):
        return None

    def i_trap(self, p, t, o, st):
        return None

    def i_membar(self, p, t, o, st):
        return lambda m: None

    def i_fence(self, p, t, o, st):
        return lambda m: None

    def i_pragma(self, p, t, o, st):
        return lambda m: None

    def i_ld(self, p, t, o, st):
        if p[1] == "param":
            nm = re.match(r"\[([\w$]+)(?:\+(\d+))?\]", o[1])
            v, put = self.pv[nm[1]], self._putter(o[0])
            v = np.asarray(v)
            return lambda m: put(v, m)
        sp = next((x for x in p if x in ("global", "shared", "local")), None)
        n = 4 if "v4" in p else 2 if "v2" in p else 1
        dst = [self._putter(x.strip()) for x in (o[0].strip("{}").split(",") if n > 1 else [o[0]])]
        ga, dt = self._addr(o[1]), NP[t]
        al = np.arange(self.L)

        def f(m):
            idx = al if m is None else np.nonzero(m)[0]
            r = self._load(sp, ga()[idx], dt, n, idx, st)
            for d, v in zip(dst, r):
                if m is not None:
                    w = np.zeros(self.L, dt)
                    w[idx] = v
                    v = w
                d(v, m)

        return f

    def i_st(self, p, t, o, st):
        sp = next((x for x in p if x in ("global", "shared", "local")), None)
        n = 4 if "v4" in p else 2 if "v2" in p else 1
        src = [self._getter(x.strip(), t) for x in (o[1].strip("{}").split(",") if n > 1 else [o[1]])]
        ga, dt = self._addr(o[0]), NP[t]
        al = np.arange(self.L)

        def f(m):
            idx = al if m is None else np.nonzero(m)[0]
            self._store(sp, ga()[idx], [np.broadcast_to(s(), (self.L,))[idx] for s in src], dt, idx, st)

        return f

    def i_atom(self, p, t, o, st, ret=True):
        sp = next((x for x in p if x in ("global", "shared")), None)
        kind = next(x for x in p if x in ("add", "min", "max", "exch", "cas", "and", "or"))
        oo = o if ret else [None] + o
        ga, gv = self._addr(oo[1]), self._getter(oo[2], t)
        g3 = self._getter(oo[3], t) if kind == "cas" else None
        put = self._putter(oo[0]) if ret else None
        dt = NP[t]
        al = np.arange(self.L)
        fn = {
            "add": lambda a, b: a + b,
            "min": min,
            "max": max,
            "exch": lambda a, b: b,
            "and": lambda a, b: a & b,
            "or": lambda a, b: a | b,
        }.get(kind)

        def f(m):
            idx = al if m is None else np.nonzero(m)[0]
            a, v = ga(), np.broadcast_to(gv(), (self.L,))
            out = np.zeros(self.L, dt)
            for i in idx:  # serial: atomics are rare in tests
                ii = np.array([i])
                old = self._load(sp, a[ii], dt, 1, ii, st)[0]
                new = (
                    fn(old[0], v[i])
                    if fn
                    else (np.broadcast_to(g3(), (self.L,))[i] if old[0] == v[i] else old[0])
                )
                self._store(sp, a[ii], [np.array([new], dt)], dt, ii, st)
                out[i] = old[0]
            if put:
                put(out, m)

        return f

    def i_red(self, p, t, o, st):
        return self.i_atom(p, t, o, st, ret=False)

    def _full_warps(self, m, st):
        w = np.ones(self.L // 32, bool) if m is None else m.reshape(-1, 32).any(1)
        if m is not None and not (m.reshape(-1, 32).all(1) == w).all():
            raise PtxError("diverged warp at " + st)
        return w

    def i_shfl(self, p, t, o, st):
        mode = p[2]
        dst, *pr = o[0].split("|")
        g, gb, gc = self._getter(o[1], "b32"), self._getter(o[2], "u32"), self._getter(o[3], "u32")
        put = self._putter(dst)
        putp = self._putter(pr[0]) if pr else None

        def f(m):
            v = np.broadcast_to(g(), (self.L,)).reshape(-1, 32)
            b = np.broadcast_to(gb(), (self.L,)).reshape(-1, 32).astype(np.int64)
            c = np.broadcast_to(gc(), (self.L,)).reshape(-1, 32).astype(np.int64)
            lane = np.arange(32)[None, :]
            seg, mx = (c >> 8) & 31, c & 31
            maxl = (lane & seg) | (mx & ~seg)
            minl = lane & seg
            if mode == "up":
                j = lane - b
                ok = j >= maxl
            elif mode == "down":
                j = lane + b
                ok = j <= maxl
            elif mode == "bfly":
                j = lane ^ b
                ok = j <= maxl
            else:
                j = minl | (b & ~seg)
                ok = j <= maxl
            j = np.where(ok, j, lane)
            put(np.take_along_axis(v, j, 1).ravel().copy(), m)
            if putp:
                putp(np.broadcast_to(ok, v.shape).ravel().copy(), m)

        return f

    def i_vote(self, p, t, o, st):
        mode = p[2]
        g, put = self._getter(o[1], "pred"), self._putter(o[0])

        def f(m):
            v = np.broadcast_to(g(), (self.L,)).reshape(-1, 32)
            if m is not None:
                v = np.where(m.reshape(-1, 32), v, mode == "all")
            r = {
                "all": lambda: v.all(1),
                "any": lambda: v.any(1),
                "ballot": lambda: (
                    (v.astype(np.uint64) << np.arange(32, dtype=np.uint64)).sum(1).astype(np.uint32)
                ),
            }[mode]()
            put(np.repeat(r, 32), m)

        return f

    def i_activemask(self, p, t, o, st):
        put = self._putter(o[0])
        return lambda m: put(np.full(self.L, 0xFFFFFFFF, np.uint32), m)

    def i_cp(self, p, t, o, st):
        if p[1] != "async":
            raise PtxError("unknown instruction: " + st)
        if p[2] == "commit_group":

            def f(m):
                self.groups.append(self.pend)
                self.pend = []

            return f
        if p[2] in ("wait_group", "wait_all"):
            n = int(o[0]) if p[2] == "wait_group" else 0

            def f(m):
                if p[2] == "wait_all":
                    self.groups.append(self.pend)
                    self.pend = []
                while len(self.groups) > n:
                    for dst, vals, idx in self.groups.pop(0):
                        self._store("shared", dst, vals, np.uint32, idx, st)

            return f
        gd, gs = self._addr(o[0]), self._addr(o[1])
        nb = int(o[2])
        gn = self._getter(o[3], "u32") if len(o) > 3 else None
        al = np.arange(self.L)

        def f(m):
            idx = al if m is None else np.nonzero(m)[0]
            d, s = gd()[idx], gs()[idx]
            if (d % nb).any() or (s % nb).any():
                raise PtxError("misaligned " + st)
            k = np.broadcast_to(gn(), (self.L,))[idx] if gn else np.full(len(idx), nb)
            vals = [np.zeros(len(idx), np.uint32) for _ in range(nb // 4)]
            on = np.nonzero(k == nb)[0]
            if len(on):
                r = self._load("global", s[on], np.uint32, nb // 4, idx[on], st)
                for v, q in zip(vals, r):
                    v[on] = q
            if not np.isin(k, (0, nb)).all():
                raise PtxError("partial cp.async not modelled: " + st)
            self.pend.append((d, vals, idx))

        return f

    def i_ldmatrix(self, p, t, o, st):
        n = 4 if "x4" in p else 2 if "x2" in p else 1
        tr = "trans" in p
        dst = [self._putter(x.strip()) for x in o[0].strip("{}").split(",")]
        ga = self._addr(o[1])

        def f(m):
            w = self._full_warps(m, st)
            a = ga().reshape(-1, 32)
            al = np.arange(self.L).reshape(-1, 32)
            for i in range(n):
                rows = a[w, 8 * i : 8 * i + 8].ravel()
                idx = al[w, 8 * i : 8 * i + 8].ravel()
                r = np.stack(self._load("shared", rows, np.uint32, 4, idx, st), 1).reshape(-1, 8, 4)
                if tr:
                    h = np.ascontiguousarray(r).view(np.uint16).reshape(-1, 8, 8).transpose(0, 2, 1)
                    r = np.ascontiguousarray(h).view(np.uint32).reshape(-1, 8, 4)
                v = np.zeros((self.L // 32, 32), np.uint32)
                v[w] = r.reshape(-1, 32)
                dst[i](v.ravel(), m)

        return f

    def i_mma(self, p, t, o, st):
        shape = next(x for x in p if re.match(r"m\d+n\d+k\d+", x))
        kind = p[p.index("col") + 2]
        D, A, Bb, C = [[x.strip() for x in y.strip("{}").split(",")] for y in o]
        put = [self._putter(x) for x in D]
        ga = [self._getter(x, "b32") for x in A]
        gb = [self._getter(x, "b32") for x in Bb]
        gc = [self._getter(x, "f32") for x in C]
        lane = np.arange(32)
        g, q = lane >> 2, lane & 3
        if (shape, kind) == ("m16n8k8", "tf32"):

            def frag(regs, pos, shp):
                M = np.zeros((self.L // 32,) + shp, np.float32)
                for r, (i, j) in zip(regs, pos):
                    M[:, i, j] = (
                        (np.broadcast_to(r(), (self.L,)) & np.uint32(0xFFFFE000))
                        .view(np.float32)
                        .reshape(-1, 32)
                    )
                return M

            pa = [(g, q), (g + 8, q), (g, q + 4), (g + 8, q + 4)]
            pb = [(q, g), (q + 4, g)]
            ks = 8
        elif shape == "m16n8k16" and kind in ("f16", "bf16"):

            def frag(regs, pos, shp):
                M = np.zeros((self.L // 32,) + shp, np.float32)
                for r, (i, j, di, dj) in zip(regs, pos):
                    v = np.broadcast_to(r(), (self.L,))
                    for e, u in ((0, v & np.uint32(0xFFFF)), (1, v >> np.uint32(16))):
                        if kind == "bf16":
                            x = (u << np.uint32(16)).view(np.float32)
                        else:
                            x = u.astype(np.uint16).view(np.float16).astype(np.float32)
                        M[:, i + di * e, j + dj * e] = x.reshape(-1, 32)
                return M

            pa = [(g, 2 * q, 0, 1), (g + 8, 2 * q, 0, 1), (g, 2 * q + 8, 0, 1), (g + 8, 2 * q + 8, 0, 1)]
            pb = [(2 * q, g, 1, 0), (2 * q + 8, g, 1, 0)]
            ks = 16
        else:
            raise PtxError("unknown instruction: " + st)
        pc = [(g, 2 * q), (g, 2 * q + 1), (g + 8, 2 * q), (g + 8, 2 * q + 1)]

        def f(m):
            self._full_warps(m, st)
            a, b = frag(ga, pa, (16, ks)), frag(gb, pb, (ks, 8))
            d = np.matmul(a, b)  # fp32 products of tf32/bf16/f16 operands are exact
            for x, c, (i, j) in zip(put, gc, pc):
                x((d[:, i, j].ravel() + np.broadcast_to(c(), (self.L,))).astype(np.float32), m)

        return f

    # ---- scheduler: groups of lanes (pc, mask); lowest pc runs until it meets another group
    def run(self):
        L = self.L
        groups = {0: np.ones(L, bool)}
        alive = np.ones(L, bool)
        parked = {}
        ops, stat = self.ops, self.stat
        nops = len(ops)
        while groups or parked:
            if not groups:
                at = np.zeros(L, bool)
                for mk in parked.values():
                    at |= mk
                full = (at | ~alive).reshape(self.B, self.T).all(1)
                rel = np.repeat(full, self.T) & at
                if not rel.any():
                    raise PtxError("deadlock at a barrier")
                if self.race:
                    self.epoch += 1
                for pc in list(parked):
                    r = parked[pc] & rel
                    if r.any():
                        groups[pc + 1] = groups.get(pc + 1, False) | r
                        left = parked[pc] & ~rel
                        if left.any():
                            parked[pc] = left
                        else:
                            del parked[pc]
                continue
            pc = min(groups)
            mask = groups.pop(pc)
            nxt = min(groups) if groups else nops + 1
            full = mask.all()
            while True:
                if pc >= nops:
                    alive &= ~mask
                    break
                base, gp, f, st, o = ops[pc]
                stat[base] += 1
                if base == "bra":
                    if gp is None:
                        tk, nt = mask, None
                    else:
                        c = np.broadcast_to(gp(), (L,))
                        tk = mask & c
                        nt = mask & ~c
                        if not nt.any():
                            nt = None
                        elif not tk.any():
                            tk = None
                    if tk is not None and nt is not None:
                        groups[f] = groups.get(f, False) | tk
                        groups[pc + 1] = groups.get(pc + 1, False) | nt
                        break
                    pc = f if tk is not None else pc + 1
                elif base in ("bar", "barrier"):
                    if o and o[0] not in ("0",) and "warp" not in st:
                        raise PtxError("named barrier not modelled: " + st)
                    if "warp" in st:
                        pc += 1
                    else:
                        parked[pc] = parked.get(pc, False) | mask
                        break
                elif base in ("ret", "exit"):
                    c = mask if gp is None else mask & gp()
                    alive &= ~c
                    mask = mask & ~c
                    if not mask.any():
                        break
                    full = False
                    pc += 1
                elif base == "trap":
                    raise PtxError("trap")
                else:
                    mm = None if full else mask
                    if gp is not None:
                        mm = mask & gp()
                    if mm is None or mm.any():
                        f(mm)
                    pc += 1
                if pc >= nxt:
                    groups[pc] = groups.get(pc, False) | mask
                    break
        return self


def launch(ptx, grid, block, args, race=False, banks=False, batch_lanes=8192, kernel=None):
    """args: numpy arrays (written in place) and scalars, in the kernel's Python order.
    An array is passed as the address of its first element.
    """
    k = kernel or Kernel(ptx)
    grid = tuple(grid) + (1,) * (3 - len(grid))
    block = tuple(block) + (1,) * (3 - len(block))
    bufs, flat, back = [], [], []
    for a in args:
        if isinstance(a, np.ndarray):
            b = np.ascontiguousarray(a)
            raw = b.reshape(-1).view(np.uint8)
            back.append((a, b))
            flat.append(GBASE + (len(bufs) << SHIFT))
            bufs.append(raw)
        else:
            flat.append(a)
    if len(flat) != len(k.params):
        raise PtxError(f"{len(flat)} values for {len(k.params)} parameters")
    pv = {}
    for (t, nm), v in zip(k.params, flat):
        dt = NP[t]
        pv[nm] = (
            np.array(v).astype(dt)
            if np.dtype(dt).kind == "f"
            else np.array(
                int(v) & ((1 << (np.dtype(dt).itemsize * 8)) - 1), f"u{np.dtype(dt).itemsize}"
            ).view(dt)
        )
    T = int(np.prod(block))
    allb = [(x, y, z) for z in range(grid[2]) for y in range(grid[1]) for x in range(grid[0])]
    step = max(1, batch_lanes // T)
    stat, hz = Counter(), []
    with np.errstate(all="ignore"):
        for i in range(0, len(allb), step):
            r = Launch(k, grid, block, allb[i : i + step], bufs, pv, race, banks).run()
            stat += r.stat
            hz += r.hazards
    for a, b in back:
        if a is not b and not np.shares_memory(a, b):
            a[...] = b
    return stat, hz
