"""Bad images and projectors in a process of their own: the right exception, never a signal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Outcome

pytestmark = pytest.mark.build

PROLOGUE = """
import os, random, struct, sys, threading, zlib
from pathlib import Path
from llama_cpp import Llama
from llama_cpp._gguf_content import read_content
from llama_cpp._mtmd import Projector, ProjectorParams
from llama_cpp._vision import MTMDChatHandler

vision, scratch = map(Path, sys.argv[1:])


def png(width, height):
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress((b"\\0" + b"\\xff\\0\\0" * width) * height)),
        (b"IEND", b""),
    )
    return b"\\x89PNG\\r\\n\\x1a\\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


red = png(32, 32)
tone = b"RIFF\\0\\0\\0\\0WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16)
tone += b"data" + struct.pack("<I", 1600) + bytes(range(200)) * 8


def load(name="gemma3-f32", **options):
    return Llama(vision / f"{name}.gguf", **{"n_threads": 1, "n_threads_batch": 1, "verbose": False, **options})


def projector(llm, path=vision / "mmproj-gemma3-f32.gguf", **options):
    return Projector(llm._core, path, ProjectorParams(**{"n_threads": 1, "warmup": False, **options}))


def chat(name="gemma3-f32", mmproj="mmproj-gemma3-f32.gguf", image=red, **options):
    handler = MTMDChatHandler(vision / mmproj, n_threads=1, warmup=False)
    llm = load(name, chat_handler=handler, **options)
    message = {"role": "user", "content": [{"type": "image_url", "image_url": image}]}
    answer = llm.create_chat_completion([message], temperature=0, max_tokens=2)
    return answer["choices"][0]["message"]["content"]


def damaged(change, name="mmproj-gemma3-f32.gguf"):
    data = bytearray((vision / name).read_bytes())
    path = scratch / "damaged.gguf"
    path.write_bytes(change(data) or data)
    return path


def number(data, key, value):
    at = data.index(key) + len(key) + 4
    struct.pack_into("<I", data, at, value)
