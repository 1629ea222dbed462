"""The exact top 500 on the device, beside the compiled kernel on one core of this machine."""

from __future__ import annotations

import os

import numpy as np
import torch

from fusionrec.ranking.lists import RankedLists
from fusionrec.ranking.on_device import rank_on_device
from fusionrec.ranking.packing import PackedSongs
from fusionrec.ranking.protocols import SongLists
from fusionrec.ranking.topk import rank_users
from gpu_parts.report import Clock, Options, Report

TOP, RELEVANT = 500, 20
SHAPES = ((6, 380_000), (50, 380_000), (512, 9_330))
"""Dimensions and songs: the paper's fused vectors, and a factorisation's."""


def lists(users: int, songs: int, of_a_user: int, rng: np.random.Generator) -> SongLists:
    """Songs of each user, ascending, evenly apart."""
    first = rng.integers(0, songs // of_a_user, (users, 1))
    own = (first + np.arange(of_a_user) * (songs // of_a_user)).astype(np.int32)
    bounds = np.arange(users + 1) * of_a_user
    return SongLists(bounds, own.ravel(), np.ones(own.size, np.int32))


def run(report: Report, options: Options) -> None:
    """Users a second of both, and that they give the same lists."""
    for dimensions, songs in SHAPES if options.on_gpu else ((6, 900),):
        with report.step(f"{dimensions} dimensions, {songs:,} songs"):
            compare(report, options, dimensions, songs, 2_000 if options.on_gpu else 64)
    report.memory(options.device)


def compare(report: Report, options: Options, dimensions: int, songs: int, users: int) -> None:
    """One shape."""
    rng = np.random.default_rng(0)
    F = rng.dirichlet(np.full(dimensions, 0.3), songs).astype(np.float32)
    V = rng.dirichlet(np.full(dimensions, 0.3), users).astype(np.float32)
    relevant = lists(users, songs, RELEVANT, rng)
    top = min(TOP, songs)
    packed = PackedSongs.of(F)

    def kernel(count: int) -> RankedLists:
        own = count * RELEVANT
        some = SongLists(relevant.indptr[: count + 1], relevant.songs[:own], relevant.plays[:own])
        return rank_users(V[:count], packed, top, relevant=some)

    few = users // 10
    expected = kernel(few)  # compiles
    clock = Clock(options.seconds(2), "cpu")
    for _ in clock:
        kernel(few)
    on_core = few * clock.count / clock.seconds

    def on_device() -> RankedLists:
        if options.on_gpu:
            return rank_users(V, F, top, relevant=relevant, device=options.device)
        # A CPU would get the kernel: the path of other devices is to be run, though.
        found = rank_users(V, packed, top, relevant=relevant)
        nothing = SongLists(
            np.zeros(users + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32)
        )
        rank_on_device(V, F, nothing, relevant, found, "cpu")
        return found

    found = on_device()
    torch.testing.assert_close(found.indices[:few], expected.indices, atol=0, rtol=0)
    np.testing.assert_array_equal(found.ranks[: few * RELEVANT], expected.ranks)
    clock = Clock(options.seconds(4), options.device)
    for _ in clock:
        on_device()
    on_gpu = users * clock.count / clock.seconds
    named = f"{dimensions} dimensions, {songs:,} songs"
    report.figure(named, on_gpu, "users/s", f"the kernel on one core: {on_core:,.0f}")
    cores = len(os.sched_getaffinity(0))
    note = f"cores' worth of the kernel; this machine has {cores}"
    report.figure(f"{named}: over the kernel", on_gpu / on_core, "x", note)
