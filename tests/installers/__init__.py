"""The index proven with the installers that people have: `python -m tests.installers`."""
