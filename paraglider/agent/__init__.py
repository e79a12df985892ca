"""The long-running process that keeps the rules in place."""
