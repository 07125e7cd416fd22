"""``hareline demo``: real usage events, real workers, a real HTTP server; and what happened."""
