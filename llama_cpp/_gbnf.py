"""Whether llama.cpp can use a grammar: GBNF that would fail, end or hang the process is refused.

llama.cpp reports a grammar that it cannot read by a null pointer and two lines on stderr. Others it
takes and then loops on, runs out of stack, or aborts. Both kinds are refused here, before C sees
them.
"""

from __future__ import annotations

from functools import lru_cache

from llama_cpp._errors import ValidationError
from llama_cpp._gbnf_matcher import refuse_branching
from llama_cpp._gbnf_parser import parse
from llama_cpp._gbnf_recursion import refuse_endless, refuse_left_recursion


def check(text: str, root: str = "root") -> None:
    """Refuse a grammar that llama.cpp cannot read, or that would end or hang the process.

    Args:
        text: GBNF.
        root: the rule to start with.

    Raises:
        ValidationError: no string, empty, not well-formed (the message has line and column), a rule
            is missing, left-recursive, or can never produce anything, groups nest too deep, or so
            many repetitions and alternatives fit the same text that matching would not end.
    """
    if not isinstance(text, str):
        raise ValidationError(
            f"grammar is {type(text).__name__}, not str: give the GBNF text, or a LlamaGrammar"
        )
    if not isinstance(root, str):
        raise ValidationError(f"grammar root is {type(root).__name__}, not str: name a rule")
    _check(text, root)


@lru_cache(maxsize=64)
def _check(text: str, root: str) -> None:
    grammar = parse(text, root)
    refuse_left_recursion(grammar)
    refuse_endless(grammar)
    refuse_branching(grammar)
