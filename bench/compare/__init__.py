"""One connection through Paraglider, beside the same through what else could carry it."""
