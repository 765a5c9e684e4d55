"""Where the site may be written, and that nothing but what it wrote is ever deleted."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from samples import make_row, write_run

from ablation_report.__main__ import main
from ablation_report.load import gather
from ablation_report.output import UsageError
from ablation_report.site import write_pages
from ablation_report.site.folder import LIST_NAME, claim
from ablation_report.site.inputs import Inputs
from ablation_report.site.navigation import CONFIG_OPENING

ROOT = Path(__file__).parents[3]
needs_vega = pytest.mark.skipif(
    importlib.util.find_spec("vl_convert") is None, reason="vl-convert-python is not installed"
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run, hand-written pages and a base configuration, as current folder."""
    write_run(tmp_path / "rows" / "small", [make_row()])
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# Index\n")
    shutil.copy(ROOT / "zensical.toml", tmp_path / "zensical.toml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything(folder: Path) -> dict[str, bytes | str]:
    """Every file and link below a folder, with what it holds."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def write(out: str | Path) -> None:
    """Write the pages of the run into a folder."""
    write_pages(Inputs(gather("rows")), Path("docs"), Path(out))


def other_folder(place: Path) -> str:
    """A folder of the user's."""
    (place / "thesis").mkdir()
    (place / "thesis" / "only-copy.txt").write_text("x")
    return "thesis"


def hidden(place: Path) -> str:
    """A folder with nothing but what `ls` does not show."""
    (place / "hidden" / ".git").mkdir(parents=True)
    (place / "hidden" / ".git" / "HEAD").write_text("x")
    return "hidden"


def link(place: Path) -> str:
    """A link to an empty folder."""
    (place / "empty").mkdir()
    (place / "link").symlink_to("empty")
    return "link"


def dangling(place: Path) -> str:
    """A link to nothing."""
    (place / "dangling").symlink_to("nowhere")
    return "dangling"


def plain_file(place: Path) -> str:
    """A file."""
    (place / "notes.md").write_text("x")
    return "notes.md"


def added_to(place: Path) -> str:
    """A site that a file of the user's was added to."""
    write("site")
    (place / "site" / "runs" / "notes.txt").write_text("x")
    return "site"


def linked_from(place: Path) -> str:
    """A site with a folder that became a link to one of the user's with files of the same names."""
    write("site")
    (place / "site" / "runs").rename(place / "kept")
    (place / "site" / "runs").symlink_to(place / "kept")
    return "site"


def foreign_list(place: Path) -> str:
    """A folder with a list that something else wrote."""
    folder = place / other_folder(place)
    (folder / LIST_NAME).write_text("only-copy.txt\n")
    return "thesis"


def far_list(place: Path) -> str:
    """A folder whose list names files outside of it."""
    claim(place / "site", ["../docs/index.md", str(place / "docs" / "index.md")])
    (place / "site" / "x.txt").write_text("x")
    return "site"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (other_folder, "holds only-copy.txt, which it did not write"),
        (hidden, "holds .git/HEAD, which it did not write"),
        (link, "a symbolic link"),
        (dangling, "a symbolic link"),
        (plain_file, "a file"),
        (added_to, "holds runs/notes.txt, which it did not write"),
        (linked_from, "holds runs, which it did not write"),
        (foreign_list, f"holds {LIST_NAME}, only-copy.txt, which it did not write"),
        (far_list, "holds x.txt, which it did not write"),
        (lambda place: ".", "is or holds"),
        (lambda place: "..", "is or holds"),
        (lambda place: "/", "is or holds"),
        (lambda place: "docs", "is, holds, or lies in"),
        (lambda place: "docs/out", "is, holds, or lies in"),
        (lambda place: "rows", "is, holds, or lies in"),
        (lambda place: "rows/out", "is, holds, or lies in"),
        (lambda place: "rows/small", "is, holds, or lies in"),
        (lambda place: "rows/small/out", "is, holds, or lies in"),
    ],
)
@needs_vega
def test_a_folder_that_is_not_the_sites_is_left_as_it_is(
    place: Path,
    make: Callable[[Path], str],
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = make(place)
    before = everything(place)
    assert main(["site", "rows", "--out", out]) == 2
    said = capsys.readouterr().err
    assert f"--out {out}: " in said and told in said
    assert "accepted: a new or empty folder, or one that ablation-report site wrote" in said
    assert everything(place) == before


def test_a_list_that_names_what_lies_elsewhere_deletes_nothing(place: Path) -> None:
    far_list(place)
    (place / "site" / "x.txt").unlink()
    write("site")
    assert (place / "docs" / "index.md").is_file()


def test_a_home_folder_is_not_written_into(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "people" / "me").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(place / "people" / "me"))
    for out in ("people/me", "people"):
        with pytest.raises(UsageError, match="is or holds"):
            write(out)
    write("people/me/site")


