"""Small graphs that a pass refuses to fuse, each with what a model's author can change.

The reason is never written here: `RefusedFusion.run` asks the passes for it. The site shows the
graphs, and a test holds that each reason in the passes has an example that prints it.
"""

from ._example import RefusedFusion as RefusedFusion
from .attention import EXAMPLES as _ATTENTION
from .linear import EXAMPLES as _LINEAR
from .norms import EXAMPLES as _NORMS
from .projections import EXAMPLES as _PROJECTIONS
from .rotations import EXAMPLES as _ROTATIONS

EXAMPLES: tuple[RefusedFusion, ...] = (
    *_ATTENTION,
    *_PROJECTIONS,
    *_ROTATIONS,
    *_NORMS,
    *_LINEAR,
)
