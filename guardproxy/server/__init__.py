"""The proxy itself: one handler for every route, and its lifecycle."""
