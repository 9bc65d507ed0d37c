"""Chat handlers of families of models, for files that have no chat template.

Each is :class:`MTMDChatHandler` with the format and the system message that the family was trained on;
those are data, ``_vision_formats.json``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llama_cpp._media import MediaPolicy
from llama_cpp._vision import MTMDChatHandler
from llama_cpp._vision_messages import VisionConversation

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from typing import Union

    Json = dict[str, Any]
    Answer = Union[Json, Iterator[Json]]


class Llava15ChatHandler(MTMDChatHandler):
    """LLaVA 1.5, and whatever is trained on Vicuna's format."""

    FORMAT = "llava-1-5"
    OWN_TEMPLATE_FIRST = False

    __init__ = MTMDChatHandler.__init__
    __call__ = MTMDChatHandler.__call__
    load_image = MTMDChatHandler.load_image
    get_image_urls = staticmethod(MTMDChatHandler.get_image_urls)
    split_text_on_image_urls = staticmethod(MTMDChatHandler.split_text_on_image_urls)
    from_pretrained = MTMDChatHandler.__dict__["from_pretrained"]


class Llava16ChatHandler(Llava15ChatHandler):
    """LLaVA 1.6."""

    FORMAT = "llava-1-6"


class MoondreamChatHandler(Llava15ChatHandler):
    """Moondream 2."""

    FORMAT = "moondream2"


class ObsidianChatHandler(Llava15ChatHandler):
    """Obsidian 3B."""

    FORMAT = "obsidian"


class NanoLlavaChatHandler(Llava15ChatHandler):
    """nanoLLaVA."""

    FORMAT = "nanollava"


class Llama3VisionAlphaChatHandler(Llava15ChatHandler):
    """llama-3-vision-alpha."""

    FORMAT = "llama-3-vision-alpha"


Llama3VisionAlpha = Llama3VisionAlphaChatHandler


class MiniCPMv26ChatHandler(Llava15ChatHandler):
    """MiniCPM-V 2.6."""

    FORMAT = "minicpm-v-2.6"


class Gemma4ChatHandler(MTMDChatHandler):
    """Gemma 4; the template of its file, if it has one."""

    FORMAT = "gemma4"


class Qwen25VLChatHandler(MTMDChatHandler):
    """Qwen2.5-VL; the template of its file, if it has one."""

    FORMAT = "qwen2.5-vl"

    def __call__(self, **kwargs: Any) -> Answer:
        """Answer a chat; parameters as of :meth:`MTMDChatHandler.__call__`."""
        return super().__call__(**kwargs)


class Qwen3VLChatHandler(MTMDChatHandler):
    """Qwen3-VL; the template of its file, if it has one."""

    FORMAT = "qwen3-vl"

    def __init__(
        self,
        clip_model_path: str | os.PathLike[str] | None = None,
        force_reasoning: bool = False,
        add_vision_id: bool = True,
        image_min_tokens: int = -1,
        image_max_tokens: int = -1,
        use_gpu: bool = True,
        verbose: bool = True,
        *,
        mmproj_path: str | os.PathLike[str] | None = None,
        n_threads: int | None = None,
        warmup: bool = True,
        media: MediaPolicy = MediaPolicy(),  # noqa: B008 - frozen
    ) -> None:
        """Name a projector.

        Args:
            clip_model_path: the projector's file.
            force_reasoning: begin each answer with ``<think>``.
            add_vision_id: put "Picture 1: " and so on in front of images.
            image_min_tokens: as of :class:`MTMDChatHandler`, like all that follow.
            image_max_tokens: see there.
            use_gpu: see there.
            verbose: see there.
            mmproj_path: see there.
            n_threads: see there.
            warmup: see there.
            media: see there.

        Raises:
            ModelLoadError: the file is missing, or no GGUF file.
            ValidationError: a parameter is out of range, or both or none of the paths are given.
        """
        super().__init__(
            clip_model_path,
            verbose,
            use_gpu,
            mmproj_path=mmproj_path,
            image_min_tokens=image_min_tokens,
            image_max_tokens=image_max_tokens,
            n_threads=n_threads,
            warmup=warmup,
            media=media,
        )
        self.force_reasoning = force_reasoning
        self.add_vision_id = add_vision_id

    def _conversation(self, messages: object) -> VisionConversation:
        return VisionConversation(messages, labels=self.add_vision_id)

    def _finished(self, prompt: str) -> str:
        if self.force_reasoning and not prompt.rstrip().endswith("<think>"):
            return f"{prompt}<think>\n"
        return prompt
