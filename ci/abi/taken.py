"""What the binding takes of llama.cpp's headers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ci.abi.declarations import Aggregate, Declarations, Enumeration, Type, walk
from ci.errors import VendorError

FOLDERS = ("include", "ggml/include", "tools/mtmd")
INCLUDED = ("llama.h", "mtmd.h", "mtmd-helper.h", "ggml-rpc.h")


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What is taken from one header, as shell patterns; the functions are in `library`.

    Types that a taken function or structure refers to are taken as well.
    """

    library: str
    header: str
    functions: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    macros: tuple[str, ...] = ()


_ALL = ("*",)

TAKEN = (
    Taken(library="llama", header="llama.h", functions=_ALL, types=_ALL, macros=_ALL),
    Taken(library="mtmd", header="mtmd.h", functions=_ALL, types=_ALL, macros=_ALL),
    Taken(library="mtmd", header="mtmd-helper.h", functions=_ALL, types=_ALL, macros=_ALL),
    Taken(library="ggml-base", header="gguf.h", functions=_ALL, types=_ALL, macros=_ALL),
    # The registry is in a library of its own: it is what loads the backends.
    Taken(
        library="ggml",
        header="ggml-backend.h",
        functions=(
            "ggml_backend_load",
            "ggml_backend_load_all",
            "ggml_backend_load_all_from_path",
            "ggml_backend_unload",
            "ggml_backend_register",
            "ggml_backend_device_register",
            "ggml_backend_reg_count",
            "ggml_backend_reg_get",
            "ggml_backend_reg_by_name",
            "ggml_backend_dev_count",
            "ggml_backend_dev_get",
            "ggml_backend_dev_by_name",
            "ggml_backend_dev_by_type",
            "ggml_backend_init_by_name",
            "ggml_backend_init_by_type",
            "ggml_backend_init_best",
        ),
    ),
    Taken(
        library="ggml-base",
        header="ggml-backend.h",
        functions=(
            "ggml_backend_reg_*",
            "ggml_backend_dev_*",
            "ggml_backend_buft_*",
            "ggml_backend_buffer_*",
            "ggml_backend_name",
            "ggml_backend_free",
            "ggml_backend_get_device",
            "ggml_backend_synchronize",
            "ggml_backend_tensor_get",
            "ggml_backend_tensor_set",
            "ggml_backend_cpu_buffer_type",
        ),
        types=("ggml_backend_feature",),
    ),
    Taken(
        library="ggml-base",
        header="ggml.h",
        functions=(
            "ggml_version",
            "ggml_commit",
            "ggml_log_get",
            "ggml_log_set",
            "ggml_set_abort_callback",
            "ggml_status_to_string",
            "ggml_time_*",
            "ggml_type_*",
            "ggml_blck_size",
            "ggml_row_size",
            "ggml_is_quantized",
            "ggml_ftype_to_ggml_type",
            "ggml_quantize_*",
            "ggml_validate_row_data",
            "ggml_fp16_to_fp32*",
            "ggml_fp32_to_fp16*",
            "ggml_bf16_to_fp32*",
            "ggml_fp32_to_bf16*",
            # to read the tensors of a gguf file and those that an evaluation callback sees
            "ggml_init",
            "ggml_free",
            "ggml_tensor_overhead",
            "ggml_get_first_tensor",
            "ggml_get_next_tensor",
            "ggml_get_tensor",
            "ggml_get_name",
            "ggml_get_data",
            "ggml_nbytes",
            "ggml_nelements",
            "ggml_n_dims",
            "ggml_is_contiguous",
            "ggml_op_name",
            "ggml_op_desc",
            "ggml_threadpool_params_*",
        ),
        types=("ggml_tensor",),
        macros=(
            "GGML_MAX_*",
            "GGML_DEFAULT_*",
            "GGML_QNT_*",
            "GGML_ROPE_TYPE_*",
            "GGML_FILE_*",
        ),
    ),
    Taken(
        library="ggml-base",
        header="ggml-opt.h",
        functions=(
            "ggml_opt_dataset_*",
            "ggml_opt_result_*",
            "ggml_opt_get_*_optimizer_params",
            "ggml_opt_epoch_callback_progress_bar",
        ),
    ),
    # A module: the registry hands its functions out where ggml loads backends at run time.
    Taken(
        library="ggml-rpc",
        header="ggml-rpc.h",
        functions=("ggml_backend_rpc_add_server", "ggml_backend_rpc_start_server"),
        macros=("RPC_PROTO_*", "GGML_RPC_MAX_SERVERS"),
    ),
    Taken(library="ggml-base", header="ggml-cpu.h"),
    Taken(library="ggml-base", header="ggml-alloc.h"),
)

