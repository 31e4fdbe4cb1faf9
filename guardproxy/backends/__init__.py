"""What answers for the model stage of a check: rungs of its ladder."""
