"""Workspace: programs that share an arena and packed constants compute what they compute apart."""

from __future__ import annotations

import gc
import os
import signal
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import Float32, normal

import ablation_kernels
from ablation_kernels import Program, Workspace

SEEDS = range(6)
PACKED = ("matmul_packed_simd", "matmul_packed_simd_parallel")
HAS_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def aligned(size: int) -> int:
    return (size + 63) // 64 * 64


def fixed(array: Float32) -> Float32:
    """The array, to which nobody can write any more."""
    array.flags.writeable = False
    return array


class Layer:
    """relu(x @ weight + bias) @ weight.T, softmax: two values and scratch in the arena."""

    def __init__(
        self, rows: int, weight: Float32, bias: Float32, kernel: str, is_staged: bool = False
    ) -> None:
        depth, width = weight.shape
        threads = ablation_kernels.get_num_threads()
        self.scratch = max(
            ablation_kernels.scratch_bytes(
                kernel, [(rows, k), weight.shape, None, None], keywords, threads, constants=["b"]
            )
            for k, keywords in ((depth, {}), (width, {"transpose_b": True}))
        )
        places = np.cumsum([0, aligned(rows * width * 4), aligned(rows * depth * 4)])
        self.arena_bytes = int(places[-1]) + self.scratch
        self.values: list[tuple[Any, ...]] = [
            ("input", (rows, depth)),
            ("constant", weight),
            ("constant", bias),
            ("arena", (rows, width), 0),
            ("arena", (rows, depth), int(places[1])),
            ("output", (rows, depth)),
        ]
        scratch_at = int(places[-1])
        relu: dict[str, Any] = {"activation": "relu"}
        self.calls: list[tuple[Any, ...]] = [
            (kernel, [0, 1, 2], 3, relu, scratch_at, "up"),
            (kernel, [3, 1], 4, {"transpose_b": True}, scratch_at, "down"),
            ("softmax_simd_parallel", [4], 5, {}, 0, "softmax"),
        ]
        self.stages = [(0, 3)] if is_staged else []
        self.shape = (rows, depth)

    def program(self, workspace: Workspace | None = None, more: int = 0) -> Program:
        return Program(
            self.values, self.calls, self.arena_bytes + more, self.stages, workspace=workspace
        )


class Attention:
    """Attention with its scratch in the arena, through a value that lies there."""

    def __init__(self, kernel: str, length: int) -> None:
        self.shape = (1, 2, length, 16)
        threads = ablation_kernels.get_num_threads()
        size = aligned(int(np.prod(self.shape)) * 4)
        scratch = ablation_kernels.scratch_bytes(kernel, [self.shape] * 3 + [None], {}, threads)
        self.arena_bytes = size + scratch
        self.values: list[tuple[Any, ...]] = [
            ("input", self.shape),
            ("arena", self.shape, 0),
            ("output", self.shape),
        ]
        self.calls: list[tuple[Any, ...]] = [
            (kernel, [0, 0, 0, None], 1, {}, size, "attention"),
            ("relu_simd", [1], 2, {}, 0, "relu"),
        ]

    def program(self, workspace: Workspace | None = None) -> Program:
        return Program(self.values, self.calls, self.arena_bytes, workspace=workspace)


