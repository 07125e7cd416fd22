"""Gmail and Google's OAuth server for one mailbox, as their public references describe them."""

import base64
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.scripted import Answer, Scripted, respond, status

ADDRESS = "ada@gmail.example"


def _error(code: int, reason: str, message: str, **headers: str) -> Answer:
    errors = [{"message": message, "domain": "global", "reason": reason}]
    return respond(code, {"error": {"code": code, "message": message, "errors": errors}}, **headers)


UNAUTHORIZED = _error(401, "authError", "Invalid Credentials")
NOT_FOUND = _error(404, "notFound", "Requested entity was not found.")
TOO_FAST = _error(429, "rateLimitExceeded", "Too many concurrent requests for user", Retry_After="7")
USER_TOO_FAST = _error(403, "userRateLimitExceeded", "User Rate Limit Exceeded")
PROJECT_TOO_FAST = _error(403, "rateLimitExceeded", "Rate Limit Exceeded")
FORBIDDEN = _error(403, "insufficientPermissions", "Insufficient Permission")
BROKEN = _error(500, "backendError", "Backend Error")
BAD_PAGE = _error(400, "invalidArgument", "Invalid pageToken")
INVALID_GRANT = respond(400, {"error": "invalid_grant", "error_description": "Token has been expired or revoked."})
INVALID_CLIENT = respond(401, {"error": "invalid_client", "error_description": "The OAuth client was not found."})


class GmailServer(Scripted):
    """One mailbox, whose mails a test adds; ``script`` are answers that come in the place of its own.

    A page has two mails.  Access tokens are numbered; only the last one is good.  ``faults`` are answers to the first
    request, each, whose path has that part in it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.answer = self._as_google
        self.per_page = 2
        self.mails: dict[str, bytes] = {}
        self.labels: dict[str, list[str]] = {}
        self.history: list[tuple[int, str]] = []  #: (id of the change, mail added)
        self.forgotten = 0  #: changes up to there are not known any more
        self.issued = 0  #: access tokens
        self.refresh_token = "1//refresh-0"
        self.expires_in = 3_599
        self.oauth_script: list[Answer] = []
        self.faults: list[tuple[str, Answer]] = []
        self.revoked: list[str] = []

    @property
    def settings(self) -> dict[str, str]:
        """Environment of those who are to ask it."""
        return {
            "HARELINE_GOOGLE_CLIENT_ID": "client",
            "HARELINE_GOOGLE_CLIENT_SECRET": "s3cret-client",
            "HARELINE_GOOGLE_OAUTH_URL": self.url,
            "HARELINE_GMAIL_URL": self.url,
        }

    def add(self, id: str, mail: bytes = b"Subject: Hello\r\n\r\nHello\r\n", *labels: str) -> None:
        """A mail comes."""
        self.mails[id] = mail
        self.labels[id] = list(labels or ("INBOX",))
        self.history.append((1_010 + 10 * len(self.history), id))

    def expire(self) -> None:
        """The access token that is in use is not good any more."""
        self.issued += 1

    @property
    def history_id(self) -> str:
        return str(self.history[-1][0] if self.history else 1_000)

    def asked(self, part: str) -> list[str]:
        """Paths, with their queries, that were asked for and have this in them."""
        return [path for path, _ in self.requests if part in path]

    def _as_google(self, request: BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        with self.lock:
            fault = next((fault for fault in self.faults if fault[0] in request.path), None)
            if fault is not None:
                self.faults.remove(fault)
                answer = fault[1]
            elif request.command == "POST":
                answer = self._oauth(request, url.path)
            else:
                answer = self._gmail(request, url.path, query)
        answer(request)

    def _oauth(self, request: Any, path: str) -> Answer:
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        if self.oauth_script:
            return self.oauth_script.pop(0)
        if path == "/revoke":
            self.revoked.append(form["token"])
            return status(200)
        if (form.get("client_id"), form.get("client_secret")) != ("client", "s3cret-client"):
            return INVALID_CLIENT
        if (path, form.get("grant_type"), form.get("refresh_token")) != ("/token", "refresh_token", self.refresh_token):
            return INVALID_GRANT
        self.issued += 1
        token = {"access_token": f"ya29.access-{self.issued}", "expires_in": self.expires_in, "token_type": "Bearer"}
        return respond(200, token)

    def _gmail(self, request: Any, path: str, query: dict[str, str]) -> Answer:
        if request.headers["Authorization"] != f"Bearer ya29.access-{self.issued}":
            return UNAUTHORIZED
        what = path.removeprefix("/gmail/v1/users/me")
        if what == "/profile":
            return respond(
                200, {"emailAddress": ADDRESS, "messagesTotal": len(self.mails), "historyId": self.history_id}
            )
        if what == "/messages":
            there = [id for id in reversed(self.mails) if not {"SPAM", "TRASH"} & set(self.labels[id])]
            return self._page(query, "messages", [{"id": id, "threadId": f"t{id}"} for id in there], {})
        if what == "/history":
            since = int(query["startHistoryId"])
            if since < self.forgotten:
                return NOT_FOUND
            changes = [
                {
                    "id": str(at),
                    "messagesAdded": [{"message": {"id": id, "threadId": f"t{id}", "labelIds": self.labels[id]}}],
                }
                for at, id in self.history
                if at > since
            ]
            return self._page(query, "history", changes, {"historyId": self.history_id})
        id = what.removeprefix("/messages/")
        if id not in self.mails:
            return NOT_FOUND
        raw = base64.urlsafe_b64encode(self.mails[id]).decode().rstrip("=")
        letter = {
            "id": id,
            "threadId": f"t{id}",
            "labelIds": self.labels[id],
            "internalDate": "1790000000000",
            "raw": raw,
        }
        return respond(200, letter)

    def _page(self, query: dict[str, str], name: str, found: list[Any], more: dict[str, str]) -> Answer:
        token = query.get("pageToken", "p0")
        if not token[1:].isdecimal() or int(token[1:]) > len(found):
            return BAD_PAGE
        start = int(token[1:])
        some, end = found[start : start + self.per_page], start + self.per_page
        body = {**({name: some} if some else {}), **more}  # Gmail leaves out what is empty
        return respond(200, body if end >= len(found) else {**body, "nextPageToken": f"p{end}"})
