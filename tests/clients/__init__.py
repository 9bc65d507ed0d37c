"""Packages that people use llama-cpp-python with, each in an environment of its own.

A module here is run by the Python of that environment and prints one JSON object; `environments.py`
makes the environments from the pins in `requirements/`.
"""
