"""What is done to a file: one to three changes, from single bits to keys of another architecture."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import gguf

from tests.fuzz import gguf_file
from tests.fuzz.gguf_file import FORMATS, STRING, GgufFile, Pair, Scalar, Tensor

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

ARCHITECTURES: Final = tuple(sorted(gguf.MODEL_ARCH_NAMES.values()))
_MOST_CHANGES: Final = 3
_WIDE: Final = (
    *(0, 1, 2, 3, 4, 5, 7, 8, 16, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 257, 319, 320, 321),
    *(511, 512, 513, 1024, 4096, 65535, 65536, 2**20, 2**24),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**33, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1),
)
_INTERESTING: Final = tuple(sorted({*_WIDE, *(-each for each in _WIDE)}))
_FLOATS: Final = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e-6, 1e6, 3e38, -3e38)
_NOT_NUMBERS: Final = (float("nan"), float("inf"), float("-inf"))
_TEXTS: Final = (
    *(b"", b"a", b"\xff\xfe", b"\0", b"\xe2\x96\x81", b"<s>", b"</s>", b"%s%n", b"x" * 300),
    *(b"llama", b"gpt2", b"bert", b"t5", b"rwkv", b"plamo2", b"none", b"default", b"mean"),
    *(b"linear", b"yarn", b"longrope", b"{{ 1/0 }}", b"{% for"),
)
_KEYS: Final = (
    *("{}.attention.head_count", "{}.attention.head_count_kv", "{}.block_count"),
    *("{}.embedding_length", "{}.feed_forward_length", "{}.context_length", "{}.vocab_size"),
    *("{}.rope.dimension_count", "{}.rope.scaling.type", "{}.rope.scaling.factor"),
    *("{}.rope.freq_base", "{}.rope.scaling.original_context_length", "{}.rope.dimension_sections"),
    *(
        "{}.attention.key_length",
        "{}.attention.value_length",
        "{}.attention.layer_norm_rms_epsilon",
    ),
    *("{}.attention.layer_norm_epsilon", "{}.attention.sliding_window", "{}.attention.causal"),
    *("{}.attention.max_alibi_bias", "{}.attention.clamp_kqv", "{}.pooling_type"),
    *("{}.expert_count", "{}.expert_used_count", "{}.expert_feed_forward_length"),
    *("{}.expert_group_count", "{}.expert_group_used_count", "{}.leading_dense_block_count"),
    *("{}.ssm.conv_kernel", "{}.ssm.inner_size", "{}.ssm.state_size", "{}.ssm.time_step_rank"),
    *("{}.ssm.group_count", "{}.wkv.head_size", "{}.token_shift_count", "{}.use_parallel_residual"),
    *("{}.logit_scale", "{}.residual_scale", "{}.embedding_scale", "{}.classifier.output_labels"),
    *("{}.final_logit_softcapping", "{}.attn_logit_softcapping", "{}.nextn_predict_layers"),
    *("{}.attention.q_lora_rank", "{}.attention.kv_lora_rank", "{}.attention.key_length_mla"),
    *("{}.tensor_data_layout", "{}.decoder_start_token_id", "{}.decoder_block_count"),
    *("general.alignment", "general.file_type", "general.architecture", "general.type"),
    *("split.count", "split.no", "split.tensors.count"),
    *("tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens"),
    *("tokenizer.ggml.scores", "tokenizer.ggml.token_type", "tokenizer.ggml.merges"),
    *("tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"),
    *("tokenizer.ggml.unknown_token_id", "tokenizer.ggml.padding_token_id"),
    *("tokenizer.ggml.seperator_token_id", "tokenizer.ggml.mask_token_id"),
    *("tokenizer.ggml.fim_pre_token_id", "tokenizer.ggml.add_bos_token"),
    *("tokenizer.ggml.add_eos_token", "tokenizer.ggml.add_space_prefix"),
    *("tokenizer.ggml.remove_extra_whitespaces", "tokenizer.ggml.precompiled_charsmap"),
    *("tokenizer.ggml.token_type_count", "tokenizer.chat_template"),
    *("adapter.type", "adapter.lora.alpha", "adapter.alora.invocation_tokens"),
)


def damaged(base: GgufFile, random: Random) -> bytes:
    """Return the bytes of a damaged copy; the same for the same state of `random`."""
    broken = base
    changes = random.randint(1, _MOST_CHANGES)
    for _ in range(changes):
        broken = random.choice(_CHANGES)(broken, random)
    content = broken.to_bytes()
    if random.random() < 0.25:
        for _ in range(random.randint(1, _MOST_CHANGES)):
            header = min(len(broken.header()), len(content))
            content = random.choice(_ON_BYTES)(content, header, random)
    return content


# -- of the parts ----------------------------------------------------------------------------------


def _other_value(file: GgufFile, random: Random) -> GgufFile:
    if not file.pairs:
        return file
    index = random.randrange(len(file.pairs))
    pair = file.pairs[index]
    if isinstance(pair.value, list):
        return file.with_pair(index, replace(pair, value=_other_array(pair, random)))
    return file.with_pair(index, replace(pair, value=_scalar(pair.kind, random, pair.value)))


def _other_kind(file: GgufFile, random: Random) -> GgufFile:
    if not file.pairs:
        return file
    index = random.randrange(len(file.pairs))
    return file.with_pair(index, _pair(file.pairs[index].key, random))


def _no_pair(file: GgufFile, random: Random) -> GgufFile:
    return file.with_pair(random.randrange(len(file.pairs)), None) if file.pairs else file


def _new_pair(file: GgufFile, random: Random) -> GgufFile:
    key = random.choice(_KEYS).encode().replace(b"{}", file.architecture)
    pairs = [pair for pair in file.pairs if pair.key != key]
    pairs.insert(random.randint(0, len(pairs)), _pair(key, random))
    return replace(file, pairs=tuple(pairs))


def _new_number(file: GgufFile, random: Random) -> GgufFile:
    """A key that llama.cpp reads, with a number of the kind that it wants."""
    key = random.choice(_KEYS).encode().replace(b"{}", file.architecture)
    pairs = [pair for pair in file.pairs if pair.key != key]
    value = random.choice([each for each in _WIDE if each < 2**32])
    return replace(file, pairs=(*pairs, Pair(key=key, kind=gguf_file.UINT32, value=value)))


def _twice(file: GgufFile, random: Random) -> GgufFile:
    if not file.pairs:
        return file
    return replace(file, pairs=(*file.pairs, random.choice(file.pairs)))


def _other_architecture(file: GgufFile, random: Random) -> GgufFile:
    """All keys of another architecture: another reader of the same numbers."""
    old, new = file.architecture, random.choice(ARCHITECTURES).encode()
    pairs = []
    for pair in file.pairs:
        key = pair.key
        if old and key.startswith(old + b"."):
            key = new + key[len(old) :]
        named = pair.key == b"general.architecture"
        kind, value = (STRING, new) if named else (pair.kind, pair.value)
        pairs.append(Pair(key=key, kind=kind, value=value))
    return replace(file, pairs=tuple(pairs))


def _other_dims(file: GgufFile, random: Random) -> GgufFile:
    return _with_tensor(file, random, lambda tensor: replace(tensor, dims=_dims(tensor, random)))


def _other_type(file: GgufFile, random: Random) -> GgufFile:
    kind = random.choice([*range(48), 2**31 - 1, 2**32 - 1])
    return _with_tensor(file, random, lambda tensor: replace(tensor, kind=kind))


def _other_offset(file: GgufFile, random: Random) -> GgufFile:
    offset = random.choice([each for each in _WIDE if each < 2**64])
    return _with_tensor(file, random, lambda tensor: replace(tensor, offset=offset))


def _other_name(file: GgufFile, random: Random) -> GgufFile:
    names = [tensor.name for tensor in file.tensors]
    name = random.choice(
        [*_TEXTS, *names, b"blk.1.attn_q.weight", b"blk.99999999999.attn_q.weight"]
    )
    return _with_tensor(file, random, lambda tensor: replace(tensor, name=name))


def _no_tensor(file: GgufFile, random: Random) -> GgufFile:
    return file.with_tensor(random.randrange(len(file.tensors)), None) if file.tensors else file


def _with_tensor(file: GgufFile, random: Random, change: Callable[[Tensor], Tensor]) -> GgufFile:
    if not file.tensors:
        return file
    index = random.randrange(len(file.tensors))
    return file.with_tensor(index, change(file.tensors[index]))


def _dims(tensor: Tensor, random: Random) -> tuple[int, ...]:
    dims = list(tensor.dims)
    for _ in range(random.randint(1, 2)):
        kind = random.randrange(4)
        if kind == 0 and dims:
            dims[random.randrange(len(dims))] = random.choice(
                [each for each in _WIDE if each < 2**64]
            )
        elif kind == 1 and dims:
            place = random.randrange(len(dims))
            dims[place] = (dims[place] + random.choice([-32, -1, 1, 32])) % 2**64
        elif kind == 2:
            dims.reverse()
        elif random.random() < 0.5:
            dims.append(random.choice([0, 1, 2, 32]))
        elif dims:
            dims.pop()
    return tuple(dims)


def _pair(key: bytes, random: Random) -> Pair:
    kind = random.choice([*FORMATS, STRING, gguf_file.UINT32, gguf_file.UINT32, STRING])
    if random.random() < 0.3:
        length = random.choice([0, 1, 2, 3, 4, 5, 64, 319, 320, 321, 600])
        return Pair(key=key, kind=kind, value=[_scalar(kind, random) for _ in range(length)])
    return Pair(key=key, kind=kind, value=_scalar(kind, random))


def _other_array(pair: Pair, random: Random) -> list[Scalar]:
    assert isinstance(pair.value, list)
    value = list(pair.value)
    kind = random.randrange(5)
    if kind == 0 and value:
        del value[random.randrange(len(value)) :]
    elif kind == 1 and value:
        del value[random.randrange(len(value))]
    elif kind == 2:
        value += [_scalar(pair.kind, random) for _ in range(random.choice([1, 2, 100]))]
    elif kind == 3 and value:
        for _ in range(random.choice([1, 3, 50])):
            value[random.randrange(len(value))] = _scalar(pair.kind, random)
    elif value:
        value[random.randrange(len(value))] = random.choice(value)
    return value


def _scalar(kind: int, random: Random, old: object = None) -> Scalar:
    if kind == STRING:
        if isinstance(old, bytes) and old and random.random() < 0.3:
            place = random.randrange(len(old))
            return old[:place] + bytes([random.randrange(256)]) + old[place + 1 :]
        return random.choice(_TEXTS)
    if kind == gguf_file.BOOL:
        return random.random() < 0.5
    if kind in {gguf_file.FLOAT32, gguf_file.FLOAT64}:
        return random.choice([*_FLOATS, *_NOT_NUMBERS])
    if isinstance(old, int) and random.random() < 0.4:
        near = old + random.choice([-1, 1, old, -2 * old])
        if _fits(kind, near):
            return near
    return random.choice([each for each in _INTERESTING if _fits(kind, each)])


def _fits(kind: int, value: int) -> bool:
    try:
        struct.pack(FORMATS[kind], value)
    except struct.error:
        return False
    return True


_CHANGES: Final[tuple[Callable[[GgufFile, Random], GgufFile], ...]] = (
    *([_other_value] * 6),
    *([_new_number] * 4),
    *([_new_pair] * 2),
    *([_other_architecture] * 2),
    *([_other_dims] * 2),
    _other_kind,
    _no_pair,
    _twice,
    _other_type,
    _other_offset,
    _other_name,
    _no_tensor,
)


# -- of the bytes ----------------------------------------------------------------------------------


def _bit(content: bytes, header: int, random: Random) -> bytes:
    if not header:
        return content
    place = random.randrange(header)
    changed = content[place] ^ (1 << random.randrange(8))
    return content[:place] + bytes([changed]) + content[place + 1 :]


def _word(content: bytes, header: int, random: Random) -> bytes:
    place = random.randrange(max(1, header - 8))
    value = random.choice([each for each in _WIDE if each < 2**64])
    word = struct.pack("<Q", value)[: random.choice([4, 8])]
    return content[:place] + word + content[place + len(word) :]


def _counts(content: bytes, header: int, random: Random) -> bytes:
    place = random.choice([4, 8, 16])
    if header < 24:
        return content
    (old,) = struct.unpack_from("<Q" if place > 4 else "<I", content, place)
    value = random.choice([0, 1, old + 1, old - 1, 2 * old, 2**31, 2**62]) % 2**64
    word = struct.pack("<Q", value)[: 8 if place > 4 else 4]
    return content[:place] + word + content[place + len(word) :]


def _cut(content: bytes, header: int, random: Random) -> bytes:
    end = random.choice([header, len(content)])
    return content[: random.randrange(max(1, end))]


_ON_BYTES: Final[tuple[Callable[[bytes, int, Random], bytes], ...]] = (
    *([_bit] * 5),
    _word,
    _counts,
    _cut,
)
