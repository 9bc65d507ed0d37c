"""guidance: its own decoding loop on the context of our object."""

from __future__ import annotations

from guidance import gen, models, select

from llama_cpp import Llama
from tests.clients.answers import LLAMA, THREADS, show

loaded = models.LlamaCpp(LLAMA, echo=False, n_ctx=512, **THREADS)
free = loaded + "hello" + gen("text", max_tokens=6, temperature=0.0)
digits = loaded + "hello" + gen("digits", regex="[0-9]{3}", temperature=0.0)
choice = loaded + "hello" + select([" fog", " sun"], name="choice")
mixed = loaded + "hello" + gen("first", max_tokens=2, temperature=0.0)
mixed += " and the" + gen("second", max_tokens=2, temperature=0.0)

llama = Llama(LLAMA, n_ctx=512, logits_all=True, verbose=False, **THREADS)
before = llama("hello", max_tokens=6, temperature=0.0)["choices"][0]["text"]
given = models.LlamaCpp(llama, echo=False) + "hello" + gen("text", max_tokens=6, temperature=0.0)
after = llama("hello", max_tokens=6, temperature=0.0)["choices"][0]["text"]
show(
    text=free["text"],
    digits=digits["digits"],
    choice=choice["choice"],
    mixed=[mixed["first"], mixed["second"]],
    of_our_object=given["text"],
    our_object_before_and_after=[before, after],
)
