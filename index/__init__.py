"""The static package index: a catalogue of proven wheels, and the pages rendered from it."""
