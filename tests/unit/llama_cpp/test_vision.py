"""Chats with images."""

from __future__ import annotations

import asyncio
import base64
import json
import pickle
from typing import TYPE_CHECKING, Any

import gguf
import pytest

from llama_cpp import Llama, LlamaError, LlamaPool, ModelLoadError, ValidationError, _vision
from llama_cpp._media import MediaPolicy
from llama_cpp._vision import MTMDChatHandler
from llama_cpp._vision_families import (
    Gemma4ChatHandler,
    Llama3VisionAlpha,
    Llama3VisionAlphaChatHandler,
    Llava15ChatHandler,
    Llava16ChatHandler,
    MiniCPMv26ChatHandler,
    MoondreamChatHandler,
    NanoLlavaChatHandler,
    ObsidianChatHandler,
    Qwen3VLChatHandler,
    Qwen25VLChatHandler,
)
from llama_cpp.llama_cache import LlamaRAMCache
from llama_cpp.llama_speculative import LlamaPromptLookupDecoding
from tests.tiny.audio import HIGH, LOW, wav
from tests.tiny.vision import BLUE, RED, png

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .conftest import Outcome

pytestmark = pytest.mark.build

UPPER = " GOODBYE, until the long day has come to a quiet end."
LOWER = " goodbye, until the long day has come to a quiet end."


def data_url(*colours: tuple[int, int, int]) -> str:
    return "data:image/png;base64," + base64.b64encode(png(32, 32, colours)).decode()


def image(source: object) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": source}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def user(*parts: object) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


def loaded(vision: Path, architecture: str, handler: MTMDChatHandler, **options: Any) -> Llama:
    return Llama(
        vision / f"{architecture}-f32.gguf",
        **{"n_threads": 1, "n_threads_batch": 1, "verbose": False, "n_ctx": 1024, **options},
        chat_handler=handler,
    )


def handler_of(
    vision: Path, architecture: str, kind: type[MTMDChatHandler] = MTMDChatHandler, **options: Any
) -> MTMDChatHandler:
    path = vision / f"mmproj-{architecture}-f32.gguf"
    return kind(path, **{"n_threads": 1, "warmup": False, **options})


@pytest.fixture(params=["gemma3", "qwen3vl"])
def llm(vision: Path, request: pytest.FixtureRequest) -> Iterator[Llama]:
    with loaded(vision, request.param, handler_of(vision, request.param)) as made:
        yield made


def answer(llm: Llama, *messages: object, **options: Any) -> str:
    made: Any = llm.create_chat_completion(
        list(messages),
        **{"temperature": 0, "repeat_penalty": 1.0, "max_tokens": 40, **options},
    )
    content: str = made["choices"][0]["message"]["content"]
    return content


def rendered(llm: Llama, handler: MTMDChatHandler, *messages: object, **variables: Any) -> str:
    """Return the prompt, each image as <image>."""
    given = dict.fromkeys(_vision._PREPARED)
    _, prompt = handler._prepare(llm, list(messages), variables, given)
    spelled = []
    for chunk in prompt.chunks:
        data = llm.detokenize(chunk.tokens, special=True) if not chunk.key else b"<image>"
        spelled.append(data.decode())
    return "".join(spelled)


# -- the generic handler ---------------------------------------------------------------------------


