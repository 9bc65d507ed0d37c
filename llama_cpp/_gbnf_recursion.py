"""Grammars on which llama.cpp's matcher recurses too deep, loops for ever or aborts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from llama_cpp._errors import ValidationError
from llama_cpp._gbnf_parser import RULE_REF, alternatives

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from llama_cpp._gbnf_parser import Grammar

# its search for left recursion recurses, and visits a rule once per way that leads to it; threads
# may have stacks of some 100 kB
DEEPEST_CHAIN = 1000
MOST_VISITS = 10_000_000


def _said(grammar: Grammar, rule: int) -> str:
    """Return a rule's name, or the name of that in whose text it was made."""
    return grammar.names[rule].partition("_")[0]


def refuse_left_recursion(grammar: Grammar) -> None:
    """Refuse what llama_grammar_detect_left_recursion refuses, or takes too long or deep for.

    It takes only a rule with an alternative that is literally empty for one that may be empty.
    """
    empty = [any(not sequence for sequence in alternatives(rule)) for rule in grammar.rules]
    first = [
        [value for sequence in alternatives(rule) for value in _leading(sequence, empty)]
        for rule in grammar.rules
    ]
    # visits and depth below a rule, once it is done
    done: dict[int, tuple[int, int]] = {}
    for start in range(len(grammar.rules)):
        if start in done:
            continue
        path: dict[int, Iterator[int]] = {start: iter(first[start])}
        while path:
            rule, following = next(reversed(path.items()))
            target = next((step for step in following if step not in done), None)
            if target is None:
                del path[rule]
                depth = 1 + max((done[step][1] for step in first[rule]), default=0)
                visits = len(grammar.rules[rule]) + sum(done[step][0] for step in first[rule])
                if depth > DEEPEST_CHAIN:
                    raise ValidationError(
                        f"grammar: rule {_said(grammar, rule)!r} begins with a rule that begins with "
                        f"a rule …, {depth} deep, and llama.cpp recurses at most safely "
                        f"{DEEPEST_CHAIN} deep: make the chain shorter"
                    )
                if visits > MOST_VISITS:
                    raise ValidationError(
                        f"grammar: there are too many ways to begin rule {_said(grammar, rule)!r}: "
                        "llama.cpp looks at each of them for left recursion; remove alternatives that "
                        "begin alike"
                    )
                done[rule] = (visits, depth)
            elif target in path:
                names = list(path)
                _left_recursive(grammar, names[names.index(target) :])
            else:
                path[target] = iter(first[target])
    if sum(visits for visits, _ in done.values()) > 10 * MOST_VISITS:
        raise ValidationError(
            "grammar: there are too many ways to begin its rules: llama.cpp looks at each of them for "
            "left recursion; remove alternatives that begin alike"
        )


def _leading(sequence: list[tuple[int, int]], empty: list[bool]) -> Iterator[int]:
    """Yield the rules that a sequence may begin with."""
    for kind, value in sequence:
        if kind != RULE_REF:
            return
        yield value
        if not empty[value]:
            return


def _left_recursive(grammar: Grammar, loop: list[int]) -> NoReturn:
    names = list(dict.fromkeys(_said(grammar, rule) for rule in loop))
    way = " → ".join([*names, names[0]])
    raise ValidationError(
        f"grammar: rule {names[0]!r} is left-recursive ({way}): it can begin with itself, and "
        'llama.cpp would not end; put what it begins with first, as in `list ::= item ("," item)*`, '
        "and repeat nothing that may be empty"
    )


def refuse_endless(grammar: Grammar) -> None:
    """Refuse rules that llama_grammar_advance_stack expands for ever, or to nothing.

    A rule that comes back to itself without a character is harmless where nothing is left to do
    after it (the stack is one that was seen), and grows the stack for ever where something is.
    """
    sequences = [list(alternatives(rule)) for rule in grammar.rules]
    nullable = _least_fixpoint(
        sequences, lambda sequence, known: all(k == RULE_REF and known[v] for k, v in sequence)
    )

    def begins(sequence: list[tuple[int, int]], known: list[bool]) -> bool:
        for kind, value in sequence:
            if kind != RULE_REF or known[value]:
                return True
            if not nullable[value]:
                return False
        return False

    starts = _least_fixpoint(sequences, begins)
    reached = sorted(_reachable(grammar))
    for rule in reached:
        if not starts[rule] and not nullable[rule]:
            raise ValidationError(
                f"grammar: rule {_said(grammar, rule)!r} comes back to itself without a character and "
                "has no way out, so that nothing fits it: add an alternative that ends"
            )
    edges = [
        [
            (value, index + 1 < len(sequence))
            for sequence in rule
            for index, value in enumerate(_leading(sequence, nullable))
        ]
        for rule in sequences
    ]
    component = _components([[target for target, _ in targets] for targets in edges])
    for rule in reached:
        for target, grows in edges[rule]:
            if grows and component[target] == component[rule]:
                _left_recursive(grammar, [rule, target])


def _least_fixpoint(
    sequences: list[list[list[tuple[int, int]]]],
    holds: Callable[[list[tuple[int, int]], list[bool]], bool],
) -> list[bool]:
    """Return which rules have an alternative that holds, given that nothing does without reason."""
    known = [False] * len(sequences)
    order = list(range(len(sequences)))
    changed = True
    while changed:
        changed = False
        for rule in order:
            if not known[rule] and any(holds(sequence, known) for sequence in sequences[rule]):
                known[rule] = changed = True
        order.reverse()
    return known


def _reachable(grammar: Grammar) -> set[int]:
    found = {grammar.root}
    todo = [grammar.root]
    while todo:
        for kind, value in grammar.rules[todo.pop()]:
            if kind == RULE_REF and value not in found:
                found.add(value)
                todo.append(value)
    return found


def _components(targets: list[list[int]]) -> list[int]:
    """Return the strongly connected component of each node (Tarjan, without recursion)."""
    index = [-1] * len(targets)
    low = [0] * len(targets)
    component = [-1] * len(targets)
    stack: list[int] = []
    count = 0
    for start in range(len(targets)):
        if index[start] >= 0:
            continue
        index[start] = low[start] = count
        count += 1
        stack.append(start)
        path = [(start, iter(targets[start]))]
        while path:
            node, following = path[-1]
            for target in following:
                if index[target] < 0:
                    index[target] = low[target] = count
                    count += 1
                    stack.append(target)
                    path.append((target, iter(targets[target])))
                    break
                if component[target] < 0:
                    low[node] = min(low[node], index[target])
            else:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[node])
                if low[node] == index[node]:
                    while component[node] < 0:
                        component[stack.pop()] = node
    return component
