"""Measurements. Nothing imports them."""
