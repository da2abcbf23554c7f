"""Lua scripts that lie beside their Python: read once, run by EVALSHA. Each starts with the parts of `epoch.lua`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import redis
from redis.commands.core import Script

HERE = Path(__file__).parent


@cache
def source(name: str) -> str:
    """Text of the script at `name` (path within the package, without `.lua`), with `epoch.lua` before it."""
    return (HERE / "epoch.lua").read_text() + (HERE / f"{name}.lua").read_text()


def script(client: redis.Redis, name: str) -> Script:
    """The script, bound to a client. Where the server has forgotten it, redis-py loads it and calls again."""
    return client.register_script(source(name))
