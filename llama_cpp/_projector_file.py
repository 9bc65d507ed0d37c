"""A multimodal projector's file (mmproj), checked before llama.cpp opens it.

llama.cpp's loader asserts on the type of each value it reads, and its graphs on how the tensors fit
together; a failed assertion ends the process. So both are checked here: the types for every value, the
shapes for the vision towers that most projectors have (ViT). Source: clip.cpp, clip-impl.h and
models/*.cpp in llama.cpp's tools/mtmd.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from llama_cpp import _library
from llama_cpp._abi import GGML_TYPE_COUNT, GGML_TYPE_F16, GGML_TYPE_F32
from llama_cpp._errors import ModelLoadError
from llama_cpp._gguf import check_file
from llama_cpp._gguf_content import GgufContent, Pair, Tensor, check_extents, read_content

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WHAT = "projector (mmproj)"

# clip.cpp, which getter reads which key; all other scalars are u32
_BOOLS = (
    "has_vision_encoder",
    "has_audio_encoder",
    "has_gen_audio_encoder",
    "use_gelu",
    "use_silu",
)
_STRINGS = ("projector_type", "model_variant", "mm_patch_merge_type")
_FLOATS = ("layer_norm_epsilon", "swiglu_clamp")
_ARRAYS = {
    "image_mean": "f32",
    "image_std": "f32",
    "feature_layer": "i32",
    "image_grid_pinpoints": "i32",
    "wa_layer_indexes": "i32",
    "wa_pattern_mode": "i32",
    "spatial_offsets": "i32",
    "codebook_size": "i32",
}
_NUMBERS = frozenset(
    {
        *("embedding_length", "head_count", "head_count_kv", "head_dim", "feed_forward_length"),
        *("block_count", "projection_dim", "image_size", "image_min_pixels", "image_max_pixels"),
        *("preproc_min_tiles", "preproc_max_tiles", "preproc_image_size", "patch_size"),
        *("scale_factor", "query_side", "window_side", "spatial_merge_size", "n_wa_pattern"),
        *("window_size", "minicpmv_query_num", "expert_used_count", "num_mel_bins"),
        *("stack_factor", "chunk_size", "conv_kernel_size", "max_pos_emb", "downsample_rate"),
        *("num_quantizers", "local_block_count", "local_group_size", "subsampling_factor"),
    }
)
# towers of one width, whose every layer has the usual tensors
_PLAIN_TOWERS = frozenset(
    {
        *("mlp", "gemma3", "idefics3", "internvl", "pixtral"),
        *("qwen2vl_merger", "qwen2.5vl_merger", "qwen3vl_merger"),
    }
)
# those that hear with Whisper's encoder
_WHISPER_TOWERS = frozenset(
    {"qwen2a", "qwen2.5o", "ultravox", "voxtral", "meralion", "musicflamingo", "glma"}
)
# what is scaled to one size has one position per patch
_FIXED_SIZE = frozenset({"gemma3", "internvl"})
_LARGEST_IMAGE_SIZE = 8192
_RGB = 3


class ProjectorFile(NamedTuple):
    """What a projector's file says about itself."""

    kind: str
    """Its projector type: ``gemma3``, ``qwen3vl_merger``, ``mlp`` …"""
    has_vision: bool
    has_audio: bool
    numbers: Mapping[str, int]
    """``clip.vision.*`` of type u32, by the rest of their names."""
    tensors: Mapping[str, Tensor]


def read_projector(path: Path) -> ProjectorFile:
    """Read and check a file.

    Raises:
        ModelLoadError: it is missing, truncated, damaged, or no projector.
    """
    check_file(path, WHAT)
    content = read_content(path, WHAT)
    lib = _library.load()

    def block(kind: int) -> tuple[int, int]:
        if not 0 <= kind < GGML_TYPE_COUNT:
            return 0, 0
        return lib.ggml_blck_size(kind), lib.ggml_type_size(kind)

    architecture = content.pairs.get("general.architecture", Pair("", None))
    if architecture.value != "clip":
        raise ModelLoadError(
            f"{path} is no {WHAT}: its architecture is {architecture.value!r}, not 'clip'. The "
            "projector is a file of its own, usually called mmproj-*.gguf, beside the model's"
        )
    check_extents(content, path, WHAT, block)
    check = _Checks(path, content)
    check.types()
    file = check.file()
    if file.has_vision:
        check.vision(file)
    if file.has_audio:
        check.audio()
    return file


