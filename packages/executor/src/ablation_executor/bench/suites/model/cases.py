"""The cases of the suite: what `--module` and `--model` name, as sizes of a label."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from ...case import MAX_BATCH, Case, make_case
from ...interrupt import UsageError
from ...names import resolve_names, split_names
from ...options import whole_number
from ...runtimes import is_installed
from . import architectures
from .architectures import ATTENTIONS, BY_NAME, DEFAULT_LENGTH, MAX_LENGTH, REAL, SDPA, SOURCES

SUITE_NAME = "model"
LAYER, WHOLE, MODULE = "layer", "whole", "module"
TIERS = {
    LAYER: "layers of a named model, without embedding and head",
    WHOLE: "a named model from its token ids, image or sound to its result",
    MODULE: "your module: --module path.py:factory",
}
# What a run without names measures: it needs PyTorch alone.
DEFAULT_MODELS = ("encoder-pre-norm", "nanogpt")
MAX_LAYERS = 128
SHAPING = ("whole", "layers", "seq", "batch", "attention", "size")
CASE_OPTIONS = ("module", "model", *SHAPING)


def add_options(parser: argparse.ArgumentParser, *, has_sizes: bool = False) -> None:
    """Add the options that choose cases; `has_sizes` where `--layers` and `--batch` are there."""
    add = parser.add_argument
    factory = "a function that returns a module and its example inputs"
    add("--module", metavar="PATH:NAME", help=f"{factory}, as in block.py:make")
    add("--model", metavar="A,B", help="models by name, or all")
    add("--list-models", action="store_true", help="list the models and exit")
    add("--whole", action="store_true", help="the whole model, not only its layers")
    if not has_sizes:
        layers = "layers of a named model (default: 1, with --whole all)"
        add("--layers", type=whole_number(1, MAX_LAYERS), metavar="N", help=layers)
        add(
            "--batch",
            type=whole_number(1, MAX_BATCH),
            metavar="N",
            help="batch of a named model (default: 1)",
        )
    length = f"sequence length of a named model (default: {DEFAULT_LENGTH})"
    add("--seq", type=whole_number(1, MAX_LENGTH), metavar="N", help=length)
    attention = f"attention of a named model (default: {SDPA})"
    add("--attention", choices=ATTENTIONS, help=attention)
    size = f"the real model, or one of its structure that is 128 wide (default: {REAL})"
    add("--size", choices=architectures.SIZES, help=size)


def is_asked_for(options: argparse.Namespace, shaping: Sequence[str] = SHAPING) -> bool:
    """Return whether a command names modules or models; UsageError where it does not, and has
    options (`shaping`) that shape one."""
    if options.module is not None or options.model is not None:
        return True
    if given := [name for name in shaping if getattr(options, name)]:
        raise UsageError(f"--{given[0]} needs --model")
    return False


def named_cases(options: argparse.Namespace, threads: Sequence[int]) -> list[Case]:
    """Return the cases of `--module` and `--model`; UsageError for what they cannot be."""
    if options.module is not None and options.model is not None:
        raise UsageError("--module and --model: give one of them")
    if options.module is not None:
        if shaping := [name for name in SHAPING if getattr(options, name)]:
            given = ", ".join(f"--{name}" for name in shaping)
            raise UsageError(f"{given}: options of --model; --module takes them from its factory")
        return [module_case(options.module, count) for count in threads]
    names: Sequence[str] = architectures.NAMES
    if options.model.strip().lower() != "all":
        names = resolve_names("model", split_names(options.model), names)
    _refuse_missing(names)
    return [_model_case(name, options, count) for count in threads for name in names]


def module_case(text: str, threads: int) -> Case:
    """Return the case of a factory; UsageError where its file is not there."""
    place, colon, name = text.rpartition(":")
    if not colon or not name.isidentifier() or not place.endswith(".py"):
        raise UsageError(f"--module {text!r}; accepted: path.py:factory, as in block.py:make")
    if not Path(place).is_file():
        raise UsageError(f"--module {text!r}: no such file {place}")
    return make_case(SUITE_NAME, MODULE, threads=threads, module=quote(text, safe="/:.~"))


def is_of_module(case: Case) -> bool:
    """Return whether a case is of a user's module or a named model."""
    return case.get("module") is not None or case.get("model") is not None


def factory_of(case: Case) -> str | None:
    """Return the factory of a case, as it was given; None of a named model."""
    given = case.get("module")
    return None if given is None else unquote(str(given))


def _model_case(name: str, options: argparse.Namespace, threads: int) -> Case:
    """Return the case of a named model by the options; UsageError for what the model has not."""
    model = BY_NAME[name]
    if options.seq is not None and not model.has_length:
        raise UsageError(f"--seq: {name} has a fixed length")
    attention = options.attention or model.attentions[0]
    if attention not in model.attentions:
        accepted = ", ".join(model.attentions)
        raise UsageError(f"--attention {attention}: {name} accepts {accepted}")
    layers = options.layers or (model.n_layers if options.whole else 1)
    return model_case(
        name,
        is_whole=options.whole,
        layers=min(layers, model.n_layers),
        attention=attention,
        size=options.size or REAL,
        batch=options.batch or 1,
        length=options.seq or DEFAULT_LENGTH,
        threads=threads,
    )


def model_case(
    name: str,
    *,
    is_whole: bool = False,
    layers: int = 1,
    attention: str = SDPA,
    size: str = REAL,
    batch: int = 1,
    length: int = DEFAULT_LENGTH,
    threads: int = 1,
) -> Case:
    """Return the case of a named model; what is usual is no part of its label."""
    sizes: dict[str, Any] = {"model": name, "B": batch, "layers": layers}
    if BY_NAME[name].has_length:
        sizes |= {"Nq": length, "Nk": length}
    sizes |= {"attention": attention} if attention != SDPA else {}
    sizes |= {"size": size} if size != REAL else {}
    return make_case(SUITE_NAME, WHOLE if is_whole else LAYER, threads=threads, **sizes)


def settings_of(case: Case) -> dict[str, Any]:
    """Return what makes the model of a case, as `Architecture.build` takes it."""
    return {
        "layers": int(case.get("layers")),
        "is_whole": case.tier == WHOLE,
        "size": str(case.get("size", REAL)),
        "batch": case.B,
        "length": int(case.get("Nq", DEFAULT_LENGTH)),
        "attention": str(case.get("attention", SDPA)),
    }


def _refuse_missing(names: Sequence[str]) -> None:
    """Raise UsageError where a library of the models is not installed."""
    for source, (distribution, how) in SOURCES.items():
        needing = [name for name in names if BY_NAME[name].source == source]
        if needing and not is_installed(distribution):
            raise UsageError(f"{', '.join(needing)}: {distribution} is not installed: {how}")


def model_lines() -> list[str]:
    """Return what `--list-models` prints: a line for each model."""
    head = f"  {'name':<18} {'family':<10} {'layers':>6} {'width':>6}  {'library':<13} attention"
    lines = [f"{len(BY_NAME)} models of {len(architectures.FAMILIES)} families", head]
    for model in BY_NAME.values():
        library = "own" if model.family == "nanogpt" else model.source
        lines.append(
            f"  {model.name:<18} {model.family:<10} {model.n_layers:>6} {model.width:>6}  "
            f"{library:<13} {', '.join(model.attentions)}"
        )
    return lines
