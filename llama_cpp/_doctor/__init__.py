"""Whether this package fits this machine, and which backend would: ``doctor`` and ``select``.

``facts`` asks the machine once (``system``, ``accelerators``, ``installation`` …) and never raises;
``diagnosis`` makes findings of facts and ``advice`` chooses a backend, both pure; ``report`` shows
them as text or JSON. ``verbs`` is what ``python -m llama_cpp`` calls.
"""
