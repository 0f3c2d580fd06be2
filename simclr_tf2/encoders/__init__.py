"""Encoders: one base, one file a maker, and a registry of them by name."""
