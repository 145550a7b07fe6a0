"""Flash attention for GPUs in Triton: forward, backward, varlen, FlashMask and decode over plain pointers and strides.

Not yet run on a GPU: checked by Triton's interpreter against float64, and compiled to cubin.

Layout [batch, seqlen, heads, head_dim] through strides in elements; the last one is 1. With VARLEN, batch entries lie
one after the other in [total, heads, head_dim], ``cu_q`` and ``cu_k`` [batch + 1] say where each begins, and the batch
strides are not used. A causal mask is aligned at the bottom right. ``lse`` and ``delta`` are fp32, [batch, heads,
seqlen_q], or [heads, total_q] with VARLEN; +inf for a query that sees no key, whose output is 0.

FlashMask (COLUMNS > 0): ``bounds`` [batch, 1 or heads, seqlen_k, COLUMNS] int32, as Paddle's flashmask_attention has
them. These rows do not see a key: from [0] on (causal, one column), from [0] to [1] (causal, two), from [0] on and
before [1] (not causal, two), from [0] to [1] and from [2] to [3] (four).

Source: FlashAttention-2 (Dao, 2023), algorithms 1 and 2; FlashMask (Wang and others, 2024); Flash-Decoding (Dao, 2023).
"""

# No future import of annotations: Triton reads them.
import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
# A length that happens to be a multiple of 16 is no reason to compile anew; strides are.
SIZES = [
    "scale", "seqlen_q", "seqlen_k", "total_q", "batch", "heads", "kv_heads", "group", "page_size", "rows",
    "stride_mb", "stride_mh", "stride_mj",
]  # fmt: skip


@triton.jit
def product(a, b, UPCAST: tl.constexpr):
    """Return a b in fp32. UPCAST multiplies in fp32 throughout, which the interpreter needs for bf16."""
    if UPCAST:
        return tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
    return tl.dot(a, b, input_precision="ieee")


@triton.jit
def bounds_of(bounds, offs_n, seqlen_q, stride_j, inside, COLUMNS: tl.constexpr, CAUSAL: tl.constexpr):
    """Return the two half-open ranges of rows that do not see each key."""
    at = bounds + offs_n * stride_j
    zero = tl.zeros_like(offs_n)
    first = tl.load(at, mask=inside, other=0)
    if COLUMNS == 1:
        return first, zero + seqlen_q, zero, zero
    second = tl.load(at + 1, mask=inside, other=0)
    if COLUMNS == 2:
        if CAUSAL:
            return first, second, zero, zero
        return first, zero + seqlen_q, zero, second
    return first, second, tl.load(at + 2, mask=inside, other=0), tl.load(at + 3, mask=inside, other=0)