@pytest.mark.parametrize("is_there", [False, True])
def test_a_missing_or_empty_folder_is_written_into(place: Path, is_there: bool) -> None:
    if is_there:
        (place / "out").mkdir()
    write("out")
    listed = (place / "out" / LIST_NAME).read_text().splitlines()[1:]
    assert sorted([*listed, LIST_NAME]) == sorted(everything(place / "out"))


def test_written_anew_nothing_old_stays(place: Path) -> None:
    write("out")
    assert (place / "out/runs/small.md").is_file()
    (place / "rows" / "small").rename(place / "rows" / "large")
    write("out")
    assert (place / "out/runs/large.md").is_file() and not (place / "out/runs/small.md").exists()


def test_what_a_killed_run_left_is_known(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Path.write_bytes
    written: list[Path] = []

    def killed(path: Path, content: bytes) -> int:
        if len(written) == 4:
            whole(path, content[:3])
            raise KeyboardInterrupt
        written.append(path)
        return whole(path, content)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            write("out")
    assert len(everything(place / "out")) == 6
    write("out")
    write("other")
    assert everything(place / "out") == everything(place / "other")


def test_a_page_that_cannot_be_made_leaves_the_last_site(place: Path) -> None:
    write("out")
    before = everything(place / "out")
    (place / "docs" / "more.md").write_text("<!-- generated: nonsense -->\n")
    with pytest.raises(UsageError, match="no generated block 'nonsense'"):
        write("out")
    (place / "docs" / "more.md").write_bytes(b"na\xefve")
    with pytest.raises(UsageError, match=r"docs/more\.md: no UTF-8 from byte 3 on"):
        write("out")
    assert everything(place / "out") == before


@pytest.mark.parametrize("page", ["runs/small.md", "runs/Small.md", "configs/toy.md"])
def test_a_page_of_a_generated_name_is_refused(place: Path, page: str) -> None:
    (place / "docs" / page).parent.mkdir()
    (place / "docs" / page).write_text("# By hand\n")
    with pytest.raises(UsageError, match=f"two pages have one name: {page} and "):
        write("out")
    assert not (place / "out").exists()


@needs_vega
@pytest.mark.parametrize("out", ["pages", "build/pages"])
def test_a_configuration_of_the_user_is_kept(
    place: Path, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = (place / out).parent / "zensical.toml"
    config.parent.mkdir(exist_ok=True)
    config.write_text(kept := (place / "zensical.toml").read_text())
    assert main(["site", "rows", "--out", out]) == 2
    assert "zensical.toml: exists and was not written by" in capsys.readouterr().err
    assert config.read_text() == kept and not (place / out).exists()


@needs_vega
def test_a_whole_site_is_written_twice(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["site", "rows", "--out", "build/pages"]) == 0
    assert (place / "build/zensical.toml").read_text().startswith(CONFIG_OPENING)
    assert "wrote build/pages, build/zensical.toml" in capsys.readouterr().out


@needs_vega
@pytest.mark.parametrize("lack", ["zensical.toml", "docs/index.md", "rows/small/run.json"])
def test_what_is_missing_is_told_in_words(
    place: Path, lack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / lack).unlink()
    if lack.startswith("docs"):
        (place / "docs").rmdir()
    assert main(["site", "rows", "--out", "build/pages"]) == 1
    assert lack.partition("/index")[0] in capsys.readouterr().err
    # What is left out of the pages does not keep them from being written
    assert (place / "build/pages").exists() == lack.startswith("rows")


def test_a_summary_replaces_a_summary_alone(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for layout in ("csv", "md", "parquet"):
        for _ in range(2):
            assert main(["export", "rows", "--format", layout, "--out", "s.out"]) == 0
    (place / "rows" / "small" / "rows.jsonl").chmod(0o644)
    for path in ("rows/small/rows.jsonl", "docs/index.md"):
        kept = (place / path).read_bytes()
        assert main(["export", "rows", "--out", path]) == 2
        assert (
            f"--out {path}: exists, and ablation-report did not write it" in capsys.readouterr().err
        )
        assert (place / path).read_bytes() == kept
    assert main(["export", "rows", "--out", "docs"]) == 2
    assert main(["export", "rows", "--out", "nowhere/s.csv"]) == 1
    assert main(["export", "rows", "--out", os.devnull]) == 0
    assert not Path(os.devnull).is_file()
    assert sorted(path.name for path in place.iterdir()) == [
        *("docs", "rows", "s.out", "zensical.toml"),
    ]
