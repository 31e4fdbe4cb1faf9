"""The five errors. Messages may reach operators and callers, so they never hold content, keys or header values."""

from __future__ import annotations


class GuardproxyError(Exception):
    """The root; never raised itself."""


class ConfigError(GuardproxyError):
    """A setting that cannot be. The message names the setting and where it came from."""


class PolicyError(GuardproxyError):
    """A policy that cannot be used. The message starts with path:line:column where that is known."""

    def __init__(self, message: str, *, place: str = "") -> None:
        super().__init__(f"{place}: {message}" if place else message)
        self.message, self.place = message, place


class WireError(GuardproxyError):
    """Bytes from a client or an upstream that cannot be read as what they should be.

    `code` and `status` are what the client is told where it was the client's doing.
    """

    def __init__(self, message: str, *, code: str = "invalid_request", status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


class UpstreamError(GuardproxyError):
    """The upstream did not answer, or not in a way that can be used. `status` is what the client is told."""

    def __init__(self, message: str, *, code: str = "upstream_error", status: int = 502) -> None:
        super().__init__(message)
        self.code, self.status = code, status


class BackendError(GuardproxyError):
    """A model or service that judges text failed. The runner turns it into a verdict's outcome."""
