"""Python bindings of llama.cpp.

Importing this package loads nothing native and takes about a millisecond; its names are imported
when they are first used.
"""

from __future__ import annotations

import sys

from llama_cpp._namespace import Namespace
from llama_cpp._version import __version__

# importing typing takes longer than all of this; type checkers know the name
TYPE_CHECKING = False
if TYPE_CHECKING:
    from llama_cpp._adapters import ControlVector
    from llama_cpp._build_info import BuildInfo, build_info
    from llama_cpp._errors import GenerationError, LlamaError, ModelLoadError, ValidationError
    from llama_cpp._handle import shutdown
    from llama_cpp._library import (
        Device,
        cpu_variant,
        libraries,
        module_failures,
        print_system_info,
        system_info,
    )
    from llama_cpp._log import (
        disable_logging,
        reset_logging,
        set_log_level,
        set_verbose,
        suppress_stdout_stderr,
    )
    from llama_cpp._processors import (
        LogitsProcessor,
        LogitsProcessorList,
        MinTokensLogitsProcessor,
        StoppingCriteria,
        StoppingCriteriaList,
    )
    from llama_cpp._remote import add_rpc_servers, devices
    from llama_cpp._sampler import SamplingParams
    from llama_cpp._state import LlamaState
    from llama_cpp.config import LlamaConfig
    from llama_cpp.llama import Llama
    from llama_cpp.llama_cache import BaseLlamaCache, LlamaCache, LlamaDiskCache, LlamaRAMCache
    from llama_cpp.llama_cpp import *  # noqa: F403 - what __getattr__ gives
    from llama_cpp.llama_grammar import LlamaGrammar
    from llama_cpp.llama_speculative import LlamaDraftModel
    from llama_cpp.llama_tokenizer import BaseLlamaTokenizer, LlamaTokenizer
    from llama_cpp.llama_types import *  # noqa: F403
    from llama_cpp.pool import LlamaPool
    from llama_cpp.unified import UnifiedLLM

__all__ = [
    "BaseLlamaCache",
    "BaseLlamaTokenizer",
    "BuildInfo",
    "ControlVector",
    "Device",
    "GenerationError",
    "Llama",
    "LlamaCache",
    "LlamaConfig",
    "LlamaDiskCache",
    "LlamaDraftModel",
    "LlamaError",
    "LlamaGrammar",
    "LlamaPool",
    "LlamaRAMCache",
    "LlamaState",
    "LlamaTokenizer",
    "LogitsProcessor",
    "LogitsProcessorList",
    "MinTokensLogitsProcessor",
    "ModelLoadError",
    "SamplingParams",
    "StoppingCriteria",
    "StoppingCriteriaList",
    "UnifiedLLM",
    "ValidationError",
    "__version__",
    "add_rpc_servers",
    "build_info",
    "cpu_variant",
    "devices",
    "disable_logging",
    "libraries",
    "module_failures",
    "print_system_info",
    "reset_logging",
    "set_log_level",
    "set_verbose",
    "shutdown",
    "suppress_stdout_stderr",
    "system_info",
]

