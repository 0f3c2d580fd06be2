"""Ids of COCO files, which stand for one thing each or are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plain_id(value: object) -> str:
    """An id as text: files mix 3, 3.0 and "3".

    Raises:
        ValueError: it isn't a number or text.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"an id must be a whole number or text; got {value!r}")
    text = str(value).strip()
    return text.removesuffix(".0") if text.removesuffix(".0").isdigit() else text


def by_id(items: object, kind: str, name: str) -> dict[str, Mapping[str, Any]]:
    """Images or categories by id.

    Args:
        items: the list in the file.
        kind: what they are, for errors.
        name: the key that says which one an item is.

    Raises:
        ValueError, KeyError, TypeError: an id that stands for two, or no such list.
    """
    if not isinstance(items, list):
        raise TypeError(f"{kind} must be a list")
    found: dict[str, Mapping[str, Any]] = {}
    for item in items:
        key = plain_id(item["id"])
        if not isinstance(item[name], str | int):
            raise ValueError(f"{name} must be text; got {item[name]!r}")
        if key in found and found[key][name] != item[name]:
            raise ValueError(
                f"{kind} must have an id each; {key} stands for several: "
                f"{found[key][name]!r} and {item[name]!r}. Were files joined that each "
                "count from 1?"
            )
        found[key] = item
    return found
