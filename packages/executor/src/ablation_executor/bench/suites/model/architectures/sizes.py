"""The sizes of each model, as its publisher gives them in its configuration.

`config`, `layer_model` and `whole_model` are classes of the library; `layers` is the path of the
list of layers, `count` the setting that says how many there are.
"""

from __future__ import annotations

from typing import Any

_SMALL = {"hidden_size": 128, "num_attention_heads": 4, "vocab_size": 512}
_SMALL_DECODER = {**_SMALL, "intermediate_size": 352, "num_key_value_heads": 4}
_SMALL_GROUPED = {**_SMALL_DECODER, "num_key_value_heads": 2}


def _transformers(
    name: str, family: str, kind: str, n_layers: int, settings: dict[str, Any], **others: Any
) -> dict[str, Any]:
    """Return a model of transformers; `kind` is the prefix of its classes."""
    fields = ("layers", "count", "model", "whole", "inputs", "config", "module")
    own = {key: others.pop(key) for key in fields if key in others}
    width = next(settings[key] for key in ("hidden_size", "n_embd", "d_model") if key in settings)
    return {
        "name": name,
        "family": family,
        "source": "transformers",
        "builder": "of_transformers",
        "n_layers": n_layers,
        "width": width,
        "settings": {"_kind": kind, **{f"_{key}": value for key, value in own.items()}, **settings},
        **others,
    }