"""

VALIDATION = "ValidationError"
MODEL = "ModelLoadError"
LLAMA = "LlamaError"

REFUSED = {
    # projector files
    "no projector": (MODEL, "chat(mmproj='nope.gguf')"),
    "a folder for a projector": (MODEL, "chat(mmproj='.')"),
    "a language model for a projector": (MODEL, "chat(mmproj='gemma3-f32.gguf')"),
    "another model's projector": (MODEL, "chat(mmproj='mmproj-qwen3vl-f32.gguf')"),
    "a projector for a model of another width": (
        MODEL,
        "chat('qwen3vl-f32', 'mmproj-gemma3-f32.gguf')",
    ),
    "an empty projector": (MODEL, "projector(load(), damaged(lambda data: data.clear()))"),
    "a projector cut in its metadata": (
        MODEL,
        "projector(load(), damaged(lambda data: data[:1200]))",
    ),
    "a projector cut in its tensors": (
        MODEL,
        "projector(load(), damaged(lambda data: data[:90000]))",
    ),
    "a projector without its last byte": (
        MODEL,
        "projector(load(), damaged(lambda data: data[:-1]))",
    ),
    "a switch that is a number": (
        MODEL,
        "projector(load(), damaged(lambda d: d.__setitem__(d.index(b'use_gelu') + 8, 0)))",
    ),
    "an image size of other positions": (
        MODEL,
        "projector(load(), damaged(lambda d: number(d, b'clip.vision.image_size', 64)))",
    ),
    "patches of no size": (
        MODEL,
        "projector(load(), damaged(lambda d: number(d, b'clip.vision.patch_size', 0)))",
    ),
    "no heads": (
        MODEL,
        "projector(load(), damaged(lambda d: number(d, b'clip.vision.attention.head_count', 0)))",
    ),
    "a merge of no patches": (
        MODEL,
        "projector(load(), damaged(lambda d: number(d, b'projector.scale_factor', 0)))",
    ),
    "more layers than there are": (
        MODEL,
        "projector(load(), damaged(lambda d: number(d, b'clip.vision.block_count', 9)))",
    ),
    "a negative epsilon": (
        MODEL,
        "projector(load(), damaged(lambda d: number(d, b'layer_norm_epsilon', 0xB0000000)))",
    ),
    "an unknown projector type": (
        MODEL,
        "projector(load(), damaged(lambda d: d.replace(b'\\6\\0\\0\\0\\0\\0\\0\\0gemma3', b'\\6\\0\\0\\0\\0\\0\\0\\0gemma9')))",
    ),
    "a projector of another type": (
        MODEL,
        "projector(load(), damaged(lambda d: d.replace(b'\\6\\0\\0\\0\\0\\0\\0\\0gemma3', b'\\6\\0\\0\\0\\0\\0\\0\\0pixtra')))",
    ),
    # parameters
    "no threads for a projector": (VALIDATION, "projector(load(), n_threads=0)"),
    "token limits that overflow": (VALIDATION, "projector(load(), image_max_tokens=2**31 - 1)"),
    "token limits in the wrong order": (
        VALIDATION,
        "projector(load(), image_min_tokens=9, image_max_tokens=3)",
    ),
    # images
    "an empty image": (VALIDATION, "chat(image=b'')"),
    "text for an image": (VALIDATION, "chat(image=b'hello')"),
    "a PNG cut in its header": (VALIDATION, "chat(image=red[:18])"),
    "a PNG cut in its data": (VALIDATION, "chat(image=red[:60])"),
    "a PNG of no width": (VALIDATION, "chat(image=red[:16] + bytes(4) + red[20:])"),
    "a PNG that announces 2 GB": (
        VALIDATION,
        "chat(image=red[:16] + struct.pack('>II', 26000, 26000) + red[24:])",
    ),
    "a PNG of 2**31 columns": (
        VALIDATION,
        "chat(image=red[:16] + struct.pack('>II', 2**31, 1) + red[24:])",
    ),
    "a bomb of 100 million pixels": (
        VALIDATION,
        "chat(image=red[:16] + struct.pack('>II', 10001, 10001) + red[24:])",
    ),
    "a JPEG of nothing": (VALIDATION, "chat(image=b'\\xff\\xd8\\xff\\xd9')"),
    "a JPEG of noise": (
        VALIDATION,
        "chat(image=b'\\xff\\xd8\\xff\\xc0\\0\\x11\\x08\\0\\x10\\0\\x10\\3' + random.Random(1).randbytes(500))",
    ),
    "a GIF of noise": (VALIDATION, "chat(image=b'GIF89a' + random.Random(1).randbytes(500))"),
    "a BMP of noise": (
        VALIDATION,
        "chat(image=b'BM' + bytes(12) + struct.pack('<IiiHH', 40, 4, 4, 1, 99) + bytes(99))",
    ),
    "an image that cannot be scaled": (
        VALIDATION,
        "chat('qwen3vl-f32', 'mmproj-qwen3vl-f32.gguf', png(100000, 1))",
    ),
    "audio for a projector of images": (VALIDATION, "chat(image=b'ID3' + bytes(99))"),
    "a WAV longer than its file": (
        VALIDATION,
        "chat(image=b'RIFF\\0\\0\\0\\0WAVEfmt \\x10\\0\\0\\0\\1\\0\\1\\0\\1\\0\\0\\0\\1\\0\\0\\0\\1\\0\\x08\\0data\\xff\\xff\\xff\\xff')",
    ),
    "a path of the server": (VALIDATION, "chat(image='/etc/passwd')"),
    "a file URL": (VALIDATION, "chat(image='file:///etc/passwd')"),
    "a device": (VALIDATION, "chat(image=Path('/dev/zero'))"),
    "a URL of this machine": (VALIDATION, "chat(image='http://127.0.0.1:9/')"),
    "a URL of the cloud's metadata": (VALIDATION, "chat(image='http://169.254.169.254/latest')"),
    "a URL of this machine as IPv6": (VALIDATION, "chat(image='http://[::ffff:127.0.0.1]/')"),
    # contexts
    "an image larger than a batch": (VALIDATION, "chat(n_batch=4, n_ubatch=3)"),
    "more images than the context holds": (
        VALIDATION,
        "llm = load(n_ctx=256)\np = projector(llm)\np.tokenize([p.bitmap(red)] * 60 + [':'], add_special=True).prefill(llm._engine)",
    ),
    "an image for a context that attends both ways": (VALIDATION, "chat(attention_type=1)"),
    "an image of another projector": (
        VALIDATION,
        "llm = load()\na, b = projector(llm), projector(llm)\na.tokenize([b.bitmap(red)], add_special=True)",
    ),
    "a prompt of another model": (
        VALIDATION,
        "a, b = load(), load()\np = projector(a)\np.tokenize([p.bitmap(red), ':'], add_special=True).prefill(b._engine)",
    ),
    # use after close
    "a bitmap of a closed projector": (LLAMA, "p = projector(load())\np.close()\np.bitmap(red)"),
    "a closed bitmap": (
        LLAMA,
        "llm = load()\np = projector(llm)\nb = p.bitmap(red)\nb.close()\np.tokenize([b], add_special=True)",
    ),
    "a closed prompt": (
        LLAMA,
        "llm = load()\np = projector(llm)\nm = p.tokenize([p.bitmap(red), ':'], add_special=True)\nm.close()\nm.prefill(llm._engine)",
    ),
    "a prompt of a closed projector": (
        LLAMA,
        "llm = load()\np = projector(llm)\nm = p.tokenize([p.bitmap(red), ':'], add_special=True)\np.close()\nm.prefill(llm._engine)",
    ),
    "a projector of a closed model": (LLAMA, "llm = load()\nllm.close()\nprojector(llm)"),
}


@pytest.mark.parametrize(("kind", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(
    vision: Path, tmp_path: Path, run_python: Callable[..., Outcome], kind: str, code: str
) -> None:
    outcome = run_python(f"{PROLOGUE}\n{code}", str(vision), str(tmp_path))
    assert outcome.code == 1, outcome.error
    raised = [line for line in outcome.error.splitlines() if line.startswith("llama_cpp.")]
    assert [line.partition(":")[0] for line in raised] == [f"llama_cpp._errors.{kind}"]


FLIPS = """
llm = load({model!r}, n_ctx=1024)
source = vision / "mmproj-{name}.gguf"
data, end = source.read_bytes(), read_content(source, "projector").data_start
path = scratch / "flipped.gguf"
from llama_cpp import LlamaError
seen = {{"refused": 0, "taken": 0}}
for seed in range({seeds}):
    draw = random.Random(seed)
    flipped = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2))):
        flipped[draw.randrange(24, end)] ^= 1 << draw.randrange(8)
    path.write_bytes(flipped)
    try:
        made = projector(llm, path)
        llm.reset()
        made.tokenize([made.bitmap({media}), ":"], add_special=True).prefill(llm._engine)
        made.close()
        seen["taken"] += 1
    except LlamaError:
        seen["refused"] += 1