# module → its names that are the package's too; what is not here is looked for in llama_cpp.llama_cpp
_NAMES = {
    "_adapters": ("ControlVector",),
    "_build_info": ("BuildInfo", "build_info"),
    "_errors": ("GenerationError", "LlamaError", "ModelLoadError", "ValidationError"),
    "_handle": ("shutdown",),
    "_library": (
        "Device",
        "cpu_variant",
        "libraries",
        "module_failures",
        "print_system_info",
        "system_info",
    ),
    "_log": (
        "disable_logging",
        "reset_logging",
        "set_log_level",
        "set_verbose",
        "suppress_stdout_stderr",
    ),
    "_processors": (
        "LogitsProcessor",
        "LogitsProcessorList",
        "MinTokensLogitsProcessor",
        "StoppingCriteria",
        "StoppingCriteriaList",
    ),
    "_remote": ("add_rpc_servers", "devices"),
    "_sampler": ("SamplingParams",),
    "_state": ("LlamaState",),
    "config": ("LlamaConfig",),
    "llama": ("Llama",),
    "llama_cache": ("BaseLlamaCache", "LlamaCache", "LlamaDiskCache", "LlamaRAMCache"),
    "llama_grammar": ("LlamaGrammar",),
    "llama_speculative": ("LlamaDraftModel",),
    "llama_tokenizer": ("BaseLlamaTokenizer", "LlamaTokenizer"),
    "llama_types": (
        "ChatCompletion",
        "ChatCompletionChoice",
        "ChatCompletionChunk",
        "ChatCompletionChunkChoice",
        "ChatCompletionChunkDelta",
        "ChatCompletionChunkDeltaEmpty",
        "ChatCompletionFunction",
        "ChatCompletionFunctionCall",
        "ChatCompletionFunctionCallOption",
        "ChatCompletionFunctionParameters",
        "ChatCompletionFunctions",
        "ChatCompletionLogprobToken",
        "ChatCompletionLogprobs",
        "ChatCompletionMessage",
        "ChatCompletionMessageToolCall",
        "ChatCompletionMessageToolCallChunk",
        "ChatCompletionMessageToolCallChunkFunction",
        "ChatCompletionMessageToolCallFunction",
        "ChatCompletionMessageToolCalls",
        "ChatCompletionNamedToolChoice",
        "ChatCompletionNamedToolChoiceFunction",
        "ChatCompletionRequestAssistantMessage",
        "ChatCompletionRequestAssistantMessageFunctionCall",
        "ChatCompletionRequestFunctionCall",
        "ChatCompletionRequestFunctionCallOption",
        "ChatCompletionRequestFunctionMessage",
        "ChatCompletionRequestMessage",
        "ChatCompletionRequestMessageContentPart",
        "ChatCompletionRequestMessageContentPartImage",
        "ChatCompletionRequestMessageContentPartImageImageUrl",
        "ChatCompletionRequestMessageContentPartText",
        "ChatCompletionRequestResponseFormat",
        "ChatCompletionRequestSystemMessage",
        "ChatCompletionRequestToolMessage",
        "ChatCompletionRequestUserMessage",
        "ChatCompletionResponseChoice",
        "ChatCompletionResponseFunction",
        "ChatCompletionResponseFunctionCall",
        "ChatCompletionResponseMessage",
        "ChatCompletionStreamResponse",
        "ChatCompletionStreamResponseChoice",
        "ChatCompletionStreamResponseDelta",
        "ChatCompletionStreamResponseDeltaEmpty",
        "ChatCompletionStreamResponseDeltaFunctionCall",
        "ChatCompletionTool",
        "ChatCompletionToolChoiceOption",
        "ChatCompletionToolFunction",
        "ChatCompletionTopLogprobToken",
        "Completion",
        "CompletionChoice",
        "CompletionChunk",
        "CompletionLogprobs",
        "CompletionUsage",
        "CreateChatCompletionResponse",
        "CreateChatCompletionStreamResponse",
        "CreateCompletionResponse",
        "CreateCompletionStreamResponse",
        "CreateEmbeddingResponse",
        "Embedding",
        "EmbeddingData",
        "EmbeddingUsage",
        "JsonType",
    ),
    "pool": ("LlamaPool",),
    "unified": ("UnifiedLLM",),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

_MODULES = frozenset(
    {
        "_internals",
        "config",
        "llama",
        "llama_cache",
        "llama_chat_format",
        "llama_cpp",
        "llama_grammar",
        "llama_speculative",
        "llama_tokenizer",
        "llama_types",
        "mtmd_cpp",
        "pool",
        "unified",
    }
)


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562).

    llama.cpp's own functions and the constants that parameters take (``LLAMA_POOLING_TYPE_MEAN``,
    ``GGML_TYPE_Q8_0`` …) come from :mod:`llama_cpp.llama_cpp`.
    """
    import importlib  # noqa: PLC0415 - the same

    if name in _MODULES:
        return importlib.import_module(f"llama_cpp.{name}")
    if name.startswith("_"):
        raise AttributeError(f"module 'llama_cpp' has no attribute {name!r}")
    home = importlib.import_module(f"llama_cpp.{_HOMES.get(name, 'llama_cpp')}")
    try:
        value: object = getattr(home, name)
    except AttributeError:
        raise AttributeError(f"module 'llama_cpp' has no attribute {name!r}") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, llama.cpp's own among them."""
    low = (name for name in dir(__getattr__("llama_cpp")) if not name.startswith("_"))
    return sorted({*globals(), *__all__, *_HOMES, *low})


sys.modules[__name__].__class__ = Namespace
