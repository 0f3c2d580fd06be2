"""Checkpoints: official names, importing, exporting, download."""