print(seen["refused"] + seen["taken"], seen["refused"] > seen["taken"])
"""

SURVIVED = {
    **{
        f"{name} with bits flipped in its header": (
            FLIPS.format(name=name, model=model, media=media, seeds=150),
            "150 True",
        )
        for name, model, media in (
            ("gemma3-q8_0", "gemma3-q8_0", "red"),
            ("qwen3vl-q8_0", "qwen3vl-q8_0", "red"),
            ("audio-f32", "gemma3-f32", "tone"),
        )
    },
    "images with bits flipped": (
        (
            "llm = load()\np = projector(llm)\nfrom llama_cpp import ValidationError\n"
            "for seed in range(300):\n"
            "    draw, data = random.Random(seed), bytearray(red)\n"
            "    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)\n"
            "    try:\n"
            "        p.bitmap(bytes(data)).close()\n"
            "    except ValidationError:\n"
            "        pass\n"
        ),
        "",
    ),
    "two threads with one projector": (
        (
            "llm = load()\np = projector(llm)\n"
            "def work():\n"
            "    for _ in range(20):\n"
            "        p.tokenize([p.bitmap(red), ':'], add_special=True).prefill(llm._engine)\n"
            "threads = [threading.Thread(target=work) for _ in range(4)]\n"
            "[thread.start() for thread in threads]\n"
            "[thread.join() for thread in threads]\n"
        ),
        "",
    ),
    "closing while another thread uses images": (
        (
            "llm = load()\np = projector(llm)\nseen = []\n"
            "def work():\n"
            "    try:\n"
            "        while True:\n"
            "            p.tokenize([p.bitmap(red), ':'], add_special=True).prefill(llm._engine)\n"
            "            llm.reset()\n"
            "    except Exception as error:\n"
            "        seen.append(str(error))\n"
            "threads = [threading.Thread(target=work) for _ in range(3)]\n"
            "[thread.start() for thread in threads]\n"
            "threading.Event().wait(0.2)\n"
            "llm.close()\n"
            "[thread.join() for thread in threads]\n"
            "print(len(seen), all('is closed' in text for text in seen))\n"
        ),
        "3 True",
    ),
    "ending with everything open": (
        (
            "llm = load()\np = projector(llm)\nb = p.bitmap(red)\n"
            "m = p.tokenize([b, ':'], add_special=True)\n"
            "stream = llm.create_completion(m, stream=True)\nnext(stream)\n"
        ),
        "",
    ),
    "the image that all of these are made of": ("print(chat())", "GOO"),
    "the sound that all of these are made of": (
        "print(projector(load(), vision / 'mmproj-audio-f32.gguf').bitmap(tone).width)",
        "800",
    ),
}


@pytest.mark.parametrize(("code", "output"), SURVIVED.values(), ids=SURVIVED.keys())
def test_survived(
    vision: Path, tmp_path: Path, run_python: Callable[..., Outcome], code: str, output: str
) -> None:
    outcome = run_python(f"{PROLOGUE}\n{code}", str(vision), str(tmp_path))
    assert (outcome.code, outcome.output.strip()) == (0, output), outcome.error
