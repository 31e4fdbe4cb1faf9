"""The commands: one thin function each, over what the rest of the package does."""
