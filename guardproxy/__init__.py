"""guardproxy: a guardrail proxy for OpenAI-compatible endpoints. Newcomers start at pipeline.py."""

__version__ = "0.1.0"
