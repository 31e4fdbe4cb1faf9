"""An upstream to test against: policies, checks, proxies and clients, without a network, a key or a model.

    async with Upstream() as upstream:
        upstream.reply("Write to anna@example.org.", delivery=Delivery(split=3, writes=[1, 2, 5]))
        …  # a client with base_url=upstream.url
        assert upstream.last.document["messages"][0]["content"] == "…"

`python -m guardproxy.testing` runs it alone.
"""

from __future__ import annotations

from guardproxy.testing import faults
from guardproxy.testing.delivery import Delivery, Split, into
from guardproxy.testing.faults import Cut, Hang, Raw
from guardproxy.testing.replies import Choice, Reply, ToolCall, make_reply
from guardproxy.testing.sending import Received
from guardproxy.testing.upstream import Upstream

__all__ = [
    "Choice",
    "Cut",
    "Delivery",
    "Hang",
    "Raw",
    "Received",
    "Reply",
    "Split",
    "ToolCall",
    "Upstream",
    "faults",
    "into",
    "make_reply",
]
