"""Where the text is in each API's documents and events, and how an answer of ours is worded there. All sans-IO."""