class _Checks:
    def __init__(self, path: Path, content: GgufContent) -> None:
        self._path = path
        self._content = content

    def types(self) -> None:
        """Every value that llama.cpp reads must have the type that it reads it as."""
        for key, pair in self._content.pairs.items():
            wanted = _type_of(key)
            if wanted is not None and pair.kind != wanted:
                raise self._damaged(f"{key} is {pair.kind}, not {wanted}")
            # all of them are sizes: an epsilon, a limit
            if wanted == "f32" and not 0 <= float(pair.value) < math.inf:  # type: ignore[arg-type]
                raise self._damaged(f"{key} is {pair.value}")
            if wanted == "u32" and not 0 <= int(pair.value) < 2**31:  # type: ignore[arg-type]
                raise self._damaged(f"{key} is {pair.value}")

    def file(self) -> ProjectorFile:
        pairs = self._content.pairs
        kind = pairs.get("clip.projector_type") or pairs.get("clip.vision.projector_type")
        has_vision, has_audio = (
            key in pairs and pairs[key].value is True
            for key in ("clip.has_vision_encoder", "clip.has_audio_encoder")
        )
        if not has_vision and not has_audio:
            raise ModelLoadError(
                f"{WHAT} file {self._path} has neither a vision nor an audio encoder"
            )
        return ProjectorFile(
            kind=str(kind.value) if kind else "",
            has_vision=has_vision,
            has_audio=has_audio,
            numbers=self._numbers("clip.vision."),
            tensors=self._content.tensors,
        )

    def vision(self, file: ProjectorFile) -> None:
        """The tower's sizes and its tensors must fit together."""
        number = file.numbers
        for name in ("image_size", "patch_size", "embedding_length", "attention.head_count"):
            self._expect(number.get(name, 0) > 0, f"clip.vision.{name} is {number.get(name)}")
        self._expect(
            number["image_size"] <= _LARGEST_IMAGE_SIZE,
            f"clip.vision.image_size is {number['image_size']}",
        )
        for name in ("image_mean", "image_std"):
            pair = self._content.pairs.get(f"clip.vision.{name}", Pair("", ()))
            values = pair.value if isinstance(pair.value, tuple) else ()
            usable = len(values) >= _RGB and all(map(math.isfinite, values))
            self._expect(
                usable and (name == "image_mean" or all(values)),
                f"clip.vision.{name} is {values}",
            )
        for name, tensor in file.tensors.items():
            if name.startswith("v.blk.") and name.endswith(".bias"):
                self._check_bias(name, tensor)
        if file.kind in _PLAIN_TOWERS:
            self._check_tower(file)
            if file.kind == "gemma3":
                self._check_gemma3(file)
            elif file.kind.startswith("qwen"):
                self._check_qwen(file)
            elif file.kind == "mlp" and "mm.2.weight" in file.tensors:
                self._check_matrices(
                    file.tensors, ("mm.0", "mm.2"), file.numbers["embedding_length"]
                )

    def audio(self) -> None:
        """The same for what hears."""
        pairs, tensors = self._content.pairs, self._content.tensors
        number = self._numbers("clip.audio.")
        for name in ("embedding_length", "attention.head_count", "num_mel_bins"):
            self._expect(number.get(name, 0) > 0, f"clip.audio.{name} is {number.get(name)}")
        for name, tensor in tensors.items():
            if name.startswith("a.blk.") and name.endswith(".bias"):
                self._check_bias(name, tensor)
        kind = pairs.get("clip.projector_type") or pairs.get("clip.audio.projector_type")
        if kind is None or kind.value not in _WHISPER_TOWERS:
            return
        width, heads = number["embedding_length"], number["attention.head_count"]
        self._expect(width % heads == 0, f"{heads} heads do not divide a width of {width}")
        positions = self._need(tensors, "a.position_embd.weight")
        self._expect(
            len(positions.sizes) == 2 and positions.sizes[0] == width,
            f"a.position_embd.weight is {positions.sizes}",
        )
        self._kind("a.position_embd.weight", positions, GGML_TYPE_F32)
        for index, channels in ((1, number["num_mel_bins"]), (2, width)):
            kernel = self._need(tensors, f"a.conv1d.{index}.weight")
            fits = len(kernel.sizes) == 3 and kernel.sizes[1:] == (channels, width)
            self._expect(fits, f"a.conv1d.{index}.weight is {kernel.sizes}")
        for layer in range(number.get("block_count", 0)):
            self._check_layer(tensors, f"a.blk.{layer}.", width, width)
            for part in ("ln1.weight", "ln1.bias", "ln2.weight", "ln2.bias"):
                self._need(tensors, f"a.blk.{layer}.{part}")

    def _numbers(self, head: str) -> dict[str, int]:
        """Return the values of type u32 under ``head``, by the rest of their names."""
        return {
            key[len(head) :]: pair.value
            for key, pair in self._content.pairs.items()
            if key.startswith(head) and pair.kind == "u32" and isinstance(pair.value, int)
        }

    def _check_bias(self, name: str, bias: Tensor) -> None:
        weight = self._content.tensors.get(f"{name[: -len('bias')]}weight")
        if weight is not None and len(weight.sizes) <= 2:
            self._shape(name, bias, weight.sizes[-1])

    def _check_tower(self, file: ProjectorFile) -> None:
        number, tensors = file.numbers, file.tensors
        width, patch = number["embedding_length"], number["patch_size"]
        heads = number["attention.head_count"]
        size = number.get("attention.head_dim") or width // heads
        if "attention.head_dim" not in number:
            self._expect(width % heads == 0, f"{heads} heads do not divide a width of {width}")
        for name in ("v.patch_embd.weight", "v.patch_embd.weight.1"):
            if name in tensors:
                self._shape(name, tensors[name], patch, patch, _RGB, width)
                self._kind(name, tensors[name], GGML_TYPE_F16, GGML_TYPE_F32)
        self._expect("v.patch_embd.weight" in tensors, "it has no tensor v.patch_embd.weight")
        for name in ("v.patch_embd.bias", "v.class_embd", "v.pre_ln.weight", "v.post_ln.weight"):
            if name in tensors:
                self._shape(name, tensors[name], width)
                self._kind(name, tensors[name], GGML_TYPE_F32)
        self._check_positions(file, width)
        for layer in range(number.get("block_count", 0)):
            self._check_layer(tensors, f"v.blk.{layer}.", width, heads * size)

    def _check_positions(self, file: ProjectorFile, width: int) -> None:
        table = file.tensors.get("v.position_embd.weight")
        if table is None:
            return
        rows = table.sizes[1] if len(table.sizes) > 1 else 1
        side = file.numbers["image_size"] // file.numbers["patch_size"]
        self._expect(table.sizes[0] == width, f"positions are {table.sizes[0]} wide, not {width}")
        if file.kind in _FIXED_SIZE:
            wanted = side * side + ("v.class_embd" in file.tensors)
            self._expect(rows == wanted, f"it has {rows} positions for {wanted} patches")
        if file.kind == "qwen3vl_merger":
            self._expect(math.isqrt(rows) ** 2 == rows, f"its {rows} positions are no square")

    def _check_layer(
        self, tensors: Mapping[str, Tensor], block: str, width: int, inner: int
    ) -> None:
        for name in ("ln1", "ln2"):
            for part in ("weight", "bias"):
                if (tensor := tensors.get(f"{block}{name}.{part}")) is not None:
                    self._shape(f"{block}{name}.{part}", tensor, width)
                    self._kind(f"{block}{name}.{part}", tensor, GGML_TYPE_F32)
        shapes = {
            "attn_qkv": (width, 3 * inner),
            "attn_out": (inner, width),
        }
        for name, sizes in shapes.items():
            if (tensor := tensors.get(f"{block}{name}.weight")) is not None:
                self._shape(f"{block}{name}.weight", tensor, *sizes)
        if f"{block}attn_qkv.weight" not in tensors:
            for name in ("attn_q", "attn_k", "attn_v"):
                weight = self._need(tensors, f"{block}{name}.weight")
                self._shape(f"{block}{name}.weight", weight, width, inner)
        self._check_ffn(tensors, block, width)
        for part in ("attn_q", "attn_k", "attn_v", "attn_qkv", "attn_out", "ffn_up", "ffn_down"):
            if (bias := tensors.get(f"{block}{part}.bias")) is not None:
                self._kind(f"{block}{part}.bias", bias, GGML_TYPE_F32)

    def _check_ffn(self, tensors: Mapping[str, Tensor], block: str, width: int) -> None:
        up, down = tensors.get(f"{block}ffn_up.weight"), tensors.get(f"{block}ffn_down.weight")
        if up is not None and down is not None:
            # old files have the two swapped, which llama.cpp sets right
            fits = up.sizes == down.sizes[::-1] and width in up.sizes
            self._expect(fits, f"{block}ffn_up is {up.sizes}, ffn_down {down.sizes}")

    # -- projections -------------------------------------------------------------------------------

    def _check_gemma3(self, file: ProjectorFile) -> None:
        number, tensors = file.numbers, file.tensors
        width = number["embedding_length"]
        merge = number.get("projector.scale_factor", 4)
        side, rest = divmod(number["image_size"], number["patch_size"])
        self._expect(
            not rest and merge > 0 and side % merge == 0,
            f"{number['image_size']} pixels are no whole number of {merge} patches of "
            f"{number['patch_size']}",
        )
        projection = self._need(tensors, "mm.input_projection.weight")
        self._expect(
            projection.sizes[1:] == (width,),
            f"mm.input_projection.weight is {projection.sizes}",
        )
        # it is transposed in the graph, which blocks of quantised weights cannot be
        self._kind("mm.input_projection.weight", projection, GGML_TYPE_F16, GGML_TYPE_F32)
        norm = self._need(tensors, "mm.soft_emb_norm.weight")
        self._shape("mm.soft_emb_norm.weight", norm, width)
        self._kind("mm.soft_emb_norm.weight", norm, GGML_TYPE_F32)

    def _check_qwen(self, file: ProjectorFile) -> None:
        number, tensors = file.numbers, file.tensors
        merge = number.get("spatial_merge_size", 2)
        self._expect(merge == 2, f"clip.vision.spatial_merge_size is {merge}")
        self._need(tensors, "v.patch_embd.weight.1")
        head = number["embedding_length"] // number["attention.head_count"]
        self._expect(head % 4 == 0, f"a head of {head} channels has no four parts")
        merged = number["embedding_length"] * merge * merge
        self._check_matrices(tensors, ("mm.0", "mm.2"), merged)
        if file.kind == "qwen3vl_merger":
            self._need(tensors, "v.patch_embd.bias")
            self._need(tensors, "v.position_embd.weight")
            self._expect("v.class_embd" not in tensors, "it has a tensor v.class_embd")
            out = tensors["mm.2.weight"].sizes[1]
            for layer in range(number.get("block_count", 0)):
                stack = f"v.deepstack.{layer}"
                if f"{stack}.fc1.weight" not in tensors:
                    continue
                for part in ("weight", "bias"):
                    norm = self._need(tensors, f"{stack}.norm.{part}")
                    self._shape(f"{stack}.norm.{part}", norm, merged)
                    self._kind(f"{stack}.norm.{part}", norm, GGML_TYPE_F32)
                self._check_matrices(tensors, (f"{stack}.fc1", f"{stack}.fc2"), merged)
                made = tensors[f"{stack}.fc2.weight"].sizes[1]
                self._expect(made == out, f"{stack} makes {made} channels, not {out}")
        for layer in range(number.get("block_count", 0)):
            if file.kind == "qwen3vl_merger":
                self._need(tensors, f"v.blk.{layer}.attn_qkv.weight")
                self._need(tensors, f"v.blk.{layer}.attn_qkv.bias")

    def _check_matrices(
        self, tensors: Mapping[str, Tensor], names: tuple[str, ...], width: int
    ) -> None:
        """Matrices with biases, one after another, the first of which takes ``width`` channels."""
        for name in names:
            weight = self._need(tensors, f"{name}.weight")
            self._expect(
                len(weight.sizes) == 2 and weight.sizes[0] == width,
                f"{name}.weight is {weight.sizes}; it gets {width} channels",
            )
            width = weight.sizes[1]
            bias = self._need(tensors, f"{name}.bias")
            self._shape(f"{name}.bias", bias, width)
            self._kind(f"{name}.bias", bias, GGML_TYPE_F32)

    # -- words -------------------------------------------------------------------------------------

    def _need(self, tensors: Mapping[str, Tensor], name: str) -> Tensor:
        self._expect(name in tensors, f"it has no tensor {name}")
        return tensors[name]

    def _shape(self, name: str, tensor: Tensor, *sizes: int) -> None:
        if math.prod(tensor.sizes) != math.prod(sizes) or tensor.sizes[0] != sizes[0]:
            raise self._damaged(f"tensor {name} is {tensor.sizes}, not {sizes}")

    def _kind(self, name: str, tensor: Tensor, *kinds: int) -> None:
        if tensor.type not in kinds:
            raise self._damaged(f"tensor {name} is of ggml's type {tensor.type}, not {kinds[0]}")

    def _expect(self, truth: bool, words: str) -> None:
        if not truth:
            raise self._damaged(words)

    def _damaged(self, words: str) -> ModelLoadError:
        return ModelLoadError(
            f"{WHAT} file {self._path} is damaged, or not what this llama.cpp takes: {words}"
        )


def _type_of(key: str) -> str | None:
    """Return the type that llama.cpp reads a key as; None where it reads none or checks it itself."""
    if key in {"general.name", "general.description"}:
        return "string"
    if key == "general.alignment":
        return "u32"
    if not key.startswith("clip."):
        return None
    last = key.rpartition(".")[2]
    if last == "minicpmv_version":
        return "i32"
    if last in _ARRAYS:
        return f"array of {_ARRAYS[last]}"
    for names, kind in ((_BOOLS, "bool"), (_STRINGS, "string"), (_FLOATS, "f32")):
        if last in names:
            return kind
    return "u32" if last in _NUMBERS else None