# The headers show what is inside these, but the library owns them: an address like other handles.
HANDLES = frozenset({"llama_sampler", "ggml_tensor"})

# Handles that may be NULL where a function is called: (function, parameter).
NULLABLE = frozenset(
    {
        ("llama_attach_threadpool", "threadpool"),
        ("llama_attach_threadpool", "threadpool_batch"),
        ("llama_set_sampler", "smpl"),
        ("mtmd_decode_use_non_causal", "chunk"),
    }
)

# C reaches the members of an anonymous union directly, Python needs a name for it.
MEMBER_NAMES: Mapping[str, tuple[str, ...]] = {"llama_model_kv_override": ("value",)}


def select(
    declarations: Declarations, taken: tuple[Taken, ...]
) -> tuple[Declarations, dict[str, str]]:
    """Return what `taken` takes, in header order, and the library of each function.

    Raises:
        VendorError: a pattern takes nothing.
    """
    libraries: dict[str, str] = {}
    macros: set[str] = set()
    types: set[str] = set()
    for entry in taken:
        functions = [f.name for f in declarations.functions if f.header == entry.header]
        for name in _matching(entry.header, functions, entry.functions):
            libraries.setdefault(name, entry.library)
        defined = [m.constant.name for m in declarations.macros if m.header == entry.header]
        macros |= _matching(entry.header, defined, entry.macros)
        records = [r.name for r in declarations.records.values() if r.header == entry.header]
        enums = [enum.name for enum in declarations.enums if enum.header == entry.header]
        types |= _matching(entry.header, [*records, *enums], entry.types)
    chosen = tuple(f for f in declarations.functions if f.name in libraries)
    reached = _reach(declarations, types, (t for f in chosen for t in f.types()))
    return (
        Declarations(
            records={n: r for n, r in declarations.records.items() if n in reached},
            enums=tuple(enum for enum in declarations.enums if enum.name in reached),
            macros=tuple(m for m in declarations.macros if m.constant.name in macros),
            functions=chosen,
        ),
        libraries,
    )


def _matching(header: str, names: list[str], patterns: tuple[str, ...]) -> set[str]:
    """Return the `names` that a pattern takes; each pattern but `*` must take one."""
    found: set[str] = set()
    for pattern in patterns:
        taken = {name for name in names if fnmatchcase(name, pattern)}
        if not taken and pattern != "*":
            raise VendorError(
                f"{header} declares nothing like {pattern!r}",
                cure="upstream renamed or removed it: change TAKEN in ci/abi/taken.py and what "
                "uses it",
            )
        found |= taken
    return found


def _reach(
    declarations: Declarations, names: Iterable[str], types: Iterable[Type]
) -> frozenset[str]:
    """Return `names` and the names of the types that these or `types` need."""
    reached: set[str] = set()
    waiting = [*names, *(name for type_ in types for name in _names(type_))]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        if record := declarations.records.get(name):
            waiting.extend(name for field in record.fields for name in _names(field.type))
    return frozenset(reached)


def _names(used: Type) -> Iterator[str]:
    """Yield the records and enumerations in `used`; what is behind a handle is not needed."""
    for part in walk(used):
        match part:
            case Enumeration(name=name):
                yield name
            case Aggregate(name=name) if name not in HANDLES:
                yield name
            case _:
                pass
