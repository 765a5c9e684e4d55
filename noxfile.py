"""Sessions for building, testing, measuring and documenting the three packages.

Every session runs on the interpreter that runs nox, installs what constraints.txt pins and nothing
else, and puts the wheel built from this tree over whatever version was there before.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "check_versions", "tests"]

ROOT = Path(__file__).parent.resolve()
CONSTRAINTS = ROOT / "constraints.txt"
# pip reads both: the first in every call, the second where it makes an environment to build in. As
# an address, since pip splits the value at spaces.
os.environ |= dict.fromkeys(("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT"), CONSTRAINTS.as_uri())
BUILD = ROOT / "build"
PACKAGES = ("kernels", "executor", "report")
KERNELS = "packages/kernels"
PYTHON_SOURCES = ("packages", "noxfile.py", ".ci")

# One set for every session that compiles without isolation
BUILD_TOOLS = ("scikit-build-core", "nanobind", "cmake", "ninja")
BUILD_BACKENDS = (*BUILD_TOOLS, "hatchling")
LINT_TOOLS = ("ruff", "mypy", "clang-format", "codespell", "check-jsonschema", "zizmor")
# What mypy reads to know the types that the packages take from others; torch is left out on purpose
TYPED_DEPENDENCIES = (
    "numpy",
    "polars",
    "altair",
    "psutil",
    "rich",
    "pytest",
    "nox",
    "packaging",
    "hypothesis",
)
# What the extra `bench` brings besides the report
BENCH_TOOLS = ("psutil", "rich", "torch")
MODELS = "data/models.json"
RELEASE_TOOLS = ("build", "twine", "abi3audit", "virtualenv")
# The versions that the packages name
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# The wheel of 3.11 serves that alone; the stable ABI begins with 3.12 and serves all later ones
WHEEL_TAGS = {"3.11": "-cp311-cp311-", "3.12": "-cp312-abi3-"}
SITE_TOOLS = ("zensical", "mkdocstrings-python", "vl-convert-python")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
TEST_TOOLS = ("pytest", "pytest-xdist")
# Each process has a part of the list in its order, and takes from the end of another's. One with
# PyTorch and its compiler takes about a gigabyte.
SHARED = ("-n", "logical", "--maxprocesses", "4", "--dist", "worksteal")
# Words for pytest with which one process has all tests: output as it comes, a debugger, or words
# that say themselves how the tests are shared
IN_ONE_PROCESS = re.compile(
    r"-[lqvx]*s|--capture=no|--pdb|--trace$|--co(llect-only)?$|-n|--numproc|--dist|-d$"
)
# Marks the built site: nothing without it is deleted
SITE_MARK = ".built-by-nox"


def pip_install(session: nox.Session, *arguments: str) -> None:
    """Install under constraints.txt; name a package that has no pin there, and in CI fail."""
    session.install(*arguments)
    codes = [0] if "CI" in os.environ else [0, 1]
    session.run("python", ".ci/check_pins.py", log=False, success_codes=codes)


def delete_built(folder: Path) -> None:
    """Delete the wheels and sdists of this tree's packages in a folder, and nothing else."""
    for path in folder.glob("ablation_*"):
        if path.name.endswith((".whl", ".tar.gz")):
            path.unlink()