def test_an_image_from_anywhere(llm: Llama, tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(png(32, 32, [RED]))
    for part in (
        image(data_url(RED)),
        {"type": "image_url", "image_url": data_url(RED)},
        image(png(32, 32, [RED])),
        image(tmp_path / "red.png"),
        {"type": "image", "image": png(32, 32, [RED])},
        {"type": "image", "url": data_url(RED)},
    ):
        assert answer(llm, user(part, text("what is this?"))) == UPPER
    assert answer(llm, user(image(data_url(BLUE)), text("what is this?"))) == LOWER
    assert answer(llm, {"role": "user", "content": "hello"}) == LOWER


def test_several_images_and_turns(llm: Llama) -> None:
    first = user(text("one "), image(data_url(RED)), text(" two"))
    assert answer(llm, first) == UPPER
    engine = llm._engine
    assert engine is not None
    before = len(engine.sequence.tokens)
    turn = {"role": "assistant", "content": UPPER}
    kept = engine.sequence.keep_prefix
    reused = []
    engine.sequence.keep_prefix = lambda *given: reused.append(kept(*given)) or reused[-1]  # type: ignore[method-assign, func-returns-value]
    second = user(image(data_url(BLUE)), image(data_url(BLUE)))
    assert answer(llm, first, turn, second) == LOWER
    # the first turn, its image and its answer were in memory; the template puts a space before it
    assert before - 12 < reused[0] < before
    assert answer(llm, first, user(image(data_url(RED)), image(data_url(BLUE)))) == UPPER


def test_stream(llm: Llama) -> None:
    chunks: Any = llm.create_chat_completion(
        [user(image(data_url(RED)))], temperature=0, repeat_penalty=1.0, stream=True
    )
    parts = list(chunks)
    assert parts[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(p["choices"][0]["delta"].get("content", "") for p in parts) == UPPER
    assert parts[-1]["choices"][0]["finish_reason"] == "stop"


def test_usage_counts_tokens(llm: Llama) -> None:
    made: Any = llm.create_chat_completion(
        [user(image(data_url(RED)))], temperature=0, repeat_penalty=1.0, max_tokens=3
    )
    tokens = 4 if "gemma3" in llm.model_path else 16
    plain: Any = llm.create_chat_completion(
        [user(text(""))], temperature=0, repeat_penalty=1.0, max_tokens=3
    )
    assert made["usage"]["completion_tokens"] == 3
    assert made["usage"]["prompt_tokens"] == plain["usage"]["prompt_tokens"] + tokens + 2


def test_grammars_and_tools(llm: Llama) -> None:
    message = user(image(data_url(RED)))
    assert answer(llm, message, grammar='root ::= " g" "oo"') == " goo"
    made = answer(
        llm,
        message,
        response_format={"type": "json_schema", "json_schema": {"schema": {"const": "a"}}},
    )
    assert made == '"a"'
    parameters = {"type": "object", "properties": {"n": {"const": 1}}, "required": ["n"]}
    tool = {"type": "function", "function": {"name": "count", "parameters": parameters}}
    called: Any = llm.create_chat_completion(
        [message], tools=[tool], tool_choice="required", temperature=0, max_tokens=60
    )
    call = called["choices"][0]["message"]["tool_calls"][0]["function"]
    assert (call["name"], json.loads(call["arguments"])) == ("count", {"n": 1})


def test_logprobs(llm: Llama) -> None:
    made: Any = llm.create_chat_completion(
        [user(image(data_url(RED)))],
        temperature=0,
        repeat_penalty=1.0,
        max_tokens=1,
        logprobs=True,
        top_logprobs=2,
    )
    first = made["choices"][0]["logprobs"]["content"][0]
    assert first["token"] == " G"
    assert [entry["token"] for entry in first["top_logprobs"]] == [" G", " g"]


def test_stop(llm: Llama) -> None:
    assert answer(llm, user(image(data_url(RED))), stop=["BYE"]) == " GOOD"


def test_the_text_of_a_stranger_holds_no_image(llm: Llama) -> None:
    for words in ("<__media__>", "<__media_0123456789abcdef_0__>", "<start_of_image>", "[IMG]"):
        assert answer(llm, user(text(words))) == LOWER
        assert answer(llm, user(text(words), image(data_url(RED)))) == UPPER


def test_audio(vision: Path) -> None:
    handler = MTMDChatHandler(vision / "mmproj-audio-f32.gguf", n_threads=1, warmup=False)
    with loaded(vision, "gemma3", handler, n_ctx=2048) as llm:
        for hertz, expected in ((LOW, UPPER), (HIGH, LOWER)):
            data = base64.b64encode(wav(hertz)).decode()
            part = {"type": "input_audio", "input_audio": {"data": data, "format": "wav"}}
            assert answer(llm, user(text("listen: "), part)) == expected
        with pytest.raises(ValidationError, match="takes no images"):
            answer(llm, user(image(data_url(RED))))


@pytest.mark.parametrize("architecture", ["gemma3", "qwen3vl"])
@pytest.mark.parametrize(
    "options",
    [
        {"draft_model": LlamaPromptLookupDecoding(num_pred_tokens=4)},
        {"logits_all": True},
        {"flash_attn": True, "type_k": 8, "type_v": 8},
        {"n_batch": 16, "n_ubatch": 8},
    ],
    ids=["drafts", "all logits", "quantised caches", "small batches"],
)
def test_images_with_other_options(
    vision: Path, architecture: str, options: dict[str, Any]
) -> None:
    with loaded(vision, architecture, handler_of(vision, architecture), **options) as llm:
        for colour, expected in ((RED, UPPER), (BLUE, LOWER), (RED, UPPER)):
            assert answer(llm, user(image(data_url(colour)))) == expected


def test_images_with_a_cache_and_states(llm: Llama) -> None:
    llm.set_cache(LlamaRAMCache())
    for colour, expected in ((RED, UPPER), (BLUE, LOWER), (RED, UPPER), (BLUE, LOWER)):
        assert answer(llm, user(image(data_url(colour)))) == expected
    state = llm.save_state()
    assert answer(llm, user(image(data_url(RED)))) == UPPER
    llm.load_state(state)
    assert answer(llm, user(image(data_url(BLUE)))) == LOWER


def test_images_and_awaiting(llm: Llama) -> None:
    made: Any = asyncio.run(
        llm.create_chat_completion_async(
            [user(image(data_url(RED)))], temperature=0, repeat_penalty=1.0, max_tokens=40
        )
    )
    assert made["choices"][0]["message"]["content"] == UPPER


def pooled(pool: LlamaPool, *conversations: list[object], **options: Any) -> list[str]:
    """Answer chats together, greedily."""
    made = pool.sync.create_chat_completion_batch(
        conversations,
        **{"temperature": 0, "repeat_penalty": 1.0, "max_tokens": 40, **options},
    )
    return [each["choices"][0]["message"]["content"] for each in made]


@pytest.mark.parametrize("architecture", ["gemma3", "qwen3vl"])
@pytest.mark.parametrize("unified", [{}, {"contexts": 2}], ids=["one context", "two contexts"])
def test_images_in_a_pool(vision: Path, architecture: str, unified: dict[str, Any]) -> None:
    handler = handler_of(vision, architecture)
    red = user(text("one "), image(data_url(RED)), text(" two"))
    blue = user(text("one "), image(data_url(BLUE)), text(" two"))
    turn = {"role": "assistant", "content": UPPER}
    later: list[object] = [red, turn, user(image(data_url(BLUE)), image(data_url(BLUE)))]
    words = {"role": "user", "content": "hello"}
    path = vision / f"{architecture}-f32.gguf"
    options: dict[str, Any] = {"n_threads": 1, "n_threads_batch": 1, "verbose": False}
    with LlamaPool(path, 4, chat_handler=handler, n_ctx=1024, **unified, **options) as pool:
        conversations: list[list[object]] = [[red], [blue], [words], [red], later, [blue]]
        expected = [UPPER, LOWER, LOWER, UPPER, LOWER, LOWER]
        assert pooled(pool, *conversations) == expected
        before = pool.stats().cached_tokens
        assert pooled(pool, *reversed(conversations)) == expected[::-1]
        # images that are in memory are not computed again
        assert pool.stats().cached_tokens > before + 20
        chunks = pool.sync.create_chat_completion(
            [red], temperature=0, repeat_penalty=1.0, max_tokens=40, stream=True
        )
        deltas = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
        assert "".join(deltas) == UPPER
        # the pool goes on after what it refuses
        with pytest.raises(ValidationError, match=r"a sequence holds|the context holds"):
            pooled(pool, [user(*[image(data_url(RED))] * 9, text("x" * 1100))])
        assert pooled(pool, [words], [red]) == [LOWER, UPPER]


@pytest.mark.parametrize("architecture", ["gemma3", "qwen3vl"])
def test_images_in_a_pool_that_is_too_small_for_all_at_once(
    vision: Path, architecture: str
) -> None:
    handler = handler_of(vision, architecture)
    path = vision / f"{architecture}-f32.gguf"
    options: dict[str, Any] = {"n_threads": 1, "n_threads_batch": 1, "verbose": False}
    with LlamaPool(path, 4, chat_handler=handler, n_ctx=256, kv_size=256, **options) as pool:
        talks: list[list[object]] = [
            [user(text(f"{number} "), image(data_url(colour)), text(" two" * 20))]
            for number, colour in enumerate([RED, BLUE] * 4)
        ]
        assert pooled(pool, *talks) == [UPPER, LOWER] * 4
        assert pool.stats().put_back > 0


def test_one_handler_many_models(vision: Path) -> None:
    handler = handler_of(vision, "gemma3")
    first, second = (loaded(vision, "gemma3", handler) for _ in range(2))
    assert answer(first, user(image(data_url(RED)))) == UPPER
    assert answer(second, user(image(data_url(BLUE)))) == LOWER
    projector = handler._projector(first)
    assert projector is not handler._projector(second)
    first.close()
    assert projector.closed
    assert answer(second, user(image(data_url(RED)))) == UPPER
    second.close()


def test_a_handler_pickles(vision: Path) -> None:
    handler = handler_of(vision, "qwen3vl", image_max_tokens=32)
    with loaded(vision, "qwen3vl", handler) as llm:
        assert answer(llm, user(image(data_url(RED)))) == UPPER
    again = pickle.loads(pickle.dumps(handler))
    assert again.clip_model_path == again.mmproj_path == handler.clip_model_path
    with loaded(vision, "qwen3vl", again) as llm:
        assert answer(llm, user(image(data_url(RED)))) == UPPER


def test_load_image_can_be_overridden(vision: Path) -> None:
    class Stored(MTMDChatHandler):
        def load_image(self, image_url: object) -> bytes:
            assert image_url == "store:7"
            return png(32, 32, [RED])

    with loaded(vision, "gemma3", handler_of(vision, "gemma3", Stored)) as llm:
        assert answer(llm, user(image("store:7"))) == UPPER


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (image("/etc/passwd"), "is neither a data: nor an http(s): URL"),
        (image("file:///etc/passwd"), "is neither a data: nor an http(s): URL"),
        (image("http://127.0.0.1:1/a.png"), "which is not public"),
        (
            image("data:image/png;base64,AAAA"),
            "a file that begins with b'\\x00\\x00\\x00' cannot be",
        ),
        (image("data:image/png;base64,?"), "the data: URL is not base64"),
        (image(png(32, 32, [RED])[:50]), "the PNG image of 50 bytes is damaged"),
        (image(None), 'message 0, part 0 names no source: {"image_url": {"url": …}}'),
        (image(7), "expected an image as a URL, bytes or a path object, not int"),
        ({"type": "image_url"}, 'message 0, part 0 names no source: {"image_url": {"url": …}}'),
        ({"type": "video"}, "message 0, part 0 is of type 'video'; choose from text, image_url, "),
        ({"type": "text", "text": 5}, "message 0, part 0 has text 5; it must be text"),
        (5, 'message 0, part 0 is 5; it must be {"type": …} or text'),
        (
            {"type": "input_audio", "input_audio": {"data": base64.b64encode(b"ID3abc").decode()}},
            "takes no audio (MP3 audio was given)",
        ),
        ({"type": "input_audio"}, 'message 0, part 0 has no {"input_audio": {"data": base64}}'),
    ],
)
def test_refused(llm: Llama, part: object, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        answer(llm, user(part))
    assert words in str(caught.value)
    assert answer(llm, user(image(data_url(RED)))) == UPPER


def test_messages_that_are_none(llm: Llama) -> None:
    for messages in ([], "hello", [5], [{"role": "user"}]):
        with pytest.raises(ValidationError):
            llm.create_chat_completion(messages)


def test_a_policy(vision: Path, tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(png(32, 32, [RED]))
    policy = MediaPolicy(allow_paths=True, max_bytes=1000)
    with loaded(vision, "gemma3", handler_of(vision, "gemma3", media=policy)) as llm:
        assert answer(llm, user(image(str(tmp_path / "red.png")))) == UPPER
        with pytest.raises(ValidationError, match="more than the 1000 that are allowed"):
            answer(llm, user(image(b"x" * 1001)))


def test_too_many_images_for_the_context(vision: Path) -> None:
    handler = handler_of(vision, "qwen3vl")
    with loaded(vision, "qwen3vl", handler, n_ctx=256) as llm:
        with pytest.raises(ValidationError, match=r"the context holds 256 .*image_max_tokens"):
            answer(llm, user(*[image(data_url(RED))] * 16))
        assert answer(llm, user(image(data_url(RED)))) == UPPER


def test_files_that_are_no_projector(vision: Path, tmp_path: Path, model_file: Path) -> None:
    with pytest.raises(ModelLoadError, match="does not exist"):
        MTMDChatHandler(tmp_path / "nope.gguf")
    with (
        loaded(vision, "gemma3", MTMDChatHandler(model_file)) as llm,
        pytest.raises(ModelLoadError, match="is no projector"),
    ):
        answer(llm, user(image(data_url(RED))))
    with (
        loaded(vision, "qwen3vl", handler_of(vision, "gemma3")) as llm,
        pytest.raises(ModelLoadError, match="mismatch between text model"),
    ):
        answer(llm, user(image(data_url(RED))))


def test_a_projector_must_be_named(vision: Path) -> None:
    path = vision / "mmproj-gemma3-f32.gguf"
    assert MTMDChatHandler(mmproj_path=path).clip_model_path == str(path)
    with pytest.raises(ValidationError) as caught:
        Llava15ChatHandler()
    assert str(caught.value) == (
        "Llava15ChatHandler needs the projector's file: clip_model_path=… (or mmproj_path=…)"
    )
    with pytest.raises(ValidationError):
        MTMDChatHandler(path, mmproj_path=path)


def test_a_template_that_leaves_images_out(vision: Path) -> None:
    class Deaf(MTMDChatHandler):
        CHAT_FORMAT = "{{ messages[0]['role'] }}:"

    with (
        loaded(vision, "gemma3", handler_of(vision, "gemma3", Deaf)) as llm,
        pytest.raises(ValidationError) as caught,
    ):
        answer(llm, user(image(data_url(RED))))
    assert str(caught.value).startswith("the chat template shows 0 of 1 images and audio: ")


# -- formats ---------------------------------------------------------------------------------------


CURIOUS = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the human's questions."
)
PROMPTS: dict[type[MTMDChatHandler], str] = {
    MTMDChatHandler: "<s>user: see {image} this\nassistant:",
    Llava15ChatHandler: f"<s>{CURIOUS} USER: see {{image}} this ASSISTANT:",
    Llava16ChatHandler: f"<s>{CURIOUS} USER: see {{image}} this ASSISTANT:",
    MoondreamChatHandler: "<s>Question: see {image} this\n\nAnswer:",
    ObsidianChatHandler: ("<s><|im_start|>user\nsee {image} this\n###\n<|im_start|>assistant\n"),
    NanoLlavaChatHandler: (
        "<s><|im_start|>system\nAnswer the question<|im_end|>\n"
        "<|im_start|>user\nsee {image} this<|im_end|>\n<|im_start|>assistant\n"
    ),
    Llama3VisionAlphaChatHandler: (
        "<s><|start_header_id|>user<|end_header_id|>\n\nsee {image} this<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    MiniCPMv26ChatHandler: (
        "<s><|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nsee {image} this<|im_end|>\n<|im_start|>assistant\n"
    ),
    Gemma4ChatHandler: "<s>user: see {image} this\nassistant:",
    Qwen25VLChatHandler: (
        "<s>system: You are a helpful assistant.\nuser: see {image} this\nassistant:"
    ),
    Qwen3VLChatHandler: "<s>user: see Picture 1: {image} this\nassistant:",
}


@pytest.mark.parametrize("kind", PROMPTS, ids=lambda kind: kind.__name__)
def test_prompts(vision: Path, kind: type[MTMDChatHandler]) -> None:
    handler = handler_of(vision, "gemma3", kind)
    with loaded(vision, "gemma3", handler) as llm:
        message = user(text("see "), image(data_url(RED)), text(" this"))
        expected = PROMPTS[kind].format(image="<start_of_image><image><end_of_image>")
        assert rendered(llm, handler, message) == expected
        assert answer(llm, message, max_tokens=2)


def test_a_system_message_of_ones_own(vision: Path) -> None:
    handler = handler_of(vision, "gemma3", Llava15ChatHandler)
    with loaded(vision, "gemma3", handler) as llm:
        prompt = rendered(
            llm,
            handler,
            {"role": "system", "content": "Be brief."},
            user("a"),
            {"role": "assistant", "content": "b"},
            user("c"),
        )
    assert prompt == "<s>Be brief. USER: a ASSISTANT: b</s>USER: c ASSISTANT:"


def test_a_format_where_the_file_has_none(vision: Path) -> None:
    handler = handler_of(vision, "qwen3vl", Qwen3VLChatHandler, add_vision_id=False)
    with loaded(vision, "qwen3vl", handler) as llm:
        llm.metadata.pop("tokenizer.chat_template", None)
        if "tokenizer.chat_template" in llm.metadata:
            pytest.skip("metadata is a copy")
        assert rendered(llm, handler, user("a")) == (
            "<s><|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
        )


def test_reasoning_and_picture_numbers(vision: Path) -> None:
    handler = handler_of(vision, "qwen3vl", Qwen3VLChatHandler, force_reasoning=True)
    with loaded(vision, "qwen3vl", handler) as llm:
        prompt = rendered(
            llm, handler, user(image(data_url(RED)), image(data_url(BLUE)), text("?"))
        )
    held = "<|vision_start|><image><|vision_end|>"
    assert prompt == f"<s>user: Picture 1: {held}Picture 2: {held}?\nassistant:<think>\n"


def test_a_format_of_ones_own(vision: Path) -> None:
    class Joined(Llava15ChatHandler):
        CHAT_FORMAT = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}{{ mood }}:"
        DEFAULT_SYSTEM_MESSAGE = "S"

    class InParts(MTMDChatHandler):
        CHAT_FORMAT = (
            "{% for m in messages %}{% for part in m.content %}"
            "{% if part.type == 'image_url' and part.image_url is string %}{{ part.image_url }}"
            "{% elif part.type == 'image_url' %}{{ part.image_url.url }}"
            "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endfor %}{{ eos_token }}"
        )

    held = "<start_of_image><image><end_of_image>"
    joined, parts = handler_of(vision, "gemma3", Joined), handler_of(vision, "gemma3", InParts)
    with loaded(vision, "gemma3", joined) as llm:
        message = user(
            text("a"), image(data_url(RED)), {"type": "image_url", "image_url": data_url(RED)}
        )
        assert rendered(llm, joined, message, mood="!") == f"<s>[system] S[user] a{held}{held}!:"
        assert rendered(llm, parts, message) == f"<s>a{held}{held}</s>"


