"""The chat handler for images and audio: the model's own chat template, and the projector's file."""

from __future__ import annotations

import json
import threading
import weakref
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_cpp._errors import ValidationError
from llama_cpp._gguf import check_file
from llama_cpp._media import MediaPolicy, load_media
from llama_cpp._vision_messages import VisionConversation, image_urls, split_on

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence
    from typing import ClassVar, Union

    from typing_extensions import Self

    from llama_cpp._chat import ChatRequest, Formatter
    from llama_cpp._chat_formats import ChatFormatterResponse
    from llama_cpp._media import MediaSource
    from llama_cpp._media_prompt import MediaPrompt
    from llama_cpp._model import Model
    from llama_cpp._mtmd import Bitmap, Projector
    from llama_cpp.llama import Llama

    Json = dict[str, Any]
    Answer = Union[Json, Iterator[Json]]

_DATA = Path(__file__).with_name("_vision_formats.json")
_PREPARED = frozenset(
    {
        *("functions", "function_call", "tools", "tool_choice", "response_format", "grammar"),
        *("stop", "logprobs", "top_logprobs"),
    }
)


class MTMDChatHandler:
    """Answers chats with images and audio; a ``chat_handler`` of :class:`llama_cpp.Llama`.

    The projector is loaded with the first chat of a model and closed with it. One handler can serve
    several models.
    """

    CHAT_FORMAT: ClassVar[str | None] = None
    """A Jinja template in place of the model's own. It reads messages whose content is text, images
    in it; or, where it reads ``image_url``, content in parts, and it puts the URL where the image goes."""
    DEFAULT_SYSTEM_MESSAGE: ClassVar[str | None] = None
    """What the system says where the messages have no system message."""
    FORMAT: ClassVar[str | None] = None
    """A format of the data file."""
    OWN_TEMPLATE_FIRST: ClassVar[bool] = True
    """Whether a template in the model's file goes before :attr:`FORMAT`."""

    def __init__(
        self,
        clip_model_path: str | os.PathLike[str] | None = None,
        verbose: bool = True,
        use_gpu: bool = True,
        *,
        mmproj_path: str | os.PathLike[str] | None = None,
        image_min_tokens: int = -1,
        image_max_tokens: int = -1,
        n_threads: int | None = None,
        warmup: bool = True,
        media: MediaPolicy = MediaPolicy(),  # noqa: B008 - frozen
    ) -> None:
        """Name a projector.

        Args:
            clip_model_path: the projector's file, usually called ``mmproj-*.gguf``.
            verbose: kept for those who read it; what is logged is the model's ``verbose``.
            use_gpu: compute the projector on the GPU, where there is one.
            mmproj_path: the same as ``clip_model_path``.
            image_min_tokens: fewest tokens of an image, where the model has a choice; -1 takes the
                file's.
            image_max_tokens: most tokens of an image, likewise.
            n_threads: threads for the projector; None asks the affinity mask and the cgroup.
            warmup: compute an empty image while loading.
            media: what messages may name: sizes, hosts, paths.

        Raises:
            ModelLoadError: the file is missing, or no GGUF file.
            ValidationError: a parameter is out of range, or both or none of the paths are given.
        """
        from llama_cpp._mtmd import ProjectorParams  # noqa: PLC0415 - loads nothing until it is made

        if (clip_model_path is None) == (mmproj_path is None):
            raise ValidationError(
                f"{type(self).__name__} needs the projector's file: clip_model_path=… (or mmproj_path=…)"
            )
        self.clip_model_path = str(clip_model_path if mmproj_path is None else mmproj_path)
        self.verbose = verbose
        self.use_gpu = use_gpu
        self.media = media
        self._params = ProjectorParams(
            use_gpu=use_gpu,
            n_threads=n_threads,
            image_min_tokens=image_min_tokens,
            image_max_tokens=image_max_tokens,
            warmup=warmup,
        )
        self._params.check()
        check_file(Path(self.clip_model_path), "projector (mmproj)")
        self._lock = threading.Lock()
        self._projectors: weakref.WeakKeyDictionary[Model, Projector] = weakref.WeakKeyDictionary()

    @property
    def mmproj_path(self) -> str:
        """The projector's file."""
        return self.clip_model_path

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickles: the projector is loaded again where it is needed."""
        return {k: v for k, v in self.__dict__.items() if k not in {"_lock", "_projectors"}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what was pickled."""
        self.__dict__.update(state)
        self._lock = threading.Lock()
        self._projectors = weakref.WeakKeyDictionary()

    def __call__(
        self,
        *,
        llama: Llama,
        messages: Sequence[Any],
        functions: Sequence[Any] | None = None,
        function_call: Any = None,
        tools: Sequence[Any] | None = None,
        tool_choice: Any = None,
        temperature: float = 0.2,
        top_p: float = 0.95,
        top_k: int = 40,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        stream: bool = False,
        stop: str | Sequence[str] | None = (),
        seed: int | None = None,
        response_format: Mapping[str, Any] | None = None,
        max_tokens: int | None = None,
        presence_penalty: float = 0.0,
        frequency_penalty: float = 0.0,
        repeat_penalty: float = 1.1,
        tfs_z: float = 1.0,  # noqa: ARG002 - accepted, without effect
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        model: str | None = None,
        logits_processor: Any = None,
        grammar: Any = None,
        logit_bias: Mapping[Any, float] | None = None,
        logprobs: bool | None = None,
        top_logprobs: int | None = None,
        **kwargs: Any,
    ) -> Answer:
        """Answer a chat; parameters as of ``Llama.create_chat_completion``.

        Args:
            llama: the model.
            messages: content is text or a list of parts: ``{"type": "text", "text": …}``,
                ``{"type": "image_url", "image_url": {"url": …}}`` (an http(s) or data URL; or bytes, or
                a ``pathlib.Path``), ``{"type": "input_audio", "input_audio": {"data": base64}}``.
            functions: see there, as all that follow.
            function_call: see there.
            tools: see there.
            tool_choice: see there.
            temperature: see there.
            top_p: see there.
            top_k: see there.
            min_p: see there.
            typical_p: see there.
            stream: see there.
            stop: see there.
            seed: see there.
            response_format: see there.
            max_tokens: see there.
            presence_penalty: see there.
            frequency_penalty: see there.
            repeat_penalty: see there.
            tfs_z: without effect.
            mirostat_mode: see there.
            mirostat_tau: see there.
            mirostat_eta: see there.
            model: see there.
            logits_processor: see there.
            grammar: see there.
            logit_bias: see there.
            logprobs: see there.
            top_logprobs: see there.
            **kwargs: variables for the template (``chat_template_kwargs``), and what
                ``create_completion`` takes besides.

        Returns:
            A chat completion, or an iterator of chat completion chunks.

        Raises:
            ValidationError: a message or an argument is not as described, media cannot be decoded or
                may not be loaded, or the prompt does not fit the context.
            ModelLoadError: the projector's file is damaged, or another model's.
            LlamaError: an image cannot be fetched.
            GenerationError: llama.cpp failed, or another generation has taken the context over.
        """
        given = {
            "functions": functions,
            "function_call": function_call,
            "tools": tools,
            "tool_choice": tool_choice,
            "response_format": response_format,
            "grammar": grammar,
            "stop": stop,
            "logprobs": logprobs,
            "top_logprobs": top_logprobs,
        }
        sampling = {
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "min_p": min_p,
            "typical_p": typical_p,
            "seed": seed,
            "max_tokens": max_tokens,
            "presence_penalty": presence_penalty,
            "frequency_penalty": frequency_penalty,
            "repeat_penalty": repeat_penalty,
            "mirostat_mode": mirostat_mode,
            "mirostat_tau": mirostat_tau,
            "mirostat_eta": mirostat_eta,
            "model": model,
            "logits_processor": logits_processor,
            "logit_bias": logit_bias,
            **kwargs,
        }
        variables = dict(sampling.pop("chat_template_kwargs", None) or {})
        given["reasoning"] = sampling.pop("reasoning_content", False)
        request, prompt = self._prepare(llama, messages, variables, given)
        more = {
            **sampling,
            "grammar": request.grammar,
            "logprobs": request.logprobs,
            "stopping_criteria": request.stopping_criteria,
            "spelled": request.marks or None,
        }
        # None is create_completion's own default of all of them but max_tokens.
        options = {k: v for k, v in more.items() if v is not None or k == "max_tokens"}
        create: Any = llama.create_completion
        completion = create(prompt=prompt, stop=list(request.stop), stream=stream, **options)
        return request.chunks(completion) if stream else request.completion(completion)

    def load_image(self, image_url: MediaSource) -> bytes:
        """Return an image's file.

        Args:
            image_url: an http(s) or data URL, bytes, or a path object; what else is allowed
                :attr:`media` says.

        Raises:
            ValidationError: it may not be loaded, is too large, or is no such thing.
            LlamaError: it cannot be fetched.
        """
        return load_media(image_url, self.media)

    @staticmethod
    def get_image_urls(messages: Sequence[Any]) -> list[Any]:
        """Return the URLs of all images in messages, in order.

        Raises:
            ValidationError: a part of a message is not as described.
        """
        return image_urls(messages)

    @staticmethod
    def split_text_on_image_urls(text: str, image_urls: Sequence[str]) -> list[tuple[str, str]]:
        """Return a text cut at URLs: ``("text", …)`` and ``("image_url", …)`` in order."""
        return split_on(text, image_urls)

    @classmethod
    def from_pretrained(
        cls,
        repo_id: str,
        filename: str | None,
        local_dir: str | os.PathLike[str] | None = None,
        local_dir_use_symlinks: bool | str = "auto",
        cache_dir: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """Download a projector from the Hugging Face hub and return its handler.

        Args:
            repo_id: such as ``ggml-org/gemma-3-4b-it-GGUF``.
            filename: a file, or a pattern that one file matches, such as ``mmproj*f16.gguf``; None
                is ``*mmproj*.gguf``.
            local_dir: where to; None is the hub's cache.
            local_dir_use_symlinks: without effect: the hub's client has none any more.
            cache_dir: another cache.
            **kwargs: for the handler.

        Raises:
            LlamaError: the package huggingface_hub is not installed.
            ValidationError: no file fits, or several.
            ModelLoadError: the hub does not give the file.
        """
        from llama_cpp._hub import download  # noqa: PLC0415 - for who downloads

        del local_dir_use_symlinks
        path = download(
            repo_id, filename or "*mmproj*.gguf", local_dir=local_dir, cache_dir=cache_dir
        )
        return cls(clip_model_path=path, **kwargs)

    # -- inside --------------------------------------------------------------------------------

    def _conversation(self, messages: object) -> VisionConversation:
        return VisionConversation(messages)

    def _finished(self, prompt: str) -> str:
        """Return a rendered prompt with what the handler adds to it."""
        return prompt

    def _prepare(
        self, llama: Llama, messages: object, variables: Json, given: Json
    ) -> tuple[ChatRequest, MediaPrompt]:
        from llama_cpp import _chat  # noqa: PLC0415 - imports jinja2 sooner or later

        if self.DEFAULT_SYSTEM_MESSAGE is not None:
            messages = _with_system(messages, self.DEFAULT_SYSTEM_MESSAGE)
        elif self.FORMAT is not None:
            messages = _with_system(messages, _formats()[self.FORMAT].get("system"))
        conversation = self._conversation(messages)
        request = _chat.prepare(
            llama,
            conversation.messages(),
            formatter=self._formatter(llama, conversation),
            template_variables=variables,
            **given,
        )
        parts = conversation.split(self._finished(request.prompt))
        if len(conversation.media) > self.media.max_files:
            raise ValidationError(
                f"the messages name {len(conversation.media)} images and audio, more than the "
                f"{self.media.max_files} that are allowed (MediaPolicy.max_files)"
            )
        files = [
            self.load_image(media.source)
            if media.kind == "image"
            else load_media(media.source, self.media)
            for media in conversation.media
        ]
        projector = self._projector(llama)
        bitmaps: list[Bitmap] = []
        try:
            for data in files:
                bitmaps.append(projector.bitmap(data))  # noqa: PERF401 - those made are closed
            prompt = projector.tokenize(
                [part if isinstance(part, str) else bitmaps[part] for part in parts],
                add_special=not request.added_special,
            )
        finally:
            for bitmap in bitmaps:
                bitmap.close()
        return request, prompt

    def _formatter(self, llama: Llama, conversation: VisionConversation) -> Formatter | None:
        """Return what makes prompts; None takes what the model says."""
        from llama_cpp._chat_formats import TextFormat  # noqa: PLC0415 - as above
        from llama_cpp._chat_template import SpecialTexts, reads_parts  # noqa: PLC0415

        if self.CHAT_FORMAT is not None:
            if "image_url" in self.CHAT_FORMAT:
                return _InParts(self.CHAT_FORMAT, conversation, llama)
            bos, eos = SpecialTexts.of(llama._core.vocabulary)  # noqa: SLF001 - as below
            return TextFormat(
                name=type(self).__name__,
                source=self.CHAT_FORMAT,
                stop=(eos,) if eos else (),
                bos=bos,
                eos=eos,
            )
        if self.FORMAT is None or (self.OWN_TEMPLATE_FIRST and _has_template(llama)):
            source = llama.metadata.get("tokenizer.chat_template")
            if llama.chat_format is None and source is not None and reads_parts(source):
                return _InParts(source, conversation, llama)
            return None
        entry = _formats()[self.FORMAT]
        return TextFormat(
            name=self.FORMAT, source="".join(entry["template"]), stop=tuple(entry["stop"])
        )

    def _projector(self, llama: Llama) -> Projector:
        from llama_cpp._mtmd import Projector  # noqa: PLC0415 - as above

        core = llama._core  # noqa: SLF001 - the same package
        with self._lock:
            projector = self._projectors.get(core)
            if projector is None or projector.closed:
                projector = Projector(core, self.clip_model_path, self._params)
                self._projectors[core] = projector
            return projector


class _InParts:
    """Renders a template that reads content in parts.

    One that reads ``image_url`` puts the URL where the image goes; for others all content is text.
    """

    def __init__(self, template: str, conversation: VisionConversation, llama: Llama) -> None:
        self._template = template
        self._conversation = conversation
        self._llama = llama

    def __call__(self, *, messages: Any, **variables: Any) -> ChatFormatterResponse:
        from llama_cpp._chat_formats import ChatFormatterResponse  # noqa: PLC0415 - as above
        from llama_cpp._chat_template import ChatTemplate, SpecialTexts  # noqa: PLC0415

        del messages  # the same, joined
        specials = SpecialTexts.of(self._llama._core.vocabulary)  # noqa: SLF001 - as above
        prompt = ChatTemplate(self._template).render(
            {
                "add_generation_prompt": True,
                **variables,
                "messages": self._messages(),
                "bos_token": specials.bos,
                "eos_token": specials.eos,
            }
        )
        return ChatFormatterResponse(
            prompt=prompt,
            stop=[specials.eos] if specials.eos else [],
            added_special=bool(specials.bos) and prompt.startswith(specials.bos),
        )

    def _messages(self) -> object:
        if "image_url" in self._template:
            return self._conversation.messages_in_parts()
        return self._conversation.messages_in_one_part()


@lru_cache(maxsize=1)
def _formats() -> dict[str, Json]:
    data: dict[str, Json] = json.loads(_DATA.read_text(encoding="utf-8"))
    return data


def _has_template(llama: Llama) -> bool:
    return llama.chat_format is not None or "tokenizer.chat_template" in llama.metadata


def _with_system(messages: object, text: str | None) -> object:
    if not text or not isinstance(messages, list):
        return messages
    if any(isinstance(m, dict) and m.get("role") in {"system", "developer"} for m in messages):
        return messages
    return [{"role": "system", "content": text}, *messages]
