"""The inner loops of ranking as LLVM vector code, compiled by numba for this processor.

numba vectorises loops, but it neither keeps a block of sums in registers nor packs the chosen
lanes of a vector. The code is written for vectors of :data:`LANES` floats, which LLVM breaks
up where a processor's are shorter, and has no instruction of a special processor in it: a fused
multiply-add rounds once, everywhere, and so the scores are the same on all of them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import llvmlite.ir as ir
from numba import types
from numba.core import config
from numba.core.registry import cpu_target
from numba.extending import intrinsic

_FLOAT, _INT, _INDEX = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_SHORT, _BYTE = ir.IntType(16), ir.IntType(8)


def _has_avx512() -> bool:
    """Whether numba compiles for a processor with 32 registers of 16 floats."""
    given = config.CPU_FEATURES
    features = cpu_target.target_context.codegen()._tm_features if given is None else given
    return "+avx512f" in features.split(",")


LANES, VECTORS, USERS = (16, 3, 8) if _has_avx512() else (8, 3, 4)
"""Floats of a vector, vectors of a tile's row, and its rows: a tile's sums fill the registers."""

PANEL = LANES * VECTORS
"""Songs of a tile."""

Builder = Any


def _vector(kind: Any) -> Any:
    return ir.VectorType(kind, LANES)


def _splat(builder: Builder, value: Any) -> Any:
    """A vector of one value."""
    vector = _vector(value.type)
    lonely = builder.insert_element(ir.Constant(vector, ir.Undefined), value, _INT(0))
    return builder.shuffle_vector(
        lonely, ir.Constant(vector, ir.Undefined), ir.Constant(_vector(_INT), None)
    )


def _load(builder: Builder, address: Any, kind: Any, offset: Any) -> Any:
    pointer = builder.gep(builder.inttoptr(address, _FLOAT.as_pointer()), [offset])
    return builder.load(builder.bitcast(pointer, kind.as_pointer()), align=4)


def _store(builder: Builder, value: Any, address: Any, offset: Any) -> None:
    pointer = builder.gep(builder.inttoptr(address, _FLOAT.as_pointer()), [offset])
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=4)


def _intrinsic(builder: Builder, name: str, result: Any, arguments: list[Any]) -> Any:
    """Call an intrinsic function of LLVM."""
    kind = ir.FunctionType(result, [a.type for a in arguments])
    module = builder.module
    function = module.globals.get(name) or ir.Function(module, kind, name)
    return builder.call(function, arguments)


def _loop(
    builder: Builder, stop: Any, step: int, start: list[Any], body: Callable[[Any, list[Any]], Any]
) -> list[Any]:
    """for i in range(0, stop, step): state = body(i, state). Runs at least once."""
    before = builder.block
    block = builder.append_basic_block("loop")
    after = builder.append_basic_block("after")
    builder.branch(block)
    builder.position_at_end(block)
    i = builder.phi(_INDEX)
    state = [builder.phi(value.type) for value in start]
    found = body(i, state)
    last = builder.block
    following = builder.add(i, _INDEX(step))
    builder.cbranch(builder.icmp_signed("<", following, stop), block, after)
    i.add_incoming(_INDEX(0), before)
    i.add_incoming(following, last)
    for phi, first, value in zip(state, start, found, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(value, last)
    builder.position_at_end(after)
    return list(found)


@intrinsic
def score_tile(typing: Any, users: Any, songs: Any, d: Any, out: Any, stride: Any) -> Any:
    """out[u, s] = users[:, u] . songs[:, s] for a tile of USERS x PANEL.

    Takes addresses of float32: `users` (d, USERS), `songs` (d, PANEL), `out` with `stride` floats
    from row to row. A score is summed from its first dimension to its last.
    """

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Any:
        users, songs, d, out, stride = args
        vector = _vector(_FLOAT)
        zero = ir.Constant(vector, None)

        def one_dimension(i: Any, sums: list[Any]) -> list[Any]:
            at = builder.mul(i, _INDEX(PANEL))
            parts = [
                _load(builder, songs, vector, builder.add(at, _INDEX(v * LANES)))
                for v in range(VECTORS)
            ]
            at = builder.mul(i, _INDEX(USERS))
            found = []
            for u in range(USERS):
                weight = _load(builder, users, _FLOAT, builder.add(at, _INDEX(u)))
                weight = _splat(builder, weight)
                for v, part in enumerate(parts):
                    add = [weight, part, sums[u * VECTORS + v]]
                    found.append(_intrinsic(builder, f"llvm.fma.v{LANES}f32", vector, add))
            return found

        sums = _loop(builder, d, 1, [zero] * (USERS * VECTORS), one_dimension)
        for u in range(USERS):
            row = builder.mul(stride, _INDEX(u))
            for v in range(VECTORS):
                # An underflow may have left a minus zero, which must tie with zero.
                score = builder.fadd(sums[u * VECTORS + v], zero)
                _store(builder, score, out, builder.add(row, _INDEX(v * LANES)))
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.intp, types.uintp, types.intp), generate


@intrinsic
def keep_above(
    typing: Any, row: Any, length: Any, first: Any, least: Any, kept: Any, columns: Any
) -> Any:
    """Write the scores of `row` that are at least `least`, and their columns; return how many.

    Takes addresses of float32 (`row`, `kept`) and int32 (`columns`); `length`, a multiple of
    PANEL, at least PANEL. The columns count from `first`. Up to LANES elements beyond the last are
    overwritten.
    """

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Any:
        row, length, first, least, kept, columns = args
        floats, ints, mask = _vector(_FLOAT), _vector(_INT), ir.IntType(LANES)
        least = _splat(builder, least)
        lane_columns = builder.add(
            _splat(builder, builder.trunc(first, _INT)), ir.Constant(ints, list(range(LANES)))
        )

        def one_panel(j: Any, state: list[Any]) -> list[Any]:
            (count,) = state
            starts = [builder.add(j, _INDEX(v * LANES)) for v in range(VECTORS)]
            scores = [_load(builder, row, floats, start) for start in starts]
            above = [builder.fcmp_ordered(">=", part, least) for part in scores]
            bits = [builder.bitcast(part, mask) for part in above]
            any_bit = functools.reduce(builder.or_, bits)
            here = builder.block
            write = builder.append_basic_block("write")
            join = builder.append_basic_block("join")
            builder.cbranch(builder.icmp_unsigned("==", any_bit, mask(0)), join, write)
            builder.position_at_end(write)
            more = count
            for v in range(VECTORS):
                at = builder.add(lane_columns, _splat(builder, builder.trunc(starts[v], _INT)))
                for values, address, letter in ((scores[v], kept, "f"), (at, columns, "i")):
                    packed = _intrinsic(
                        builder,
                        f"llvm.experimental.vector.compress.v{LANES}{letter}32",
                        values.type,
                        [values, above[v], ir.Constant(values.type, ir.Undefined)],
                    )
                    _store(builder, packed, address, more)
                ones = _intrinsic(builder, f"llvm.ctpop.i{LANES}", mask, [bits[v]])
                more = builder.add(more, builder.zext(ones, _INDEX))
            builder.branch(join)
            builder.position_at_end(join)
            joined = builder.phi(_INDEX)
            joined.add_incoming(count, here)
            joined.add_incoming(more, write)
            return [joined]

        (count,) = _loop(builder, length, PANEL, [_INDEX(0)], one_panel)
        return count

    signature = types.intp(
        types.uintp, types.intp, types.intp, types.float32, types.uintp, types.uintp
    )
    return signature, generate


THRESHOLDS = 4
"""Thresholds that :func:`count_above` compares with at once."""


@intrinsic
def count_above(typing: Any, row: Any, length: Any, thresholds: Any, counts: Any) -> Any:
    """counts[i] += scores of `row` above thresholds[i], for i below THRESHOLDS.

    Takes addresses of float32 (`row`, `thresholds`) and int32 (`counts`); `length`, a multiple
    of LANES, at least LANES.
    """

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Any:
        row, length, thresholds, counts = args
        mask = ir.IntType(LANES)
        bars = [
            _splat(builder, _load(builder, thresholds, _FLOAT, _INDEX(i)))
            for i in range(THRESHOLDS)
        ]

        def one_vector(j: Any, totals: list[Any]) -> list[Any]:
            scores = _load(builder, row, _vector(_FLOAT), j)
            found = []
            for bar, total in zip(bars, totals, strict=True):
                above = builder.bitcast(builder.fcmp_ordered(">", scores, bar), mask)
                ones = _intrinsic(builder, f"llvm.ctpop.i{LANES}", mask, [above])
                found.append(builder.add(total, builder.zext(ones, _INT)))
            return found

        before = [_load(builder, counts, _INT, _INDEX(i)) for i in range(THRESHOLDS)]
        for i, total in enumerate(_loop(builder, length, LANES, before, one_vector)):
            _store(builder, total, counts, _INDEX(i))
        return context.get_dummy_value()

    return types.void(types.uintp, types.intp, types.uintp, types.uintp), generate


BOUNDED_VECTORS, BOUNDED_USERS = 4, (4 if _has_avx512() else 2)
BOUNDED = LANES * BOUNDED_VECTORS
"""Songs of a panel of codes; its sums for BOUNDED_USERS fill the registers."""


def _bound_panel(count: int) -> Any:
    """The intrinsic :data:`bound_panel` for so many users at once."""

    def bound(
        typing: Any, users: Any, codes: Any, pairs: Any, factors: Any, of_users: Any, to: Any
    ) -> Any:
        addresses = (types.uintp, types.uintp, types.intp, *[types.uintp] * 3)
        return types.void(*addresses), generate

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Any:
        users, codes, pairs, factors, of_users, to = args
        floats, ints = _vector(_FLOAT), _vector(_INT)
        octets, words, twice = (ir.VectorType(kind, 2 * LANES) for kind in (_BYTE, _SHORT, _INT))
        undefined = ir.Constant(twice, ir.Undefined)
        halves = [
            ir.Constant(ints, [ir.Constant(_INT, 2 * lane + odd) for lane in range(LANES)])
            for odd in (0, 1)
        ]

        def one_pair(i: Any, sums: list[Any]) -> list[Any]:
            # Addresses count by four bytes, as those of floats: a user's pair, two songs' pairs.
            at = builder.mul(i, _INDEX(BOUNDED // 2))
            parts = [
                builder.sext(
                    builder.sext(
                        _load(builder, codes, octets, builder.add(at, _INDEX(v * LANES // 2))),
                        words,
                    ),
                    twice,
                )
                for v in range(BOUNDED_VECTORS)
            ]
            found = []
            for u in range(count):
                pair = _load(builder, users, _INT, builder.add(i, builder.mul(pairs, _INDEX(u))))
                weights = builder.sext(builder.bitcast(_splat(builder, pair), words), twice)
                for v, part in enumerate(parts):
                    # LLVM knows this for one instruction of a processor that has it.
                    products = builder.mul(part, weights)
                    even, odd = (builder.shuffle_vector(products, undefined, h) for h in halves)
                    total = sums[u * BOUNDED_VECTORS + v]
                    found.append(builder.add(total, builder.add(even, odd)))
            return found

        zeros = [ir.Constant(ints, None)] * (count * BOUNDED_VECTORS)
        sums = _loop(builder, pairs, 1, zeros, one_pair)
        for u in range(count):
            scale, norm = (
                _splat(builder, _load(builder, of_users, _FLOAT, _INDEX(2 * u + i)))
                for i in range(2)
            )
            for v in range(BOUNDED_VECTORS):
                of_song, slack = (
                    _load(builder, factors, floats, _INDEX(i * BOUNDED + v * LANES))
                    for i in range(2)
                )
                total = builder.sitofp(sums[u * BOUNDED_VECTORS + v], floats)
                score = builder.fmul(total, builder.fmul(of_song, scale))
                off = builder.fmul(slack, norm)
                at = 2 * u * BOUNDED + v * LANES
                _store(builder, builder.fsub(score, off), to, _INDEX(at))
                _store(builder, builder.fadd(score, off), to, _INDEX(at + BOUNDED))
        return context.get_dummy_value()

    return intrinsic(bound)


bound_panel, bound_panel_of_some = _bound_panel(1), _bound_panel(BOUNDED_USERS)
"""Write between which numbers the scores of a panel's songs lie, for one user or BOUNDED_USERS.