def spoiler(workspace: Workspace, size: int) -> Program:
    """A program that fills the arena, up to `size` bytes, with NaN."""
    values = [
        ("input", (1,)),
        ("input", (size // 4,)),
        ("arena", (size // 4,), 0),
        ("output", (1,)),
    ]
    calls: list[tuple[Any, ...]] = [
        ("add_simd", [1, 0], 2, {}, 0, "spoil"),
        ("relu_simd", [0], 3, {}, 0, "out"),
    ]
    return Program(values, calls, size // 64 * 64, workspace=workspace)


def different_descriptions(random: np.random.Generator) -> list[Layer | Attention]:
    depth, width = (int(random.integers(1, 70)) for _ in range(2))
    weight, bias = fixed(normal(random, depth, width)), fixed(normal(random, width))
    found: list[Layer | Attention] = [
        Layer(int(random.integers(1, 200)), weight, bias, kernel, is_staged)
        for kernel in ("matmul_scalar", "matmul_blas_parallel", *PACKED)
        for is_staged in (False, True)
    ]
    forms = ("fused_simd_parallel", "flash_simd_parallel", "flash_packed_simd_parallel")
    found += [Attention(f"attention_{form}", int(random.integers(1, 200))) for form in forms]
    random.shuffle(found)
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_programs_that_share_give_the_bits_of_programs_apart(seed: int) -> None:
    """Built and run in any order; what one leaves in the arena, NaN as well, reaches no other."""
    random = np.random.default_rng(seed)
    workspace = Workspace()
    built: list[tuple[Program, Float32, Float32]] = []
    nan = np.array([np.nan], np.float32)
    for layer in different_descriptions(random):
        x = normal(random, *layer.shape)
        expected = layer.program().run([x])[0]
        built.append((layer.program(workspace), x, expected))
        size = workspace.arena_bytes // 64 * 64
        spoil = spoiler(workspace, size) if size else None
        for index in random.permutation(len(built)):
            program, given, wanted = built[index]
            if spoil is not None:
                spoil.run([nan, np.zeros(size // 4, np.float32)])
            np.testing.assert_array_equal(program.run([given])[0], wanted)
    assert workspace.arena_bytes == max(program.arena_bytes for program, _, _ in built)
    assert workspace.packed_bytes == max(program.packed_bytes for program, _, _ in built) > 0


def weights(random: np.random.Generator) -> tuple[Float32, Float32]:
    return fixed(normal(random, 40, 24)), fixed(normal(random, 24))


def test_what_is_packed_alike_is_packed_once(random: np.random.Generator) -> None:
    weight, bias = weights(random)
    workspace = Workspace()
    assert (workspace.arena_bytes, workspace.packed_bytes) == (0, 0)
    programs = [Layer(rows, weight, bias, k).program(workspace) for rows in (3, 9) for k in PACKED]
    alone = Layer(3, weight, bias, PACKED[0]).program()
    assert {program.packed_bytes for program in programs} == {alone.packed_bytes}
    assert workspace.packed_bytes == alone.packed_bytes
    Layer(3, weight, bias, "matmul_blas").program(workspace)
    other = Layer(3, fixed(weight.copy()), bias, PACKED[0]).program(workspace)
    assert workspace.packed_bytes == alone.packed_bytes + other.packed_bytes
    view = weight.view()
    again = Layer(3, view, bias, PACKED[0]).program(workspace)
    assert workspace.packed_bytes == alone.packed_bytes + other.packed_bytes
    assert again.released_constants == () and alone.released_constants == (1,)


def test_arrays_that_others_may_write_to_are_not_shared(random: np.random.Generator) -> None:
    """Not even with the copy of the same memory from when nobody could write to it."""
    weight, bias = weights(random)
    workspace, x = Workspace(), normal(random, 3, 40)
    first = Layer(3, weight, bias, PACKED[0]).program(workspace)
    (before,) = first.run([x])
    shared = workspace.packed_bytes
    weight.flags.writeable = True
    weight += 1
    second = Layer(3, weight, bias, PACKED[0]).program(workspace)
    weight -= 1
    assert workspace.packed_bytes == shared == second.packed_bytes
    assert second.released_constants == (1,)
    changed = fixed(weight + 1)
    np.testing.assert_array_equal(first.run([x])[0], before)
    np.testing.assert_array_equal(
        second.run([x])[0], Layer(3, changed, bias, PACKED[0]).program().run([x])[0]
    )


def test_a_copy_lives_as_long_as_a_program_uses_it(random: np.random.Generator) -> None:
    weight, bias = weights(random)
    workspace = Workspace()
    layer = Layer(3, weight, bias, PACKED[0])
    first, second = layer.program(workspace), layer.program(workspace)
    packed = workspace.packed_bytes
    array = weakref.ref(weight)
    del layer, weight
    del first
    gc.collect()
    assert workspace.packed_bytes == packed and array() is not None
    x = normal(random, 3, 40)
    (expected,) = second.run([x])
    arena_bytes = workspace.arena_bytes
    assert arena_bytes == second.arena_bytes
    del second
    gc.collect()
    assert workspace.packed_bytes == 0 and array() is None
    assert workspace.arena_bytes == arena_bytes
    assert expected.shape == (3, 40)


def test_a_program_outlives_the_name_of_its_workspace(random: np.random.Generator) -> None:
    weight, bias = weights(random)
    x = normal(random, 3, 40)
    layer = Layer(3, weight, bias, PACKED[0])
    program = layer.program(Workspace())
    gc.collect()
    np.testing.assert_array_equal(program.run([x])[0], layer.program().run([x])[0])


def test_the_address_of_an_array_that_is_gone_is_no_one_elses(random: np.random.Generator) -> None:
    """Arrays come and go while programs of them stay: each is packed anew."""
    bias = fixed(normal(random, 24))
    workspace, x = Workspace(), normal(random, 3, 40)
    kept = []
    for _ in range(30):
        layer = Layer(3, fixed(normal(random, 40, 24)), bias, PACKED[0])
        program = layer.program(workspace)
        np.testing.assert_array_equal(program.run([x])[0], layer.program().run([x])[0])
        kept.append(program)
        del layer
    assert workspace.packed_bytes == sum(program.packed_bytes for program in kept)


STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.skipif(not STATM.exists(), reason="reads the memory of the process from Linux")
def test_memory_is_shared_and_given_back(random: np.random.Generator) -> None:
    """Sixteen programs with 16 MiB of packed weights and 32 MiB of arena each."""
    weight, bias = fixed(normal(random, 2048, 2048)), fixed(normal(random, 2048))
    layer = Layer(5, weight, bias, PACKED[0])
    more = 2**25
    size = (layer.arena_bytes + more) // 64 * 64
    ones = np.ones(size // 4, np.float32)
    start = resident_bytes()
    workspace = Workspace()
    programs = [layer.program(workspace, more) for _ in range(16)]
    spoiler(workspace, size).run([ones[:1], ones])
    each = programs[0].packed_bytes + size
    used = resident_bytes() - start
    assert each * 0.9 < used < each * 1.5
    del programs
    gc.collect()
    assert resident_bytes() - start < size * 1.3
    del workspace
    gc.collect()
    assert resident_bytes() - start < 0.25 * each


def test_a_program_that_is_refused_leaves_nothing(random: np.random.Generator) -> None:
    weight, bias = weights(random)
    workspace = Workspace()
    layer = Layer(3, weight, bias, PACKED[0])
    kept = layer.program(workspace)
    before = (workspace.arena_bytes, workspace.packed_bytes)
    other = Layer(3, fixed(weight + 1), bias, PACKED[0])
    other.calls[2] = ("softmax_simd", [3], 5, {}, 0, "softmax")
    with pytest.raises(ValueError, match="'softmax'"):
        other.program(workspace, more=2**20)
    with pytest.raises(ValueError, match="arena_bytes"):
        Program(layer.values, layer.calls, -64, workspace=workspace)
    assert (workspace.arena_bytes, workspace.packed_bytes) == before
    x = normal(random, 3, 40)
    np.testing.assert_array_equal(kept.run([x])[0], layer.program().run([x])[0])


@pytest.mark.parametrize("given", [3, "arena", Workspace, object(), []])
def test_what_is_no_workspace(given: Any, random: np.random.Generator) -> None:
    layer = Layer(3, *weights(random), PACKED[0])
    with pytest.raises(TypeError, match=r"Program: argument 'workspace' .*accepted: a Workspace"):
        layer.program(given)


@pytest.mark.parametrize("is_staged", [False, True])
def test_threads_that_are_set_between_building_and_running(
    is_staged: bool, random: np.random.Generator
) -> None:
    """Fewer than it was built for give the same bits, as many as well, more are refused."""
    weight, bias = weights(random)
    workspace, x = Workspace(), normal(random, 150, 40)
    programs: dict[int, Program] = {}
    for threads in (1, 3, 2):
        ablation_kernels.set_num_threads(threads)
        layer = Layer(150, weight, bias, PACKED[1], is_staged)
        programs[threads] = layer.program(workspace)
    ablation_kernels.set_num_threads(3)
    (expected,) = programs[3].run([x])
    for now in (2, 1, 3, 1, 2, 3):
        ablation_kernels.set_num_threads(now)
        for built, program in programs.items():
            if now > built:
                with pytest.raises(ValueError, match=f"built for {built} threads.*{now}"):
                    program.run([x])
            else:
                np.testing.assert_array_equal(program.run([x])[0], expected)


def test_threads_that_run_and_build(random: np.random.Generator) -> None:
    """They take turns, also where a larger program moves the arena of all others."""
    weight, bias = weights(random)
    workspace = Workspace()
    layers = [Layer(rows, weight, bias, PACKED[1], rows % 2 == 1) for rows in (7, 60, 301)]
    given = [normal(random, *layer.shape) for layer in layers]
    expected = [layer.program().run([x])[0] for layer, x in zip(layers, given, strict=True)]
    programs = [layer.program(workspace) for layer in layers]
    wrong: list[int] = []
    done = threading.Event()

    def work(index: int) -> None:
        while not done.is_set():
            for other in (index, (index + 1) % 3):
                if not np.array_equal(programs[other].run([given[other]])[0], expected[other]):
                    wrong.append(other)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for worker in workers:
        worker.start()
    try:
        for more in range(100):
            larger = layers[0].program(workspace, more=more * 4096)
            np.testing.assert_array_equal(larger.run([given[0]])[0], expected[0])
    finally:
        done.set()
        for worker in workers:
            worker.join()
    assert not wrong


@HAS_FORK
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_programs_that_run_elsewhere_at_a_fork_run_in_the_child(
    random: np.random.Generator,
) -> None:
    """The arena grows before each fork, so that the child may find a program on its way there."""
    weight, bias = weights(random)
    workspace = Workspace()
    layer = Layer(90, weight, bias, "matmul_scalar")
    x = normal(random, *layer.shape)
    (expected,) = layer.program().run([x])
    programs = [layer.program(workspace) for _ in range(4)]
    done = threading.Event()

    def load() -> None:
        while not done.is_set():
            for program in programs:
                program.run([x])

    def child_runs() -> bool:
        latest = layer.program(workspace, more=2**22)
        return all(np.array_equal(p.run([x])[0], expected) for p in (*programs, latest))

    worker = threading.Thread(target=load)
    worker.start()
    try:
        for count in range(8):
            layer.program(workspace, more=count * 4096)
            child = os.fork()
            if child == 0:
                signal.alarm(60)
                code = 1
                try:
                    code = 0 if child_runs() else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        done.set()
        worker.join()
