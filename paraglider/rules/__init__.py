"""What the kernel should hold: rulesets as values, how they are planned, written and compared."""
