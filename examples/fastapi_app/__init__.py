"""An API that answers chat requests and bills them, and how its billing left the request path.

app.py        the API
tracking.py   what each answer costs, before and after
standins.py   a model and a PostHog, for a laptop
__main__.py   all of it, and a worker
"""
