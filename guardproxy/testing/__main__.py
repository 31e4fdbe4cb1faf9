"""Runs the pretend upstream alone, until it is interrupted: `python -m guardproxy.testing --port 9000`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Sequence

from guardproxy.testing.delivery import Delivery, into
from guardproxy.testing.replies import filler
from guardproxy.testing.upstream import Upstream


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0 once interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m guardproxy.testing",
        description="A pretend OpenAI-compatible upstream on the loopback interface. It repeats what it is told.",
    )
    parser.add_argument("--port", type=int, default=9000, help="port to listen on; 0 for a free one (default: 9000)")
    parser.add_argument("--answer-bytes", type=int, default=0, help="answer with a fixed text of this length")
    parser.add_argument("--events", type=int, default=0, help="stream that text in this many pieces")
    parser.add_argument("--pause-ms", type=float, default=0.0, help="milliseconds between the events of a stream")
    options = parser.parse_args(arguments)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(options))
    return 0


async def _serve(options: argparse.Namespace) -> None:
    delivery = Delivery(split=into(options.events) if options.events else "tokens", pause=options.pause_ms / 1000)
    async with Upstream(port=options.port, delivery=delivery) as upstream:
        if options.answer_bytes:
            upstream.reply(filler(options.answer_bytes), delivery=delivery)
        sys.stdout.write(f"listening on {upstream.url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    sys.exit(main())
