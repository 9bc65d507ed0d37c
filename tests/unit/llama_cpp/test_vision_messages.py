"""Media taken out of messages."""

from __future__ import annotations

from typing import Any

import pytest

from llama_cpp import ValidationError
from llama_cpp._vision_messages import Media, VisionConversation, image_urls, split_on


def image(source: object) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": source}}


def user(*parts: object) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def test_media_are_taken_out_in_order() -> None:
    messages = [
        {"role": "system", "content": "s"},
        user("a", image("u:1"), {"type": "text", "text": "b"}),
        user({"type": "input_audio", "input_audio": {"data": "eHk=", "format": "wav"}}),
        {"role": "assistant", "content": None},
    ]
    conversation = VisionConversation(messages)
    assert conversation.media == [
        Media("image", "u:1"),
        Media("audio", "data:;base64,eHk="),
    ]
    texts = conversation.messages()
    assert isinstance(texts, list)
    assert texts[0] == messages[0]
    assert texts[3] == messages[3]
    words = texts[1]["content"] + texts[2]["content"]
    assert conversation.split(words) == ["a", 0, "b", 1]
    assert conversation.messages_in_one_part()[1] == {  # type: ignore[index]
        "role": "user",
        "content": [{"type": "text", "text": texts[1]["content"]}],
    }


def test_parts_keep_their_shape() -> None:
    conversation = VisionConversation([user(image("u:1"), {"type": "image", "image": b"x"})])
    first, second = conversation.messages_in_parts()[0]["content"]  # type: ignore[index]
    assert conversation.split(first["image_url"]["url"] + second["image"]) == [0, 1]


def test_labels_count_images() -> None:
    audio = {"type": "audio", "audio": b"x"}
    conversation = VisionConversation([user(image("a"), audio), user(image("b"))], labels=True)
    texts = "".join(m["content"] for m in conversation.messages())  # type: ignore[attr-defined]
    assert conversation.split(texts) == ["Picture 1: ", 0, 1, "Picture 2: ", 2]


def test_a_template_may_reorder_and_repeat_but_not_leave_out() -> None:
    conversation = VisionConversation([user(image("a"), image("b"))])
    text = conversation.messages()[0]["content"]  # type: ignore[index]
    half = len(text) // 2
    assert conversation.split(text[half:] + "-" + text) == [1, "-", 0, 1]
    with pytest.raises(ValidationError) as caught:
        conversation.split(text[:half])
    assert str(caught.value) == (
        "the chat template shows 1 of 2 images and audio: choose a handler made for this model, or "
        "give its chat_format"
    )


def test_markers_are_no_ones_to_guess() -> None:
    first, second = (VisionConversation([user(image("a"))]) for _ in range(2))
    assert second.split(first.messages()[0]["content"] + second.messages()[0]["content"]) == [  # type: ignore[index]
        first.messages()[0]["content"],  # type: ignore[index]
        0,
    ]


@pytest.mark.parametrize("messages", ["text", 5, None, []])
def test_what_is_no_list_is_left_to_others(messages: object) -> None:
    conversation = VisionConversation(messages)
    assert conversation.messages() == messages
    assert conversation.media == []


def test_image_urls() -> None:
    messages = [
        {"role": "system", "content": "s"},
        user("a", image("http://a/1"), {"type": "image_url", "image_url": "http://a/2"}),
        user({"type": "audio_url", "audio_url": "http://a/3"}, image(b"x")),
    ]
    assert image_urls(messages) == ["http://a/1", "http://a/2", b"x"]


def test_text_split_on_urls() -> None:
    assert split_on("a http://a/1 b http://a/12", ["http://a/1", "http://a/12"]) == [
        ("text", "a "),
        ("image_url", "http://a/1"),
        ("text", " b "),
        ("image_url", "http://a/12"),
    ]
    assert split_on("plain", []) == [("text", "plain")]
    assert split_on("", [""]) == []