out[u, 0, s] = a - b and out[u, 1, s] = a + b, where a = (codes[:, s] . users[u]) scale[s]
of_users[u, 0] and b = slack[s] of_users[u, 1].

They take addresses of int16 (`users`, (users, 2 `pairs`)), int8 (`codes`, (pairs, BOUNDED, 2)) and
float32: `factors`, which are scale and slack, (2, BOUNDED), `of_users`, (users, 2), and `to`,
(users, 2, BOUNDED). No sum of products may leave int32.
"""


@intrinsic
def largest_of_panel(typing: Any, row: Any) -> Any:
    """The largest of BOUNDED float32 at an address, none of them NaN."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Any:
        (row,) = args
        floats = _vector(_FLOAT)
        parts = [_load(builder, row, floats, _INDEX(v * LANES)) for v in range(BOUNDED_VECTORS)]

        def larger(a: Any, b: Any) -> Any:
            return builder.select(builder.fcmp_ordered(">", a, b), a, b)

        best, width = functools.reduce(larger, parts), LANES // 2
        while width:
            order = [ir.Constant(_INT, (lane + width) % LANES) for lane in range(LANES)]
            turned = builder.shuffle_vector(
                best, ir.Constant(floats, ir.Undefined), ir.Constant(_vector(_INT), order)
            )
            best, width = larger(best, turned), width // 2
        return builder.extract_element(best, _INT(0))

    return types.float32(types.uintp), generate


@intrinsic
def fused_multiply_add(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c in float32, rounded once."""

    def generate(context: Any, builder: Builder, signature: Any, args: Any) -> Any:
        return _intrinsic(builder, "llvm.fma.f32", _FLOAT, list(args))

    return types.float32(types.float32, types.float32, types.float32), generate
