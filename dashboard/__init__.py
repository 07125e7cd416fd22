"""What people and programs see of a running system: the console and the HTTP API, one ASGI application.

    hareline console            # the same as: python -m dashboard

app.py         build(settings) -> FastAPI
services.py    what the handlers work with, opened once per process
problems.py    every error as application/problem+json
api/           /api/v1, a module for each resource
pages/         what a person sees
security/      who asks, and what they may
live.py        what has changed, as server-sent events
graphql.py     /graphql
bounded.py     how much a request may bring
prefix.py      below a proxy's path

No worker imports it; the command line starts it as a process of its own.
"""