def build_wheel(session: nox.Session, flavor: str, *defines: str) -> Path:
    """Build the kernels wheel incrementally and return its path.

    A flavor has a build folder and an output folder of its own, so that a sanitized object never
    meets a plain one. Build isolation would give CMake a new nanobind path each time and so
    recompile everything.
    """
    pip_install(session, *BUILD_TOOLS)
    out = BUILD / "wheels" / flavor
    delete_built(out)
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    session.run(
        "python",
        *("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(out)),
        f"-Cbuild-dir={BUILD / f'kernels-{flavor}-{tag}'}",
        *(f"-Ccmake.define.{define}" for define in defines),
        KERNELS,
        # pip refuses it where there is no environment of the build's own
        env={"PIP_BUILD_CONSTRAINT": None},
    )
    return built_wheel(session, flavor)


def built_wheel(session: nox.Session, flavor: str = "plain") -> Path:
    """Return the one wheel of this flavor."""
    wheels = list((BUILD / "wheels" / flavor).glob("ablation_kernels-*.whl"))
    if len(wheels) != 1:
        session.error(f"expected one {flavor} kernels wheel, found {len(wheels)}: run nox -s wheel")
    return wheels[0]


def replace_wheels(session: nox.Session, *wheels: Path) -> None:
    """Install wheels over the same version.

    pip keeps an installed package whose version number did not change, and `nox -R` skips
    session.install: either would test or time old kernels without a word.
    """
    session.run(
        "python",
        *("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--force-reinstall"),
        *map(str, wheels),
    )


def install_packages(session: nox.Session, packages: tuple[str, ...], *others: str) -> None:
    """Install packages of this tree with their dependencies, the kernels from the built wheel."""
    wheel = built_wheel(session) if {"kernels", "executor"} & set(packages) else None
    editable = [f"packages/{name}" for name in packages if name != "kernels"]
    pip_install(
        session,
        *([str(wheel)] if wheel else []),
        *(part for path in editable for part in ("-e", path)),
        *others,
    )
    if wheel:
        replace_wheels(session, wheel)


def install_wheels(session: nox.Session, *others: str) -> None:
    """Install all packages of this tree as their users have them: each from its built wheel."""
    out = BUILD / "wheels" / "pure"
    delete_built(out)
    paths = [f"packages/{name}" for name in PACKAGES if name != "kernels"]
    session.run("python", "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(out), *paths)
    wheels = [built_wheel(session), *sorted(out.glob("*.whl"))]
    pip_install(session, *map(str, wheels), *others)
    replace_wheels(session, *wheels)


def run_pytest(session: nox.Session, *words: str, env: dict[str, str] | None = None) -> None:
    """Run pytest with the words of the command line, the tests shared among the processors.

    PyTorch then has one thread in each process, unless OMP_NUM_THREADS is set: threads of several
    processes that spin on one processor hold each other up.
    """
    if any(map(IN_ONE_PROCESS.match, session.posargs)):
        session.run("python", "-m", "pytest", *words, env=env)
        return
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    session.run("python", "-m", "pytest", *SHARED, *words, env={**threads, **(env or {})})


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the kernels wheel, incrementally; sessions that need it ask for it by themselves."""
    session.log(f"built {build_wheel(session, 'plain')}")


@nox.session(requires=["wheel"])
def tests(session: nox.Session) -> None:
    """Run the tests of all packages, or of those named: `nox -s tests -- kernels report`.

    What follows the names goes to pytest: `nox -s tests -- executor -k memory -x`. The tests are
    shared among the processors; with `-s`, `--pdb` or `-n 0` one process has all of them.
    """
    count = next(
        (i for i, word in enumerate(session.posargs) if word not in PACKAGES), len(session.posargs)
    )
    chosen = tuple(session.posargs[:count]) or PACKAGES
    others = {
        "executor": (*BENCH_TOOLS, "safetensors", "expecttest", "onnx"),
        "report": ("zensical", "hypothesis", "pyperf"),
    }
    # The bench writes rows by the report's schema
    needed = tuple(name for name in PACKAGES if name in chosen or "executor" in chosen)
    extra = (tool for name in chosen for tool in others.get(name, ()))
    install_packages(session, needed, *TEST_TOOLS, *extra)
    failed = []
    for name in chosen:
        try:
            run_pytest(session, f"packages/{name}", *session.posargs[count:])
        except CommandFailed:
            failed.append(name)
    if failed:
        session.error(f"tests failed in {', '.join(failed)}")


@nox.session
def lint(session: nox.Session) -> None:
    """Check format, style, types, spelling and workflows; `-- --fix` mends what it can."""
    pip_install(session, *LINT_TOOLS, *TYPED_DEPENDENCIES)
    fix = "--fix" in session.posargs
    session.run("ruff", "check", *(["--fix"] if fix else []), *PYTHON_SOURCES)
    session.run("ruff", "format", *([] if fix else ["--check"]), *PYTHON_SOURCES)
    scripts = (str(path.relative_to(ROOT)) for path in sorted((ROOT / ".ci").glob("*.py")))
    session.run("mypy", "noxfile.py", *scripts)
    for name in PACKAGES:
        session.run("mypy", f"packages/{name}/src", f"packages/{name}/tests")
    sources = [
        str(path.relative_to(ROOT))
        for suffix in ("h", "cpp")
        for path in sorted((ROOT / KERNELS).rglob(f"*.{suffix}"))
    ]
    if sources:
        session.run("clang-format", *(["-i"] if fix else ["--dry-run", "--Werror"]), *sources)
    session.run("codespell")
    workflows = ".github/workflows"
    files = [str(path.relative_to(ROOT)) for path in sorted((ROOT / workflows).glob("*.yml"))]
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *files)
    session.run("zizmor", "--offline", "--no-progress", workflows)
    citation = "vendor.citation-file-format"
    session.run("check-jsonschema", "--builtin-schema", citation, "CITATION.cff")


@nox.session(requires=["wheel"])
def bench(session: nox.Session) -> None:
    """Measure the ladder, the main job: `nox -s bench -- --configs Toy,Small`.

    Or another suite: `nox -s bench -- --suite attention-sweep --quick`.
    """
    install_packages(session, ("executor", "report"), *BENCH_TOOLS)
    session.run("python", "-m", "ablation_executor.bench", *session.posargs)


@nox.session(requires=["wheel"])
def league(session: nox.Session) -> None:
    """Measure the best of ours against other runtimes: `nox -s league -- --configs Toy,Small`."""
    install_packages(session, ("executor", "report"), *BENCH_TOOLS)
    pip_install(session, "-e", "packages/executor[baselines]")
    # Other variants that the caller names win; a resumed run has its own
    chosen = () if "--resume" in session.posargs else ("--variants", "league")
    session.run("python", "-m", "ablation_executor.bench", *chosen, *session.posargs)


@nox.session(requires=["wheel"])
def models(session: nox.Session) -> None:
    """Write data/models.json: what is covered of each named model; `-- --models gpt2` for some."""
    install_packages(session, ("executor", "report"), *BENCH_TOOLS)
    pip_install(session, "-e", "packages/executor[models]")
    # It asks for torchvision, of which its vision transformers need nothing
    pip_install(session, "--no-deps", "timm")
    out = () if any("--models" in word for word in session.posargs) else ("--out", MODELS)
    session.run(
        *("python", "-m", "ablation_executor.bench.suites.model.coverage", *out),
        *session.posargs,
    )


@nox.session
def report(session: nox.Session) -> None:
    """Print the tables of a run, `nox -s report -- data/runs/RUN`; check all data without one."""
    install_packages(session, ("report",))
    if session.posargs:
        session.run("python", "-m", "ablation_report", "show", *session.posargs)
    else:
        session.run("python", "-m", "ablation_report", "check", "data/published", "data/runs")


def committed_runs(session: nox.Session) -> tuple[list[str], list[str]]:
    """Return the run folders that git tracks, and those that lie beside them."""
    listed = session.run("git", "ls-files", "data/runs", external=True, silent=True, log=False)
    tracked = {"/".join(line.split("/")[:3]) for line in str(listed).splitlines()}
    found = sorted(path for path in (ROOT / "data" / "runs").iterdir() if path.is_dir())
    names = [path.relative_to(ROOT).as_posix() for path in found]
    return [n for n in names if n in tracked], [n for n in names if n not in tracked]


@nox.session(requires=["wheel"])
def docs(session: nox.Session) -> None:
    """Build the site into site/ from the committed rows; `-- --mine` adds your own, `-- serve`.

    `--mine` shows the run folders that follow it as those of your machine; without one, all below
    data/runs that git does not track. `serve` serves the site. The blocks of README.md are written
    anew; in CI they have to be current. The reference is read from the installed wheels, so that it
    shows what a user gets.
    """
    site = ROOT / "site"
    if site.is_symlink() or (site.exists() and not (site / SITE_MARK).is_file()):
        session.error(f"{site}: not built by this session (no {SITE_MARK}); move it away")
    install_wheels(session, *SITE_TOOLS)
    folder = BUILD / "docs"
    config = str(folder / "zensical.toml")
    tracked, own = committed_runs(session)
    words = session.posargs
    named = words[words.index("--mine") + 1 :] if "--mine" in words else []
    named = [word for word in named if word != "serve"]
    if wrong := [word for word in named if not (ROOT / word / "run.json").is_file()]:
        session.error(f"--mine: {wrong[0]} is no run folder (no run.json)")
    readme = ROOT / "README.md"
    before = readme.read_bytes()
    session.run(
        *("python", "-m", "ablation_report", "site", "data/published", *tracked),
        *("--mine", *((named or own) if "--mine" in words else ())),
        *("--readme", "README.md", "--out", str(folder / "pages")),
    )
    if "CI" in os.environ and readme.read_bytes() != before:
        session.error("README.md: its blocks are not those of the rows; run nox -s docs, commit it")
    # Zensical writes beside its configuration and takes no path that leads upwards
    session.run("zensical", "build", "--strict", "--clean", "-f", config)
    # Before it is moved: a session that is killed leaves nothing unmarked
    (folder / "site" / SITE_MARK).touch()
    if site.exists():
        shutil.rmtree(site)
    shutil.move(folder / "site", site)
    session.run("python", ".ci/check_site.py", "site", config)
    if "serve" in session.posargs:
        session.run(
            *("python", "-m", "http.server", "--directory", "site", "--bind", "127.0.0.1", "8000")
        )


@nox.session(requires=["docs"])
def site_tests(session: nox.Session) -> None:
    """Open the built site in a headless Chromium without a network; skipped where there is none."""
    if not any(map(shutil.which, BROWSERS)):
        session.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    install_packages(session, ("report",), *TEST_TOOLS, "playwright")
    run_pytest(
        session,
        *(f"packages/report/tests/test_site_{part}.py" for part in ("browser", "questions")),
        env={"ABLATION_SITE": str(ROOT / "site")},
    )


@nox.session
def check_versions(session: nox.Session) -> None:
    """Check that versions, pins, changelogs and Pythons agree; `-- --tag=kernels-v0.1.0` a tag."""
    pip_install(session, "packaging")
    tags = [word.removeprefix("--tag=") for word in session.posargs if word.startswith("--tag=")]
    session.run("python", ".ci/check_versions.py", *tags)


@nox.session
def build(session: nox.Session) -> None:
    """Build the sdist and the wheel of every package into dist/, each in isolation as pip would."""
    # What the isolated builds install, so that each of it is seen to have a pin
    pip_install(session, "build", *BUILD_BACKENDS)
    delete_built(ROOT / "dist")
    for name in PACKAGES:
        session.run("python", "-m", "build", "--outdir", "dist", f"packages/{name}")


def make_environments(session: nox.Session) -> dict[str, str]:
    """Make an empty environment for each version of Python that nox would find.

    Returns the path of its interpreter by version.
    """
    found = {}
    for version in PYTHONS:
        folder = BUILD / f"release-{version}"
        shutil.rmtree(folder, ignore_errors=True)
        session.run("virtualenv", "-q", "-p", version, str(folder), success_codes=[0, 1])
        if (python := folder / "bin" / "python").exists():
            found[version] = str(python)
    return found


def build_release(session: nox.Session, environments: dict[str, str]) -> Path:
    """Build all sdists, and all wheels whose Python is there; return their folder."""
    out = BUILD / "release"
    delete_built(out)
    for name in PACKAGES:
        session.run("python", "-m", "build", "--outdir", str(out), f"packages/{name}")
    sdist = next(out.glob("ablation_kernels-*.tar.gz"))
    for version, tag in WHEEL_TAGS.items():
        if version in environments and not any(out.glob(f"*{tag}*.whl")):
            command = ("-m", "pip", "wheel", "-q", "--no-deps", "-w", str(out), str(sdist))
            session.run(environments[version], *command, external=True)
    return out


def requirements(out: Path, version: str, extras: dict[str, str]) -> list[str] | None:
    """Name the built wheels of all packages for a Python; None if the kernels have none for it."""
    tag = WHEEL_TAGS.get(version, WHEEL_TAGS["3.12"])
    globs = {"kernels": f"ablation_kernels-*{tag}*.whl"}
    wheels = {
        name: next(out.glob(globs.get(name, f"ablation_{name}-*.whl")), None) for name in PACKAGES
    }
    found = [
        f"ablation-{name}{extras.get(name, '')} @ {wheel.as_uri()}"
        for name, wheel in wheels.items()
        if wheel is not None
    ]
    return found if len(found) == len(PACKAGES) else None


@nox.session
def release_check(session: nox.Session) -> None:
    """Check what a release uploads: contents, metadata, the stable ABI, the READMEs' examples.

    The sdists and wheels are installed from the files into empty environments. The examples run on
    the Python of the session. A saved program runs without PyTorch on each Python from 3.11 to 3.14
    that is found. What needs another Python is left out, and named at the end.
    """
    pip_install(session, *RELEASE_TOOLS, *BUILD_BACKENDS)
    environments = make_environments(session)
    out = build_release(session, environments)
    files = sorted(map(str, out.glob("ablation_*")))
    session.run("twine", "check", "--strict", *files)
    session.run("python", ".ci/check_distributions.py", *files)
    stable = [path for path in files if WHEEL_TAGS["3.12"] in path]
    if stable:
        session.run("abi3audit", "--strict", "--report", *stable)
    check_examples(session, out)
    left_out = [] if stable else ["the audit of the stable ABI: no Python 3.12 built a wheel"]
    for version in PYTHONS:
        wheels = requirements(out, version, {"executor": "[programs]"})
        python = environments.get(version)
        if python is None or wheels is None:
            left_out.append(f"Python {version}: {'no wheel' if python else 'not found'}")
            continue
        session.run(python, "-m", "pip", "install", "-q", *wheels, external=True)
        session.run(python, ".ci/saved_program.py", "load", str(BUILD), external=True)
        session.run(python, "-m", "ablation_report", "check", "data/published", external=True)
    for what in left_out:
        session.warn(f"left out: {what}")


def check_examples(session: nox.Session, out: Path) -> None:
    """Install the wheels with PyTorch into an empty environment; run examples and commands there,
    and save the program that runs without PyTorch."""
    folder = BUILD / "release-environment"
    shutil.rmtree(folder, ignore_errors=True)
    session.run("python", "-m", "venv", str(folder))
    python = str(folder / "bin" / "python")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    wheels = requirements(out, version, {"executor": "[bench,programs]"})
    if wheels is None:
        session.error(f"no wheel of the kernels for Python {version} in {out}")
    session.run(python, "-m", "pip", "install", "-q", *wheels, external=True)
    readmes = ["README.md", *(f"packages/{name}/README.md" for name in PACKAGES)]
    pages = (*readmes, "docs/quick-start.md", "docs/extend.md")
    session.run(python, ".ci/run_examples.py", *pages, external=True)
    session.run(str(folder / "bin" / "ablation-bench"), "--list", external=True, silent=True)
    session.run(str(folder / "bin" / "ablation-report"), "check", "data/published", external=True)
    session.run(python, ".ci/saved_program.py", "save", str(BUILD), external=True)


def compiler_library(session: nox.Session, name: str) -> str:
    """Return the full path of a library that the C++ compiler brings."""
    compiler = os.environ.get("CXX", "c++")
    found = session.run(compiler, f"-print-file-name={name}", external=True, silent=True, log=False)
    path = Path(str(found).strip())
    if not path.is_absolute():
        session.error(f"{compiler} has no {name}")
    return str(path)


def sanitized_environment(session: nox.Session) -> dict[str, str]:
    """Variables under which Python loads a module that was built with AddressSanitizer."""
    # The runtime has to come before Python, and libstdc++ with it: the sanitizer looks up the
    # function that throws C++ exceptions when it starts.
    preload = [compiler_library(session, lib) for lib in ("libasan.so", "libstdc++.so.6")]
    return {
        "LD_PRELOAD": " ".join(preload),
        # Python frees little at exit; leaks of the kernels show in the allocation tests
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        "PYTHONMALLOC": "malloc",
    }


def install_sanitized(session: nox.Session, *others: str) -> None:
    """Install the kernels wheel that is built with AddressSanitizer and UBSan."""
    if sys.platform != "linux":
        session.skip("needs LD_PRELOAD and GCC's runtime libraries")
    wheel = build_wheel(session, "address", "ABLATION_SANITIZE=address")
    pip_install(session, str(wheel), *others)
    replace_wheels(session, wheel)


@nox.session
def sanitize_address(session: nox.Session) -> None:
    """Run the kernel tests under AddressSanitizer and UBSan (Linux, GCC)."""
    install_sanitized(session, *TEST_TOOLS)
    run_pytest(
        session,
        # A sanitizer writes to the file descriptor and ends the process: nothing may hold it back
        *("--capture=sys", "packages/kernels", *session.posargs),
        env=sanitized_environment(session),
    )


@nox.session
def fuzz(session: nox.Session) -> None:
    """Call the kernels at random for a minute under AddressSanitizer and UBSan (Linux, GCC).

    `-- --seed 7 --calls 1000000 --seconds 9000`; without a seed, that of the day, which is printed.
    """
    install_sanitized(session, "torch")
    session.run(
        *("python", "-m", "fuzz", *session.posargs),
        env={**sanitized_environment(session), "PYTHONPATH": f"{KERNELS}/tests"},
    )


@nox.session
def sanitize_thread(session: nox.Session) -> None:
    """Run the pool and the parallel kernels under ThreadSanitizer, in a C++ program (Linux)."""
    if sys.platform != "linux":
        session.skip("needs the OpenBLAS library")
    pip_install(session, *BUILD_TOOLS, "numpy", "scipy-openblas32")
    folder = BUILD / "thread"
    session.run(
        "cmake",
        *("-G", "Ninja", "-S", KERNELS, "-B", str(folder)),
        *("-DABLATION_SANITIZE=thread", "-DABLATION_STRESS=ON"),
    )
    session.run("cmake", "--build", str(folder), "--target", "thread_stress")
    library = session.run(
        "python",
        "-c",
        "import scipy_openblas32 as o; print(o.get_lib_dir(), o.get_library())",
        silent=True,
    )
    directory, name = str(library).strip().splitlines()[-1].rsplit(" ", 1)
    openblas = next(Path(directory).glob(f"*{name.removeprefix('lib')}*"), None)
    if openblas is None:
        session.error(f"no {name} in {directory}")
    # Wide address randomization can put a mapping where the sanitizer wants its shadow memory
    fixed = ("setarch", "-R") if shutil.which("setarch") else ()
    session.run(
        *fixed,
        str(folder / "thread_stress"),
        # How many times as long as usual; words for pytest in the same call are not for this
        *(word for word in session.posargs if word.isdigit()),
        env={"ABLATION_OPENBLAS": str(openblas), "TSAN_OPTIONS": "halt_on_error=1"},
        external=True,
    )


@nox.session
def apple_shim(session: nox.Session) -> None:
    """Run the kernel tests with the Apple providers, built against stand-in headers (Linux)."""
    if sys.platform == "darwin":
        session.skip("the tests session runs the real ones here")
    wheel = build_wheel(session, "apple-shim", "ABLATION_APPLE_SHIM=ON")
    pip_install(session, str(wheel), *TEST_TOOLS)
    replace_wheels(session, wheel)
    run_pytest(session, "packages/kernels", *session.posargs)
