"""Messages with images and audio: the text that stays, and the media that goes beside it.

Each image's place in the text is held by a marker that nobody outside can guess, so that no text of a
stranger is taken for an image, and templates render it like any other text.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from llama_cpp._errors import ValidationError

if TYPE_CHECKING:
    from typing import Literal

    from llama_cpp._media import MediaSource

    Message = dict[str, Any]
    Kind = Literal["image", "audio"]

# OpenAI's parts and those of Hugging Face's templates: type → (key of the source, kind)
_MEDIA_PARTS: Mapping[str, tuple[str, Kind]] = {
    "image_url": ("image_url", "image"),
    "image": ("image", "image"),
    "audio_url": ("audio_url", "audio"),
    "audio": ("audio", "audio"),
    "input_audio": ("input_audio", "audio"),
}


class Media(NamedTuple):
    """An image or audio, as a message names it."""

    kind: Kind
    source: MediaSource


class VisionConversation:
    """Messages whose media are taken out.

    Attributes:
        media: in the order of the messages.
    """

    def __init__(self, messages: object, *, labels: bool = False) -> None:
        """Take the media out of messages.

        Args:
            messages: OpenAI's chat messages; what is no list of messages is left to who reads them.
            labels: put "Picture 1: " and so on in front of each image.

        Raises:
            ValidationError: a part is of no known type, or names no source.
        """
        self._secret = secrets.token_hex(8)
        self._labels = labels
        self.media: list[Media] = []
        self._messages = messages
        if isinstance(messages, Sequence) and not isinstance(messages, (str, bytes)):
            self._messages = [self._message(m, index) for index, m in enumerate(messages)]

    def messages(self) -> object:
        """Return the messages with text for content, a marker where there is media."""
        if not isinstance(self._messages, list):
            return self._messages
        return [_joined(message) for message in self._messages]

    def messages_in_parts(self) -> object:
        """Return the messages with content as it was given, markers in the place of sources."""
        return self._messages

    def messages_in_one_part(self) -> object:
        """Return the messages with one part of text for content, a marker where there is media."""
        messages = self.messages()
        if not isinstance(messages, list):
            return messages
        return [
            {**message, "content": [{"type": "text", "text": message["content"]}]}
            if isinstance(message, Mapping) and isinstance(message.get("content"), str)
            else message
            for message in messages
        ]

    def split(self, prompt: str) -> list[str | int]:
        """Return a rendered prompt's texts and, between them, the numbers of its media.

        Raises:
            ValidationError: the template has left media out.
        """
        pieces = re.split(f"<__media_{self._secret}_([0-9]+)__>", prompt)
        parts: list[str | int] = []
        for index, piece in enumerate(pieces):
            if index % 2:
                parts.append(int(piece))
            elif piece:
                parts.append(piece)
        shown = {part for part in parts if isinstance(part, int)}
        if len(shown) != len(self.media):
            raise ValidationError(
                f"the chat template shows {len(shown)} of {len(self.media)} images and audio: choose "
                "a handler made for this model, or give its chat_format"
            )
        return parts

    def _message(self, message: object, index: int) -> object:
        content = message.get("content") if isinstance(message, Mapping) else None
        if not isinstance(content, Sequence) or isinstance(content, (str, bytes)):
            return message
        parts = [self._part(part, f"message {index}, part {n}") for n, part in enumerate(content)]
        return {**message, "content": parts}  # type: ignore[dict-item]

    def _part(self, part: object, where: str) -> object:
        if isinstance(part, str):
            return {"type": "text", "text": part}
        kind = part.get("type") if isinstance(part, Mapping) else None
        if not isinstance(part, Mapping) or not isinstance(kind, str):
            raise ValidationError(f'{where} is {part!r}; it must be {{"type": …}} or text')
        if kind == "text":
            if not isinstance(part.get("text"), str):
                raise ValidationError(f"{where} has text {part.get('text')!r}; it must be text")
            return dict(part)
        if kind not in _MEDIA_PARTS:
            known = ", ".join(["text", *_MEDIA_PARTS])
            raise ValidationError(f"{where} is of type {kind!r}; choose from {known}")
        key, medium = _MEDIA_PARTS[kind]
        self.media.append(Media(medium, _source(part, key, where)))
        marker = f"<__media_{self._secret}_{len(self.media) - 1}__>"
        given = part.get(key)
        held = {**given, "url": marker} if isinstance(given, Mapping) else marker
        return {**part, key: held, "marker": self._label(medium) + marker}

    def _label(self, kind: Kind) -> str:
        if not self._labels or kind != "image":
            return ""
        return f"Picture {sum(1 for media in self.media if media.kind == 'image')}: "


def _source(part: Mapping[str, Any], key: str, where: str) -> MediaSource:
    given = part.get(key)
    if key == "input_audio":
        data = given.get("data") if isinstance(given, Mapping) else None
        if not isinstance(data, str):
            raise ValidationError(f'{where} has no {{"input_audio": {{"data": base64}}}}')
        return f"data:;base64,{data}"
    if isinstance(given, Mapping):
        given = given.get("url")
    if given is None:
        given = part.get("url")
    if given is None:
        raise ValidationError(f'{where} names no source: {{"{key}": {{"url": …}}}}')
    source: MediaSource = given
    return source


def _joined(message: object) -> object:
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(message, Mapping) or not isinstance(content, list):
        return message
    return {**message, "content": "".join(part.get("marker", part.get("text")) for part in content)}


def image_urls(messages: object) -> list[Any]:
    """Return the sources of all images in messages, in order."""
    return [media.source for media in VisionConversation(messages).media if media.kind == "image"]


def split_on(text: str, urls: Sequence[str]) -> list[tuple[str, str]]:
    """Return a text cut at URLs: ``("text", …)`` and ``("image_url", …)``, nothing empty."""
    known = [url for url in urls if url]
    if not known:
        return [("text", text)] if text else []
    pattern = "|".join(re.escape(url) for url in sorted(set(known), key=len, reverse=True))
    pieces = re.split(f"({pattern})", text)
    return [
        ("image_url" if index % 2 else "text", piece) for index, piece in enumerate(pieces) if piece
    ]
