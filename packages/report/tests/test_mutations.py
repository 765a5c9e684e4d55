"""Every command and every reader judge damaged, foreign and odd files alike, and in words.

`ABLATION_MUTANTS` sets how many are tried, `ABLATION_SEED` the first: a failure names its seed.
"""

from __future__ import annotations

import io
import os
import shutil
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from mutations import mutate

from ablation_report.__main__ import main
from ablation_report.load import check, gather, read
from ablation_report.reading import SchemaError
from ablation_report.site import write_pages
from ablation_report.site.inputs import Inputs

N_MUTANTS = int(os.environ.get("ABLATION_MUTANTS", "160"))
FIRST_SEED = int(os.environ.get("ABLATION_SEED", "0"))
N_GROUPS = 16
# One in so many sound mutants is made into pages too
PAGES_EACH = int(os.environ.get("ABLATION_PAGES_EACH", "8"))
DOCS = Path(__file__).parents[3] / "docs"


def run(*arguments: object) -> tuple[int, str, str]:
    """Run the command line; return its status and what it printed."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    return status, out.getvalue(), err.getvalue()


def judge(path: Path) -> tuple[bool, dict[str, int]]:
    """Return whether `check` passes a path, and the status of every other command."""
    status, _, told = run("check", path)
    assert status in (0, 1), status
    assert (status == 0) == (told == ""), told
    assert all(line.startswith(str(path)) for line in told.splitlines()), told
    statuses = {
        "show": run("show", path),
        "show md": run("show", path, "--format", "md"),
        "attention": run("attention", path),
        "findings": run("findings", path),
        "export": run("export", path),
        "export md": run("export", path, "--format", "md"),
        "compare": run("compare", path, path, "--force"),
        "agree": run("agree", path, path),
    }
    if status == 1:
        for name, (_, _, said) in statuses.items():
            assert all(line in said for line in told.splitlines()), (name, said, told)
    for name, (other, _, said) in statuses.items():
        assert other == 0 or said, (name, other)
    return status == 0, {name: found[0] for name, found in statuses.items()}


def check_readers(path: Path, is_sound: bool) -> None:
    """Hold the functions of the package to what `check` says."""
    problems = check(path)[1]
    assert list(gather(path).problems) == problems
    if is_sound:
        read(path)
    else:
        with pytest.raises(SchemaError) as refused:
            read(path)
        assert refused.value.problems == problems


def expected_statuses(is_sound: bool) -> dict[str, tuple[int, ...]]:
    """The statuses that each command may end with: 2 for a sound file that it is not made for."""
    every = ("show", "show md", "findings", "export", "export md")
    some = ("attention", "compare", "agree")
    if not is_sound:
        return dict.fromkeys((*every, *some), (1,))
    return dict.fromkeys(every, (0,)) | dict.fromkeys(some, (0, 2))


@pytest.mark.parametrize("group", range(N_GROUPS))
def test_mutants_are_judged_alike_by_all(tmp_path: Path, group: int) -> None:
    for seed in range(FIRST_SEED + group, FIRST_SEED + N_MUTANTS, N_GROUPS):
        folder = tmp_path / str(seed)
        path, told = mutate(seed, folder)
        try:
            is_sound, statuses = judge(path)
            expected = expected_statuses(is_sound)
            wrong = {n: s for n, s in statuses.items() if s not in expected[n]}
            assert not wrong, wrong
            check_readers(path, is_sound)
            if is_sound and seed % PAGES_EACH == 0:
                write_pages(Inputs(gather(path)), DOCS, folder / "pages")
        except BaseException as error:
            error.add_note(f"seed {seed}: {told}")
            raise
        shutil.rmtree(folder)


def test_the_mutants_are_of_both_kinds(tmp_path: Path) -> None:
    sound = [not check(mutate(seed, tmp_path / str(seed))[0])[1] for seed in range(60)]
    assert 6 < sum(sound) < 54
