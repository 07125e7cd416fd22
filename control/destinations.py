"""Where notices go: the log, a webhook, Slack, mail.  Each raises when it could not deliver."""

import hashlib
import hmac
import json
import logging
import smtplib
import ssl
import time
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

import httpx

from ledger.notice import Notice
from settings import Settings

logger = logging.getLogger("hareline.alerts")

Destination = Callable[[Notice], None]

_LEVELS = {"critical": logging.ERROR, "warning": logging.WARNING}
_PORTS = {"smtp": 587, "smtps": 465, "smtp+plain": 25}
_SIGNS = {"critical": ":red_circle:", "warning": ":large_yellow_circle:", "ok": ":large_green_circle:"}


def destinations(settings: Settings) -> Mapping[str, Destination]:
    """Those that are set up, by name; the log always is.  Does no I/O."""
    found: dict[str, Destination] = {"log": log}
    if settings.alert_webhook_url is not None:
        secret = settings.alert_webhook_secret
        found["webhook"] = Webhook(
            settings.alert_webhook_url.get_secret_value(),
            secret.get_secret_value() if secret else "",
            settings.http_timeout_s,
        )
    if settings.alert_slack_url is not None:
        found["slack"] = Slack(settings.alert_slack_url.get_secret_value(), settings.http_timeout_s)
    if settings.alert_mail_to and settings.smtp_url and settings.mail_from:
        found["mail"] = Mail(
            settings.smtp_url,
            settings.mail_from,
            [address.strip() for address in settings.alert_mail_to.split(",")],
            settings.http_timeout_s,
            settings.smtp_ca_file,
        )
    return found


def log(notice: Notice) -> None:
    logger.log(_LEVELS.get(notice.level, logging.INFO), "%s: %s", notice.subject, "; ".join(notice.lines))


class Webhook:
    """Posts the notice as JSON, signed: ``X-Hareline-Signature: t=SECONDS,v1=HEX`` is the HMAC-SHA256, by the secret,
    of those seconds, a dot and the body.  Anything but a 2xx is a failure; redirects are not followed.
    """

    def __init__(self, url: str, secret: str, timeout_s: float) -> None:
        self._url, self._secret, self._timeout_s = url, secret.encode(), timeout_s

    def __call__(self, notice: Notice) -> None:
        body = notice.body().encode()
        headers = {"Content-Type": "application/json", "X-Hareline-Delivery": notice.id}
        if self._secret:
            now = int(time.time())
            made = hmac.new(self._secret, f"{now}.".encode() + body, hashlib.sha256).hexdigest()
            headers["X-Hareline-Signature"] = f"t={now},v1={made}"
        _post(self._url, body, headers, self._timeout_s)


class Slack:
    """Posts ``{"text": …}``; what would be a mention or a link is only text."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url, self._timeout_s = url, timeout_s

    def __call__(self, notice: Notice) -> None:
        text = "\n".join((f"{_SIGNS.get(notice.level, '')} *{_inert(notice.subject)}*", *map(_inert, notice.lines)))
        body = json.dumps({"text": text, "mrkdwn": True}).encode()
        _post(self._url, body, {"Content-Type": "application/json"}, self._timeout_s)


class Mail:
    """Hands a mail over by SMTP, by one connection each.

    Parameters:
      url: ``smtp://`` (STARTTLS, which the server must offer), ``smtps://`` (TLS) or ``smtp+plain://`` (neither).
    """

    def __init__(self, url: str, sender: str, to: list[str], timeout_s: float, ca_file: str | None) -> None:
        parts = urlsplit(url)
        self._scheme, self._host = parts.scheme, parts.hostname or ""
        self._port = parts.port or _PORTS[parts.scheme]
        self._login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        self._sender, self._to, self._timeout_s, self._ca_file = sender, to, timeout_s, ca_file

    def __call__(self, notice: Notice) -> None:
        mail = EmailMessage()
        mail["Subject"] = notice.subject
        mail["From"] = self._sender
        mail["To"] = ", ".join(self._to)
        mail["Message-ID"] = f"<{notice.id}@hareline>"
        mail["Auto-Submitted"] = "auto-generated"  # no out-of-office answers
        mail.set_content(notice.text())
        with self._connected() as server:
            if self._login is not None:
                server.login(*self._login)
            server.send_message(mail)

    def _connected(self) -> smtplib.SMTP:
        tls = ssl.create_default_context(cafile=self._ca_file)
        if self._scheme == "smtps":
            return smtplib.SMTP_SSL(self._host, self._port, timeout=self._timeout_s, context=tls)
        server = smtplib.SMTP(self._host, self._port, timeout=self._timeout_s)
        if self._scheme == "smtp":
            try:
                server.starttls(context=tls)
            except BaseException:
                server.close()
                raise
        return server


def _post(url: str, body: bytes, headers: Mapping[str, str], timeout_s: float) -> None:
    answer = httpx.post(url, content=body, headers=dict(headers), timeout=timeout_s, follow_redirects=False)
    if not answer.is_success:
        raise OSError(f"it answered {answer.status_code}")  # its body may quote the address, which is a secret


def _inert(text: str) -> str:
    """As Slack's own manual has it; and its emphasis marks are left without effect."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("@", "@\u200b").replace("`", "'")
