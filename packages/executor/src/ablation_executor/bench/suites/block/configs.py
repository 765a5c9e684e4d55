"""The model sizes of the benchmark, and the probes that every variant runs besides."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...case import Case, make_case

SUITE_NAME, TIER = "block", "configs"
# More than the deepest of the models that the sizes are named after.
MAX_LAYERS = 128


@dataclass(frozen=True)
class Config:
    """One size of the transformer block (pre-norm, 4x ReLU feed-forward, biases).

    `layers` blocks run one after another, each with weights of its own. `query_key_gain` multiplies
    the query and key weights, so that a probe's scores grow large.
    """

    name: str
    d_model: int
    n_heads: int
    seq_len: int
    batch: int = 1
    causal: bool = False
    query_key_gain: float = 1.0
    layers: int = 1

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.d_model // self.n_heads

    @property
    def flops(self) -> int:
        """Floating-point operations of one forward call: 24 S d^2 + 4 S^2 d for each layer."""
        s, d = self.seq_len, self.d_model
        return self.layers * self.batch * (24 * s * d * d + 4 * s * s * d)

    @property
    def layer_bytes(self) -> int:
        """Bytes of the float32 parameters of a layer: 12 d^2 + 13 d of them."""
        return 4 * (12 * self.d_model**2 + 13 * self.d_model)

    @property
    def weights_bytes(self) -> int:
        """Bytes of the parameters of all layers."""
        return self.layers * self.layer_bytes

    @property
    def is_large(self) -> bool:
        """True for the widths at which the published run kept to eight variants."""
        return self.d_model >= 2048

    @property
    def is_long(self) -> bool:
        """True for the lengths that `--skip-large` leaves out."""
        return self.seq_len >= 4096

    @property
    def block_bytes(self) -> int:
        """Bytes of the block's input, and of its output."""
        return 4 * self.batch * self.seq_len * self.d_model

    def stacked(self, layers: int) -> Config:
        """This config with some number of layers; ValueError below 1."""
        if layers < 1:
            raise ValueError(f"layers is {layers}; accepted: 1 or more")
        return replace(self, layers=layers)

    def batched(self, batch: int) -> Config:
        """This config with some number of sequences; ValueError below 1."""
        if batch < 1:
            raise ValueError(f"batch is {batch}; accepted: 1 or more")
        return replace(self, batch=batch)

    def case(self, threads: int, layers: int | None = None) -> Case:
        """The case of this config on some threads, with its own layers or with `layers`.

        A single block has no size `layers`: its label is that of the runs before there were any.
        """
        layers = self.layers if layers is None else layers
        shape = (self.batch, self.n_heads, self.seq_len, self.seq_len, self.head_dim)
        deep = {"layers": layers} if layers != 1 else {}
        return make_case(
            SUITE_NAME, TIER, shape, causal=self.causal, threads=threads, config=self.name, **deep
        )


CONFIGS: tuple[Config, ...] = (
    Config("Toy", 64, 4, 32),
    Config("Small", 256, 4, 128),
    Config("Medium", 512, 8, 256),
    Config("GPT-2", 768, 12, 512),
    Config("1B", 2048, 16, 512),
    Config("3B", 3072, 24, 1024),
    Config("7B", 4096, 32, 1024),
    Config("7B-4K", 4096, 32, 4096),
    Config("1B-8K", 2048, 16, 8192),
)

QUICK_CONFIGS = ("Toy", "Small", "Medium", "GPT-2")

# Every variant also runs these, checked and never timed: shapes and values that show what the
# benchmark's own round sizes hide. The first has scores above 100, so that exp overflows where no
# maximum is subtracted, and a causal mask; both lengths are primes, one shorter and one longer
# than any tile.
PROBES: tuple[Config, ...] = (
    Config("probe-causal", 48, 3, 37, causal=True, query_key_gain=8.0),
    Config("probe-tiles", 48, 3, 1061),
)
# Where there are several layers, one may read the weights of another.
LAYERS_PROBE = Config("probe-layers", 48, 3, 37, layers=2)


def probes_of(config: Config) -> tuple[Config, ...]:
    """The probes that every variant of a config runs; several layers have one more."""
    return PROBES if config.layers == 1 else (*PROBES, LAYERS_PROBE)


def find_config(name: str) -> Config:
    """The config or probe of exactly this name; KeyError if there is none."""
    for config in (*CONFIGS, *PROBES, LAYERS_PROBE):
        if config.name == name:
            return config
    raise KeyError(name)


def config_of(case: Case) -> Config:
    """The config of a case, with its layers and batch; KeyError if there is none of its name."""
    config = find_config(str(case.get("config")))
    return config.stacked(int(case.get("layers", 1))).batched(case.B)


def peak_activation_bytes(config: Config, is_manual: bool) -> int:
    """Bytes that the block's activations take in torch at the worst moment of one call.

    Layers run one after another and leave only their result, so that there are no more with many.
    Manual attention: scores and their scaled copy (then that and the softmax) beside x, q, k, v
    and a contiguous copy of k. Otherwise the feed-forward: its activation before and after relu
    beside x, the norm and the result.
    """
    tokens = config.batch * config.seq_len
    block = tokens * config.d_model
    scores = config.batch * config.n_heads * config.seq_len**2
    attention = 2 * scores + 6 * block if is_manual else 7 * block
    return 4 * max(attention, 8 * block + 3 * block)
