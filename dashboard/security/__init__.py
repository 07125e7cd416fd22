"""Who asks, what they may do, and how the rest of the web is kept out.

    security.install(app, settings)                 once, where the application is built
    dependencies=[Depends(allow("retry_job"))]      on every route: its operationId (control/permissions.py)
    def handler(by: By): retry(control, id, by=by)  what was done, in whose name
    principal(request)                              who asks; ``.may("retry_job")`` for what is shown

An application with a route that has no ``allow`` (or :func:`everybody`) does not start.  What is no route of FastAPI,
as a mounted application, is wrapped in :class:`Guard`.

principal.py   Principal: who asks
permission.py  allow, everybody, Guard: what they may do, and the check at start-up
doors.py       by which door somebody comes in: a token, a session, a proxy, this machine
login.py       logging in and out
shield.py      what is done to every request before anything else sees it
sources.py     from where a request may come: Host, Origin, Sec-Fetch-Site
"""

from dashboard.security.permission import By, Guard, allow, everybody, principal, who
from dashboard.security.principal import Principal
from dashboard.security.shield import demand_somebody, install

__all__ = ["By", "Guard", "Principal", "allow", "demand_somebody", "everybody", "install", "principal", "who"]