def _llama_like(
    name: str,
    family: str,
    kind: str,
    n_layers: int,
    sizes: tuple[int, int, int, int, int],
    small: dict[str, Any] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Return a decoder whose settings are named as Llama's: width, feed-forward, heads, heads of
    keys, vocabulary."""
    width, feed_forward, heads, kv_heads, vocabulary = sizes
    named = {
        "hidden_size": width,
        "intermediate_size": feed_forward,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        **settings,
    }
    usual = _SMALL_DECODER if heads == kv_heads else _SMALL_GROUPED
    narrow = {**usual, **(small or {})}
    attentions = named.pop("attentions", ("sdpa", "eager"))
    return _transformers(name, family, kind, n_layers, named, small=narrow, attentions=attentions)


_DECODERS = (
    _llama_like("llama-2-7b", "llama", "Llama", 32, (4096, 11008, 32, 32, 32000)),
    _llama_like(
        "llama-3-8b", "llama", "Llama", 32, (4096, 14336, 32, 8, 128256), _rope_theta=500000.0
    ),
    _llama_like(
        "mistral-7b",
        "mistral",
        "Mistral",
        32,
        (4096, 14336, 32, 8, 32000),
        {"sliding_window": 48},
        sliding_window=4096,
    ),
    _llama_like(
        "qwen2-7b", "qwen2", "Qwen2", 28, (3584, 18944, 28, 4, 152064), _rope_theta=1000000.0
    ),
    _llama_like(
        "qwen3-8b",
        "qwen3",
        "Qwen3",
        36,
        (4096, 12288, 32, 8, 151936),
        {"head_dim": 16},
        head_dim=128,
        _rope_theta=1000000.0,
    ),
    _llama_like(
        "gemma-2b",
        "gemma",
        "Gemma",
        18,
        (2048, 16384, 8, 1, 256000),
        {"head_dim": 24, "num_key_value_heads": 1},
        head_dim=256,
    ),
    _llama_like(
        "gemma-2-2b",
        "gemma2",
        "Gemma2",
        26,
        (2304, 9216, 8, 4, 256000),
        {"head_dim": 24, "sliding_window": 48, "query_pre_attn_scalar": 24},
        head_dim=256,
        query_pre_attn_scalar=256,
        sliding_window=4096,
        attentions=("eager",),
    ),
    _llama_like(
        "phi-2",
        "phi",
        "Phi",
        32,
        (2560, 10240, 32, 32, 51200),
        _partial_rotary_factor=0.4,
        hidden_act="gelu_new",
    ),
    _llama_like(
        "phi-3-mini",
        "phi3",
        "Phi3",
        32,
        (3072, 8192, 32, 32, 32064),
        {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1, "sliding_window": 48},
        sliding_window=2047,
    ),
    _llama_like("olmo-2-7b", "olmo2", "Olmo2", 32, (4096, 11008, 32, 32, 100352)),
    _transformers(
        "gpt2",
        "gpt2",
        "GPT2",
        12,
        {"n_embd": 768, "n_head": 12, "vocab_size": 50257},
        small={"n_embd": 128, "n_head": 4, "vocab_size": 512},
        layers="h",
        count="n_layer",
        whole="LMHeadModel",
    ),
    _transformers(
        "pythia-1.4b",
        "gpt-neox",
        "GPTNeoX",
        24,
        {
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_attention_heads": 16,
            "vocab_size": 50304,
            "_partial_rotary_factor": 0.25,
        },
        small={**_SMALL, "intermediate_size": 512},
    ),
    _transformers(
        "gpt-j-6b",
        "gpt-j",
        "GPTJ",
        28,
        {"n_embd": 4096, "n_head": 16, "rotary_dim": 64, "vocab_size": 50400},
        small={"n_embd": 128, "n_head": 4, "rotary_dim": 8, "vocab_size": 512},
        layers="h",
        count="n_layer",
        attentions=("eager",),
    ),
    _transformers(
        "opt-1.3b",
        "opt",
        "OPT",
        24,
        {
            "hidden_size": 2048,
            "ffn_dim": 8192,
            "num_attention_heads": 32,
            "vocab_size": 50272,
            "word_embed_proj_dim": 2048,
        },
        small={**_SMALL, "ffn_dim": 512, "word_embed_proj_dim": 128},
        layers="decoder.layers",
    ),
    _transformers(
        "falcon-7b",
        "falcon",
        "Falcon",
        32,
        {
            "hidden_size": 4544,
            "num_attention_heads": 71,
            "vocab_size": 65024,
            "multi_query": True,
            "parallel_attn": True,
            "alibi": False,
            "bias": False,
        },
        small=_SMALL,
        layers="h",
    ),
)

_SMALL_ENCODER = {**_SMALL, "intermediate_size": 512}


def _bert_like(
    name: str, family: str, kind: str, sizes: tuple[int, int, int, int], **own: Any
) -> Any:
    width, n_layers, heads, vocabulary = sizes
    named = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_attention_heads": heads,
        "vocab_size": vocabulary,
        **own,
    }
    return _transformers(
        name,
        family,
        kind,
        n_layers,
        named,
        small=_SMALL_ENCODER,
        layers="encoder.layer",
        whole="Model",
    )


_ENCODERS = (
    _bert_like("bert-base", "bert", "Bert", (768, 12, 12, 30522)),
    _bert_like("bert-large", "bert", "Bert", (1024, 24, 16, 30522)),
    _bert_like(
        "roberta-base",
        "roberta",
        "Roberta",
        (768, 12, 12, 50265),
        max_position_embeddings=514,
        type_vocab_size=1,
    ),
    _transformers(
        "t5-base",
        "t5",
        "T5",
        12,
        {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_heads": 12, "vocab_size": 32128},
        small={"d_model": 128, "d_kv": 32, "d_ff": 512, "num_heads": 4, "vocab_size": 512},
        layers="encoder.block",
        count="num_layers",
        model="EncoderModel",
        whole="EncoderModel",
    ),
    _transformers(
        "whisper-base",
        "whisper",
        "Whisper",
        6,
        {"d_model": 512, "encoder_ffn_dim": 2048, "encoder_attention_heads": 8},
        small={"d_model": 128, "encoder_ffn_dim": 512, "encoder_attention_heads": 4},
        layers="layers",
        count="encoder_layers",
        model="Encoder",
        whole="Encoder",
        module="models.whisper.modeling_whisper",
        inputs="sound",
        has_length=False,
    ),
    _transformers(
        "clip-text",
        "clip",
        "CLIPText",
        12,
        {
            "hidden_size": 512,
            "intermediate_size": 2048,
            "num_attention_heads": 8,
            "vocab_size": 49408,
        },
        small={**_SMALL_ENCODER, "eos_token_id": 511, "bos_token_id": 510},
        layers="encoder.layers",
        whole="Model",
    ),
    _transformers(
        "clip-vision",
        "clip",
        "CLIPVision",
        12,
        {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_attention_heads": 12,
            "patch_size": 32,
            "image_size": 224,
        },
        small={
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_attention_heads": 4,
            "image_size": 96,
        },
        layers="encoder.layers",
        whole="Model",
        inputs="image",
        has_length=False,
    ),
)


def _timm(name: str, family: str, n_layers: int, width: int, model: str, **small: Any) -> Any:
    return {
        "name": name,
        "family": family,
        "source": "timm",
        "builder": "of_timm",
        "n_layers": n_layers,
        "width": width,
        "settings": {"_model": model, "img_size": 224},
        "small": small,
        "has_length": False,
    }


_NARROW = {"embed_dim": 128, "num_heads": 4, "img_size": 64}
_VISION = (
    _timm("vit-base", "vit", 12, 768, "vit_base_patch16_224", **_NARROW),
    _timm("vit-large", "vit", 24, 1024, "vit_large_patch16_224", **_NARROW),
    _timm("deit-base", "vit", 12, 768, "deit_base_distilled_patch16_224", **_NARROW),
    _timm(
        "swin-tiny",
        "swin",
        12,
        96,
        "swin_tiny_patch4_window7_224",
        embed_dim=32,
        num_heads=(2, 2, 2, 2),
        img_size=56,
    ),
)


def _torch(name: str, family: str, n_layers: int, settings: dict[str, Any], **own: Any) -> Any:
    return {
        "name": name,
        "family": family,
        "source": "torch",
        "builder": "of_torch",
        "n_layers": n_layers,
        "width": settings["d_model"],
        "settings": settings,
        "small": {"d_model": 128, "n_heads": 4, "vocabulary": 512},
        **own,
    }


_BASE = {"d_model": 768, "n_heads": 12}
_NN: dict[str, Any] = {"attentions": ("sdpa",)}
_PLAIN = (
    _torch(
        "encoder-pre-norm",
        "torch.nn",
        12,
        {**_BASE, "vocabulary": 50304, "norm_first": True},
        **_NN,
    ),
    _torch(
        "encoder-post-norm",
        "torch.nn",
        12,
        {**_BASE, "vocabulary": 50304, "norm_first": False},
        **_NN,
    ),
    _torch("nanogpt", "nanogpt", 12, {**_BASE, "vocabulary": 50304}),
)

CONFIGURATIONS: tuple[dict[str, Any], ...] = (*_DECODERS, *_ENCODERS, *_VISION, *_PLAIN)
