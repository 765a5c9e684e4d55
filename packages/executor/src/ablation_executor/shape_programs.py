"""A module for inputs of any shapes: a program for each set of shapes, made when it first comes."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import ablation_kernels

from . import arguments
from .capturing import capturing
from .compiler import CompiledProgram, compile
from .ir import Array, Graph
from .model_copy import ModelCopy, Shapes
from .passes import DEFAULT_PASSES, optimize
from .refusal import ExportError
from .signature import Captured
from .walker import Walker
from .workspace import Workspace

if TYPE_CHECKING:
    import torch

    from .symbolic import SymbolicCapture


class ShapePrograms:
    """A module in eval mode, called with inputs of any shapes that it can take.

    Call it as a `CompiledProgram`: inputs by position or name, NumPy arrays or CPU tensors in,
    NumPy arrays out. A call with shapes that have no program makes one: `optimize` and `compile`
    take about as long as for a graph of `export`. The `max_programs` sets of shapes that were used
    last keep theirs. Programs share one workspace: equal constants, packed weights and the arena
    are there once, and calls of several threads take turns.

    The module is copied: programs are the model as it was then, whenever they are made. It is
    captured once for sizes that PyTorch can leave open. `accepted` names them. For other shapes,
    as those with a size of 1 where there was none, the copy is captured again. A module that
    PyTorch cannot capture with open sizes is captured for each set of shapes.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        ranges: Mapping[str, tuple[int, int]] | None = None,
        passes: Iterable[str] = DEFAULT_PASSES,
        kernels: Mapping[str, str] | None = None,
        threads: int | None = None,
        max_programs: int = 8,
    ) -> None:
        """Make the program for the shapes of example arguments.

        `args`, `kwargs` and `ranges` are those of `export`, `passes` those of `optimize`,
        `kernels` and `threads` those of `compile`. Arguments that are no tensors are constants.
        Errors are those of the three. TypeError or ValueError: `max_programs` is no whole number
        of at least 1; ExportError: the module cannot be copied.
        """
        if isinstance(max_programs, bool) or not isinstance(max_programs, int):
            raise TypeError(
                f"max_programs is {max_programs!r}; accepted: a whole number of at least 1"
            )
        if max_programs < 1:
            raise ValueError(
                f"max_programs is {max_programs}; accepted: a whole number of at least 1"
            )
        self.max_programs = max_programs
        self._ranges, self._passes, self._kernels = ranges or {}, tuple(passes), kernels
        self._workspace = Workspace()
        self._programs: OrderedDict[Shapes, CompiledProgram] = OrderedDict()
        self._captures: list[SymbolicCapture] = []
        self._why_fixed = ""
        with capturing():
            if threads is not None:
                ablation_kernels.set_num_threads(threads)
            self._model = ModelCopy(module, args, kwargs)
            first = self._build(self._model.shapes, self._graph(self._model.shapes))
        self.input_names, self.output_names = first.input_names, first.output_names

    def __call__(self, *inputs: Any, out: Any = None, **named: Any) -> Any:
        """Run once, by the program for the shapes of the inputs, as `CompiledProgram` does.

        TypeError or ValueError names the input that does not fit. ExportError: the module cannot
        be captured for these shapes; it names them, the reason, and the shapes that are accepted.
        """
        given = arguments.bound(self.input_names, inputs, named) if named else inputs
        return self._program(given)(*given, out=out)

    def named(self, *inputs: Any, **named: Any) -> dict[str, Array]:
        """Run once and return the outputs by their names; inputs as in a call."""
        given = arguments.bound(self.input_names, inputs, named)
        return self._program(given).named(*given)

    def program(self, *inputs: Any, **named: Any) -> CompiledProgram:
        """Return the program that runs these inputs, for its profile, plan or `save`."""
        return self._program(arguments.bound(self.input_names, inputs, named))

    @property
    def shapes(self) -> list[Shapes]:
        """The sets of shapes that have a program now, the last used at the end."""
        return list(self._programs)

    @property
    def packed_bytes(self) -> int:
        """Bytes of packed weights of all programs, each counted once."""
        return self._workspace.packed_bytes

    @property
    def constant_bytes(self) -> int:
        """Bytes of constants of all programs, the model's weights too, each counted once."""
        return self._workspace.constant_bytes

    @property
    def accepted(self) -> str:
        """The shapes that need no other capture, a line for each capture.

        Letters are sizes that are open, with their conditions.
        """
        lines = [known.accepted() for known in self._captures]
        if self._why_fixed:
            lines.append(f"each set of shapes apart, since sizes stay fixed: {self._why_fixed}")
        return "\n".join(lines)

    # Programs -------------------------------------------------------------------------------------

    def _program(self, given: Sequence[Any]) -> CompiledProgram:
        shapes = tuple(map(_shape, given))
        program = self._programs.get(shapes)
        # A program refuses more threads than it was built for.
        if program is None or program.threads < ablation_kernels.get_num_threads():
            return self._made(shapes, given)
        with contextlib.suppress(KeyError):  # another thread has dropped it just now
            self._programs.move_to_end(shapes)
        return program

    def _made(self, shapes: Shapes, given: Sequence[Any]) -> CompiledProgram:
        """The program for shapes that had none, or one for fewer threads."""
        self._model.check(given, shapes)
        with capturing():
            known = self._programs.get(shapes)
            if known is not None and known.threads >= ablation_kernels.get_num_threads():
                return known  # Another thread has built it meanwhile
            try:
                graph = self._graph(shapes)
            except ExportError as error:
                raise ExportError(
                    f"no program for {self._model.text(shapes)}: {error}\nshapes that are accepted:"
                    f" {self.accepted or 'those of the example arguments'}",
                    error.refusals,
                ) from error
            return self._build(shapes, graph)

    def _build(self, shapes: Shapes, graph: Graph) -> CompiledProgram:
        graph, _ = optimize(graph, self._passes)
        program = compile(graph, kernels=self._kernels, workspace=self._workspace)
        self._programs[shapes] = program
        self._programs.move_to_end(shapes)
        # Behind the new one, so that the weights of the last program stay packed.
        while len(self._programs) > self.max_programs:
            self._programs.popitem(last=False)
        return program

    # Graphs ---------------------------------------------------------------------------------------

    def _graph(self, shapes: Shapes) -> Graph:
        """The graph for shapes: of a capture that holds for them, else of a new one."""
        from .symbolic import NotCovered, SymbolicCapture

        for known in self._captures:
            try:
                return self._walk(known.at(shapes))
            except (NotCovered, ExportError):
                continue
        if not self._why_fixed:
            try:
                new = SymbolicCapture(self._model.capture(shapes, any_sizes=True))
                graph = self._walk(new.at(shapes))
            except (NotCovered, ExportError) as error:
                why = str(error).strip().split("\n")[0]
            else:
                self._keep(new)
                return graph
            graph = self._walk(self._model.capture(shapes))
            self._why_fixed = why
            return graph
        return self._walk(self._model.capture(shapes))

    def _keep(self, new: SymbolicCapture) -> None:
        if new.is_open:
            self._captures = [*self._captures, new][-self.max_programs :]

    def _walk(self, captured: Captured) -> Graph:
        program = captured.program
        known = {**program.state_dict, **program.constants}
        arrays = {name: array for name, array in self._model.arrays.items() if name in known}
        return Walker(captured, self._ranges, arrays).walk()


def _shape(given: Any) -> tuple[int, ...]:
    shape = getattr(given, "shape", None)
    return tuple(np.shape(given) if shape is None else shape)
