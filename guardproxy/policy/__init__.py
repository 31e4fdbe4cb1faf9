"""What compliance staff write, and what it says of verdicts."""
