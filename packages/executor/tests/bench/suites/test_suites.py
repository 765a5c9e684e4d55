"""What holds for every suite of the registry: its variants and its A/A twins."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

import ablation_kernels
from ablation_executor.bench.runtimes import BY_NAME as RUNTIMES
from ablation_executor.bench.suite import Suite
from ablation_executor.bench.suites import SUITES, find_suite
from ablation_executor.bench.suites.twins import program_name

# The block's cases are its configs, and its ladder has tests of its own.
NAMES = [name for name in SUITES if name != "block"]


@pytest.fixture(params=NAMES)
def suite(request: pytest.FixtureRequest) -> Suite:
    return find_suite(request.param)


def test_a_suite_has_the_name_and_the_variants_that_it_says(suite: Suite) -> None:
    assert SUITES[suite.name].rpartition(".")[2] in type(suite).__module__
    for device in suite.devices:
        variants = suite.variants(device)
        names = [variant.name for variant in variants]
        assert len(set(names)) == len(names)
        assert suite.baseline in names
        assert all(variant.what and variant.phases for variant in variants)


def test_the_baseline_has_a_twin_wherever_it_runs(suite: Suite) -> None:
    variants = {variant.name: variant for variant in suite.variants("cpu")}
    assert suite.baseline in [name for name, _ in suite.twins]
    cases = [case for tier in suite.tiers for case in suite.cases(tier, [1], "cpu")]
    for name, twin in suite.twins:
        first, second = variants[name], variants[twin]
        # Programs that share what their worker has loaded have a twin in the same process.
        is_shared = suite.shared_bytes(first.worker, cases[0]) > 0
        assert (second.worker == first.worker) == is_shared
        assert (second.origin, second.phases) == (first.origin, first.phases)
        assert program_name(twin) == program_name(name) == name
        for case in cases:
            assert suite.supports(second, case) == suite.supports(first, case)
            assert suite.quick_refusal(second, case) == suite.quick_refusal(first, case)
            assert suite.slowdown(second, case) == suite.slowdown(first, case) >= 1
            for phase in first.phases:
                assert suite.needs(second, case, phase) == suite.needs(first, case, phase)


@pytest.fixture
def threads_as_before() -> Iterator[None]:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads(), ablation_kernels.get_num_threads()
    yield
    torch.set_num_threads(before[0])
    ablation_kernels.set_num_threads(before[1])


def close_adapters(suite: Suite) -> None:
    """Leave what an adapter has entered in this process."""
    for adapter in getattr(suite, "_adapters", {}).values():
        getattr(adapter, "close", lambda: None)()


@pytest.mark.usefixtures("threads_as_before")
def test_a_twin_is_the_same_program(suite: Suite, request: pytest.FixtureRequest) -> None:
    variants = {variant.name: variant for variant in suite.variants("cpu")}
    case = min(suite.quick_cases([1], "cpu"), key=lambda case: case.Nq * case.Nk)
    request.addfinalizer(lambda: close_adapters(suite))
    runs = [pair for pair in suite.twins if suite.supports(variants[pair[0]], case) is None]
    assert runs[0][0] == suite.baseline
    for name, twin in runs:
        if variants[name].worker in RUNTIMES:
            # Others set for their whole process what tests of this one would meet
            suite.start(variants[name].worker, case.threads)
        programs = [suite.load(variants[each].worker, case, 0).build(each) for each in (name, twin)]
        assert type(programs[0]) is type(programs[1])
        phase = "fwd_nograd" if suite.name == "lm-step" else "fwd"
        first, second = (program.call(phase, program.prepare(phase)) for program in programs)
        assert abs(first - second).max() == 0


def test_no_suite_needs_a_framework_to_be_asked() -> None:
    code = f"""
import sys
from ablation_executor.bench.suites import find_suite
for suite in map(find_suite, {NAMES}):
    for variant in suite.variants("cpu"):
        for case in suite.quick_cases([1], "cpu"):
            suite.supports(variant, case), suite.quick_refusal(variant, case)
            [suite.needs(variant, case, phase) for phase in variant.phases]
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
