"""Who may receive connections: what probes found, what was ordered, and what follows."""