PARTS_ONLY = (
    "{% for m in messages %}{{ m['role'] }}: {% for part in m['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}<img>{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %} assistant:{% endif %}"
)


def test_a_file_whose_template_reads_parts_alone(vision: Path, tmp_path: Path) -> None:
    reader = gguf.GGUFReader(vision / "gemma3-f32.gguf")
    template = reader.fields["tokenizer.chat_template"].contents()
    assert isinstance(template, str)
    data = (vision / "gemma3-f32.gguf").read_bytes()
    path = tmp_path / "gemma3-f32.gguf"
    # of the same length, so that nothing moves
    same = PARTS_ONLY + "{#" + "-" * (len(template) - len(PARTS_ONLY) - 4) + "#}"
    path.write_bytes(data.replace(template.encode(), same.encode()))
    handler = handler_of(vision, "gemma3")
    with loaded(tmp_path, "gemma3", handler) as llm:
        message = user(text("see "), image(data_url(RED)), text(" this"))
        assert rendered(llm, handler, message) == (
            "<s>user: see <start_of_image><image><end_of_image> this assistant:"
        )
        assert answer(llm, message) == UPPER


def test_thoughts_and_calls(llm: Llama) -> None:
    said = '<think>So.</think>Look. <tool_call>{"name": "time", "arguments": {}}</tool_call>'
    tokens = [*llm.tokenize(said.encode(), add_bos=False), llm.token_eos()]
    starts: list[int] = []

    def force(input_ids: Any, scores: Any) -> Any:
        starts.append(len(input_ids))
        forced = scores * 0 - 1e9
        forced[tokens[len(input_ids) - starts[0]]] = 0
        return forced

    made: Any = llm.create_chat_completion(
        [user(text("see "), image(data_url(RED)))],
        tools=[{"type": "function", "function": {"name": "time"}}],
        reasoning_content=True,
        logits_processor=force,
    )
    message = made["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("So.", "Look.")
    (call,) = message["tool_calls"]
    assert call["function"] == {"name": "time", "arguments": "{}"}


def test_too_many_files(vision: Path) -> None:
    handler = handler_of(vision, "gemma3", media=MediaPolicy(max_files=2))
    with loaded(vision, "gemma3", handler) as llm, pytest.raises(ValidationError) as caught:
        answer(llm, user(*[image(data_url(RED))] * 3))
    assert str(caught.value) == (
        "the messages name 3 images and audio, more than the 2 that are allowed "
        "(MediaPolicy.max_files)"
    )


# -- helpers ---------------------------------------------------------------------------------------


def test_load_image(vision: Path) -> None:
    handler = handler_of(vision, "gemma3")
    assert handler.load_image(data_url(RED)) == png(32, 32, [RED])
    with pytest.raises(LlamaError, match="cannot resolve"):
        handler.load_image("http://no-such-host.invalid/a.png")


def test_names() -> None:
    assert Llama3VisionAlpha is Llama3VisionAlphaChatHandler
    assert issubclass(MoondreamChatHandler, Llava15ChatHandler)
    assert Llava15ChatHandler.get_image_urls([user(image("http://a/1"))]) == ["http://a/1"]
    assert Llava15ChatHandler.split_text_on_image_urls("a b", ["b"]) == [
        ("text", "a "),
        ("image_url", "b"),
    ]


def test_the_module_imports_nothing_heavy(run_python: Callable[..., Outcome]) -> None:
    outcome = run_python(
        "import sys\n"
        "from llama_cpp import _library, _vision_families\n"
        "print(_library._functions, [n for n in ('numpy', 'jinja2', 'ssl') if n in sys.modules])\n"
    )
    assert (outcome.code, outcome.output) == (0, "None []\n")