@triton.jit(do_not_specialize=SIZES)
def forward_kernel(
    q, k, v, out, lse, cu_q, cu_k, bounds,
    scale, seqlen_q, seqlen_k, total_q, heads, group,
    stride_qb, stride_qs, stride_qh, stride_kb, stride_ks, stride_kh, stride_vb, stride_vs, stride_vh,
    stride_ob, stride_os, stride_oh, stride_mb, stride_mh, stride_mj,
    HEAD_DIM: tl.constexpr, PADDED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr, VARLEN: tl.constexpr, COLUMNS: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Compute out and lse of BLOCK_M queries of one head. Grid: (blocks of queries, batch * heads)."""
    block = tl.program_id(0)
    b = tl.program_id(1) // heads
    h = tl.program_id(1) % heads
    kv = h // group
    if VARLEN:
        q_start = tl.load(cu_q + b)
        k_start = tl.load(cu_k + b)
        seqlen_q = tl.load(cu_q + b + 1) - q_start
        seqlen_k = tl.load(cu_k + b + 1) - k_start
        q += q_start.to(tl.int64) * stride_qs
        out += q_start.to(tl.int64) * stride_os
        k += k_start.to(tl.int64) * stride_ks
        v += k_start.to(tl.int64) * stride_vs
        lse += h.to(tl.int64) * total_q + q_start
    else:
        q += b.to(tl.int64) * stride_qb
        out += b.to(tl.int64) * stride_ob
        k += b.to(tl.int64) * stride_kb
        v += b.to(tl.int64) * stride_vb
        lse += tl.program_id(1).to(tl.int64) * seqlen_q
    if block * BLOCK_M < seqlen_q:
        q += h * stride_qh
        out += h * stride_oh
        k += kv * stride_kh
        v += kv * stride_vh
        bounds += b * stride_mb + h * stride_mh
        offs_m = block * BLOCK_M + tl.arange(0, BLOCK_M)
        offs_d = tl.arange(0, PADDED)
        in_d = offs_d < HEAD_DIM
        in_m = offs_m < seqlen_q
        tile_q = tl.load(
            q + offs_m[:, None] * stride_qs + offs_d[None, :], mask=in_m[:, None] & in_d[None, :], other=0.0
        )
        shift = seqlen_k - seqlen_q
        end = seqlen_k
        if CAUSAL:
            end = tl.minimum(seqlen_k, tl.maximum(0, (block + 1) * BLOCK_M + shift))
        largest = tl.full([BLOCK_M], float("-inf"), tl.float32)
        total = tl.zeros([BLOCK_M], tl.float32)
        acc = tl.zeros([BLOCK_M, PADDED], tl.float32)
        for start in range(0, end, BLOCK_N):
            offs_n = start + tl.arange(0, BLOCK_N)
            in_n = offs_n < seqlen_k
            visible = tl.zeros([BLOCK_M, BLOCK_N], tl.int1) | in_n[None, :]
            some = True
            if CAUSAL:
                visible = visible & (offs_m[:, None] + shift >= offs_n[None, :])
            if COLUMNS > 0:
                a, z, c, e = bounds_of(bounds, offs_n, seqlen_q, stride_mj, in_n, COLUMNS, CAUSAL)
                rows = offs_m[:, None]
                hidden = ((rows >= a[None, :]) & (rows < z[None, :])) | ((rows >= c[None, :]) & (rows < e[None, :]))
                visible = visible & (hidden == 0)
                # A tile that is hidden whole costs no product.
                some = tl.max(visible.to(tl.int32)) > 0
            if some:
                tile_k = tl.load(
                    k + offs_n[None, :] * stride_ks + offs_d[:, None], mask=in_n[None, :] & in_d[:, None], other=0.0
                )
                s = product(tile_q, tile_k, UPCAST) * (scale * LOG2E)
                s = tl.where(visible, s, float("-inf"))
                now = tl.maximum(largest, tl.max(s, 1))
                base = tl.where(now == float("-inf"), 0.0, now)
                p = tl.exp2(s - base[:, None])
                fade = tl.exp2(largest - base)
                total = total * fade + tl.sum(p, 1)
                tile_v = tl.load(
                    v + offs_n[:, None] * stride_vs + offs_d[None, :], mask=in_n[:, None] & in_d[None, :], other=0.0
                )
                acc = acc * fade[:, None] + product(p.to(tile_v.dtype), tile_v, UPCAST)
                largest = now
        seen = total > 0
        divisor = tl.where(seen, total, 1.0)
        tile_out = acc / divisor[:, None]
        tl.store(
            out + offs_m[:, None] * stride_os + offs_d[None, :],
            tile_out.to(out.dtype.element_ty),
            mask=in_m[:, None] & in_d[None, :],
        )
        tl.store(lse + offs_m, tl.where(seen, (largest + tl.log2(divisor)) * LN2, float("inf")), mask=in_m)


@triton.jit(do_not_specialize=SIZES)
def delta_kernel(
    out, dout, delta, cu_q, seqlen_q, total_q, heads,
    stride_ob, stride_os, stride_oh, stride_gb, stride_gs, stride_gh,
    HEAD_DIM: tl.constexpr, PADDED: tl.constexpr, BLOCK_M: tl.constexpr, VARLEN: tl.constexpr,
):  # fmt: skip
    """Compute delta = rowsum(dout * out) of BLOCK_M queries of one head. Grid: (blocks of queries, batch * heads)."""
    block = tl.program_id(0)
    b = tl.program_id(1) // heads
    h = tl.program_id(1) % heads
    if VARLEN:
        q_start = tl.load(cu_q + b)
        seqlen_q = tl.load(cu_q + b + 1) - q_start
        out += q_start.to(tl.int64) * stride_os
        dout += q_start.to(tl.int64) * stride_gs
        delta += h.to(tl.int64) * total_q + q_start
    else:
        out += b.to(tl.int64) * stride_ob
        dout += b.to(tl.int64) * stride_gb
        delta += tl.program_id(1).to(tl.int64) * seqlen_q
    offs_m = block * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_d = tl.arange(0, PADDED)
    inside = (offs_m[:, None] < seqlen_q) & (offs_d[None, :] < HEAD_DIM)
    o = tl.load(out + h * stride_oh + offs_m[:, None] * stride_os + offs_d[None, :], mask=inside, other=0.0)
    g = tl.load(dout + h * stride_gh + offs_m[:, None] * stride_gs + offs_d[None, :], mask=inside, other=0.0)
    tl.store(delta + offs_m, tl.sum(o.to(tl.float32) * g.to(tl.float32), 1), mask=offs_m < seqlen_q)


@triton.jit(do_not_specialize=SIZES)
def keys_kernel(
    q, k, v, dout, lse, delta, dk, dv, cu_q, cu_k, bounds,
    scale, seqlen_q, seqlen_k, total_q, heads, kv_heads, group,
    stride_qb, stride_qs, stride_qh, stride_kb, stride_ks, stride_kh, stride_vb, stride_vs, stride_vh,
    stride_gb, stride_gs, stride_gh, stride_mb, stride_mh, stride_mj,
    HEAD_DIM: tl.constexpr, PADDED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr, VARLEN: tl.constexpr, COLUMNS: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Compute dk and dv of BLOCK_N keys of one key head, over all query heads that read it.

    Grid: (blocks of keys, batch * kv_heads). dk and dv have the strides of k and v.
    """
    block = tl.program_id(0)
    b = tl.program_id(1) // kv_heads
    kv = tl.program_id(1) % kv_heads
    if VARLEN:
        q_start = tl.load(cu_q + b)
        k_start = tl.load(cu_k + b)
        seqlen_q = tl.load(cu_q + b + 1) - q_start
        seqlen_k = tl.load(cu_k + b + 1) - k_start
        q += q_start.to(tl.int64) * stride_qs
        dout += q_start.to(tl.int64) * stride_gs
        at_k = k_start.to(tl.int64) * stride_ks + kv * stride_kh
        at_v = k_start.to(tl.int64) * stride_vs + kv * stride_vh
    else:
        q += b.to(tl.int64) * stride_qb
        dout += b.to(tl.int64) * stride_gb
        at_k = b.to(tl.int64) * stride_kb + kv * stride_kh
        at_v = b.to(tl.int64) * stride_vb + kv * stride_vh
    if block * BLOCK_N < seqlen_k:
        offs_n = block * BLOCK_N + tl.arange(0, BLOCK_N)
        offs_d = tl.arange(0, PADDED)
        in_d = offs_d < HEAD_DIM
        in_n = offs_n < seqlen_k
        inside = in_n[:, None] & in_d[None, :]
        tile_k = tl.load(k + at_k + offs_n[:, None] * stride_ks + offs_d[None, :], mask=inside, other=0.0)
        tile_v = tl.load(v + at_v + offs_n[:, None] * stride_vs + offs_d[None, :], mask=inside, other=0.0)
        sum_k = tl.zeros([BLOCK_N, PADDED], tl.float32)
        sum_v = tl.zeros([BLOCK_N, PADDED], tl.float32)
        shift = seqlen_k - seqlen_q
        begin = 0
        if CAUSAL:
            begin = tl.maximum(0, block * BLOCK_N - shift) // BLOCK_M * BLOCK_M
        for g in range(group):
            h = kv * group + g
            if VARLEN:
                row = h.to(tl.int64) * total_q + tl.load(cu_q + b)
            else:
                row = (b * heads + h).to(tl.int64) * seqlen_q
            for start in range(begin, seqlen_q, BLOCK_M):
                offs_m = start + tl.arange(0, BLOCK_M)
                in_m = offs_m < seqlen_q
                visible = in_m[:, None] & in_n[None, :]
                some = True
                if CAUSAL:
                    visible = visible & (offs_m[:, None] + shift >= offs_n[None, :])
                if COLUMNS > 0:
                    here = bounds + b * stride_mb + h * stride_mh
                    a, z, c, e = bounds_of(here, offs_n, seqlen_q, stride_mj, in_n, COLUMNS, CAUSAL)
                    rows = offs_m[:, None]
                    hidden = ((rows >= a[None, :]) & (rows < z[None, :])) | ((rows >= c[None, :]) & (rows < e[None, :]))
                    visible = visible & (hidden == 0)
                    some = tl.max(visible.to(tl.int32)) > 0
                if some:
                    in_q = in_m[:, None] & in_d[None, :]
                    tile_q = tl.load(
                        q + h * stride_qh + offs_m[:, None] * stride_qs + offs_d[None, :], mask=in_q, other=0.0
                    )
                    tile_g = tl.load(
                        dout + h * stride_gh + offs_m[:, None] * stride_gs + offs_d[None, :], mask=in_q, other=0.0
                    )
                    tile_lse = tl.load(lse + row + offs_m, mask=in_m, other=float("inf"))
                    tile_delta = tl.load(delta + row + offs_m, mask=in_m, other=0.0)
                    s = product(tile_q, tl.trans(tile_k), UPCAST) * scale
                    p = tl.where(visible, tl.exp2((s - tile_lse[:, None]) * LOG2E), 0.0)
                    sum_v += product(tl.trans(p.to(tile_g.dtype)), tile_g, UPCAST)
                    dp = product(tile_g, tl.trans(tile_v), UPCAST)
                    ds = p * (dp - tile_delta[:, None])
                    sum_k += product(tl.trans(ds.to(tile_q.dtype)), tile_q, UPCAST)
        tl.store(
            dk + at_k + offs_n[:, None] * stride_ks + offs_d[None, :],
            (sum_k * scale).to(dk.dtype.element_ty),
            mask=inside,
        )
        tl.store(dv + at_v + offs_n[:, None] * stride_vs + offs_d[None, :], sum_v.to(dv.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=SIZES)
def queries_kernel(
    q, k, v, dout, lse, delta, dq, cu_q, cu_k, bounds,
    scale, seqlen_q, seqlen_k, total_q, heads, group,
    stride_qb, stride_qs, stride_qh, stride_kb, stride_ks, stride_kh, stride_vb, stride_vs, stride_vh,
    stride_gb, stride_gs, stride_gh, stride_mb, stride_mh, stride_mj,
    HEAD_DIM: tl.constexpr, PADDED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    CAUSAL: tl.constexpr, VARLEN: tl.constexpr, COLUMNS: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """Compute dq of BLOCK_M queries of one head; dq has the strides of q. Grid: (blocks of queries, batch * heads)."""
    block = tl.program_id(0)
    b = tl.program_id(1) // heads
    h = tl.program_id(1) % heads
    kv = h // group
    if VARLEN:
        q_start = tl.load(cu_q + b)
        k_start = tl.load(cu_k + b)
        seqlen_q = tl.load(cu_q + b + 1) - q_start
        seqlen_k = tl.load(cu_k + b + 1) - k_start
        at_q = q_start.to(tl.int64) * stride_qs + h * stride_qh
        dout += q_start.to(tl.int64) * stride_gs
        k += k_start.to(tl.int64) * stride_ks
        v += k_start.to(tl.int64) * stride_vs
        row = h.to(tl.int64) * total_q + q_start
    else:
        at_q = b.to(tl.int64) * stride_qb + h * stride_qh
        dout += b.to(tl.int64) * stride_gb
        k += b.to(tl.int64) * stride_kb
        v += b.to(tl.int64) * stride_vb
        row = tl.program_id(1).to(tl.int64) * seqlen_q
    if block * BLOCK_M < seqlen_q:
        k += kv * stride_kh
        v += kv * stride_vh
        bounds += b * stride_mb + h * stride_mh
        offs_m = block * BLOCK_M + tl.arange(0, BLOCK_M)
        offs_d = tl.arange(0, PADDED)
        in_d = offs_d < HEAD_DIM
        in_m = offs_m < seqlen_q
        in_q = in_m[:, None] & in_d[None, :]
        tile_q = tl.load(q + at_q + offs_m[:, None] * stride_qs + offs_d[None, :], mask=in_q, other=0.0)
        tile_g = tl.load(dout + h * stride_gh + offs_m[:, None] * stride_gs + offs_d[None, :], mask=in_q, other=0.0)
        tile_lse = tl.load(lse + row + offs_m, mask=in_m, other=float("inf"))
        tile_delta = tl.load(delta + row + offs_m, mask=in_m, other=0.0)
        shift = seqlen_k - seqlen_q
        end = seqlen_k
        if CAUSAL:
            end = tl.minimum(seqlen_k, tl.maximum(0, (block + 1) * BLOCK_M + shift))
        acc = tl.zeros([BLOCK_M, PADDED], tl.float32)
        for start in range(0, end, BLOCK_N):
            offs_n = start + tl.arange(0, BLOCK_N)
            in_n = offs_n < seqlen_k
            visible = in_m[:, None] & in_n[None, :]
            some = True
            if CAUSAL:
                visible = visible & (offs_m[:, None] + shift >= offs_n[None, :])
            if COLUMNS > 0:
                a, z, c, e = bounds_of(bounds, offs_n, seqlen_q, stride_mj, in_n, COLUMNS, CAUSAL)
                rows = offs_m[:, None]
                hidden = ((rows >= a[None, :]) & (rows < z[None, :])) | ((rows >= c[None, :]) & (rows < e[None, :]))
                visible = visible & (hidden == 0)
                some = tl.max(visible.to(tl.int32)) > 0
            if some:
                inside = in_n[:, None] & in_d[None, :]
                tile_k = tl.load(k + offs_n[:, None] * stride_ks + offs_d[None, :], mask=inside, other=0.0)
                tile_v = tl.load(v + offs_n[:, None] * stride_vs + offs_d[None, :], mask=inside, other=0.0)
                s = product(tile_q, tl.trans(tile_k), UPCAST) * scale
                p = tl.where(visible, tl.exp2((s - tile_lse[:, None]) * LOG2E), 0.0)
                dp = product(tile_g, tl.trans(tile_v), UPCAST)
                ds = p * (dp - tile_delta[:, None])
                acc += product(ds.to(tile_k.dtype), tile_k, UPCAST)
        tl.store(
            dq + at_q + offs_m[:, None] * stride_qs + offs_d[None, :], (acc * scale).to(dq.dtype.element_ty), mask=in_q
        )


@triton.jit(do_not_specialize=SIZES)
def decode_kernel(
    q, k, v, partial, partial_lse, lengths, table,
    scale, batch, heads, kv_heads, group, page_size,
    stride_qb, stride_qh, stride_kp, stride_ks, stride_kh, stride_vp, stride_vs, stride_vh, stride_tb,
    HEAD_DIM: tl.constexpr, PADDED: tl.constexpr, BLOCK_G: tl.constexpr, BLOCK_N: tl.constexpr,
    SPLITS: tl.constexpr, PAGED: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """One query of each head against a key-value cache, a share of its keys. Grid: (SPLITS, batch * kv_heads).

    k and v are [batch, most keys, kv_heads, head_dim], of which sequence b has lengths[b]; with PAGED they are [pages,
    page_size, kv_heads, head_dim], and key j of sequence b is in page table[b, j // page_size]. partial is [SPLITS,
    batch, heads, head_dim] and partial_lse [SPLITS, batch, heads], fp32.
    """
    split = tl.program_id(0)
    b = tl.program_id(1) // kv_heads
    kv = tl.program_id(1) % kv_heads
    length = tl.load(lengths + b)
    share = tl.cdiv(tl.cdiv(length, SPLITS), BLOCK_N) * BLOCK_N
    begin = split * share
    end = tl.minimum(length, begin + share)
    offs_g = tl.arange(0, BLOCK_G)
    offs_d = tl.arange(0, PADDED)
    in_d = offs_d < HEAD_DIM
    in_g = offs_g < group
    head = kv * group + offs_g
    tile_q = tl.load(
        q + b.to(tl.int64) * stride_qb + head[:, None] * stride_qh + offs_d[None, :],
        mask=in_g[:, None] & in_d[None, :],
        other=0.0,
    )
    largest = tl.full([BLOCK_G], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_G], tl.float32)
    acc = tl.zeros([BLOCK_G, PADDED], tl.float32)
    for start in range(begin, end, BLOCK_N):
        offs_n = start + tl.arange(0, BLOCK_N)
        in_n = offs_n < end
        if PAGED:
            page = tl.load(table + b * stride_tb + offs_n // page_size, mask=in_n, other=0).to(tl.int64)
            at_k = page * stride_kp + (offs_n % page_size) * stride_ks
            at_v = page * stride_vp + (offs_n % page_size) * stride_vs
        else:
            at_k = b.to(tl.int64) * stride_kp + offs_n.to(tl.int64) * stride_ks
            at_v = b.to(tl.int64) * stride_vp + offs_n.to(tl.int64) * stride_vs
        tile_k = tl.load(
            k + kv * stride_kh + at_k[None, :] + offs_d[:, None], mask=in_n[None, :] & in_d[:, None], other=0.0
        )
        s = product(tile_q, tile_k, UPCAST) * (scale * LOG2E)
        s = tl.where(in_n[None, :], s, float("-inf"))
        now = tl.maximum(largest, tl.max(s, 1))
        p = tl.exp2(s - now[:, None])
        fade = tl.exp2(largest - now)
        total = total * fade + tl.sum(p, 1)
        tile_v = tl.load(
            v + kv * stride_vh + at_v[:, None] + offs_d[None, :], mask=in_n[:, None] & in_d[None, :], other=0.0
        )
        acc = acc * fade[:, None] + product(p.to(tile_v.dtype), tile_v, UPCAST)
        largest = now
    seen = total > 0
    divisor = tl.where(seen, total, 1.0)
    row = (split * batch + b).to(tl.int64) * heads + head
    tl.store(
        partial + row[:, None] * HEAD_DIM + offs_d[None, :], acc / divisor[:, None], mask=in_g[:, None] & in_d[None, :]
    )
    tl.store(partial_lse + row, tl.where(seen, largest + tl.log2(divisor), float("-inf")), mask=in_g)


@triton.jit(do_not_specialize=SIZES)
def combine_kernel(
    partial, partial_lse, out, rows, heads, stride_ob, stride_oh,
    HEAD_DIM: tl.constexpr, PADDED: tl.constexpr, SPLITS: tl.constexpr, PADDED_SPLITS: tl.constexpr,
):  # fmt: skip
    """The shares of decode_kernel weighed together. Grid: (batch * heads,); rows is batch * heads."""
    row = tl.program_id(0)
    offs_s = tl.arange(0, PADDED_SPLITS)
    offs_d = tl.arange(0, PADDED)
    in_d = offs_d < HEAD_DIM
    in_s = offs_s < SPLITS
    at = offs_s.to(tl.int64) * rows + row
    lse = tl.load(partial_lse + at, mask=in_s, other=float("-inf"))
    largest = tl.max(lse, 0)
    base = tl.where(largest == float("-inf"), 0.0, largest)
    weight = tl.exp2(lse - base)
    total = tl.sum(weight, 0)
    tile = tl.load(partial + at[:, None] * HEAD_DIM + offs_d[None, :], mask=in_s[:, None] & in_d[None, :], other=0.0)
    result = tl.sum(tile * weight[:, None], 0) / tl.where(total > 0, total, 1.0)
    at_out = (row // heads).to(tl.int64) * stride_ob + (row % heads) * stride_oh
    tl.store(out + at_out + offs_d, result.to(out.dtype.element_ty), mask=in_d)
