"""Addresses of cameras for people and logs: without what is secret in them."""

from __future__ import annotations

import re


def mask_userinfo(text: str) -> str:
    """`text` with user and password of the address in it replaced: `rtsp://***@porch/1`.

    Masks up to the last `@` there is, since passwords with unescaped `/`, `?` or `#` are common.
    """
    return re.sub(r"([A-Za-z][A-Za-z0-9+.-]*://).*@", r"\1***@", text, flags=re.DOTALL)


def shown_url(text: str) -> str:
    """`mask_userinfo`, and the query masked too: cameras take passwords there as well."""
    return re.sub(r"(://[^?]*\?).*", r"\1***", mask_userinfo(text), flags=re.DOTALL)
