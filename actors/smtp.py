"""A mail server, by SMTP."""

import smtplib
import ssl
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

from actors.outside import Refused, Unavailable
from errors import Retry

PORTS = {"smtp": 587, "smtps": 465, "smtp+plain": 25}
#: "Come back later" of a server that greylists, or whose mailbox is full.
LATER_MS = 60_000


class MailServer:
    """Hands over mails, one connection each.  Thread-safe.

    Parameters:
      url: ``smtp://`` (STARTTLS, which the server must offer), ``smtps://`` (TLS) or ``smtp+plain://`` (neither).
      ca_file: whose certificates are trusted; the system's, if none is given.
    """

    def __init__(self, url: str, *, timeout_s: float, ca_file: str | None = None) -> None:
        parts = urlsplit(url)
        self._scheme, self._host = parts.scheme, parts.hostname or ""
        self._port = parts.port or PORTS[parts.scheme]
        self._login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context(cafile=ca_file)

    def send(self, mail: EmailMessage) -> None:
        """Hand a mail over; the server has it when this returns.

        Raises ``Retry`` when the server wants it later, :class:`~actors.outside.Unavailable` when it cannot be reached
        or breaks off, :class:`~actors.outside.Refused` when it will never take it: a mailbox that is not there, a
        password that is wrong, no TLS where that is asked for.
        """
        where = f"{self._host}:{self._port}"
        try:
            with self._connected() as server:
                if self._login is not None:
                    server.login(*self._login)
                server.send_message(mail)
        except smtplib.SMTPAuthenticationError as error:
            raise self._meant(
                where, error.smtp_code, error.smtp_error, "check the user and password of HARELINE_SMTP_URL"
            ) from error
        except smtplib.SMTPRecipientsRefused as error:
            [(code, said), *_] = error.recipients.values()
            raise self._meant(where, code, said, f"check the address {mail['To']}") from error
        except smtplib.SMTPNotSupportedError as error:
            remedy = "use smtps://, or smtp+plain:// within a network you trust"
            raise Refused(
                f"{where} cannot do what HARELINE_SMTP_URL asks for: {error}; {remedy}", code="no_tls"
            ) from error
        except smtplib.SMTPResponseException as error:
            raise self._meant(
                where, error.smtp_code, error.smtp_error, "check HARELINE_MAIL_FROM and the mail"
            ) from error
        except ssl.SSLCertVerificationError as error:
            raise Refused(f"the certificate of {where} is not trusted: {error.verify_message}", code="tls") from error
        except (smtplib.SMTPException, OSError) as error:  # SMTPServerDisconnected among them
            raise Unavailable(f"{where} did not take the mail: {str(error) or type(error).__name__}") from error

    def _connected(self) -> smtplib.SMTP:
        if self._scheme == "smtps":
            return smtplib.SMTP_SSL(self._host, self._port, timeout=self._timeout_s, context=self._tls)
        server = smtplib.SMTP(self._host, self._port, timeout=self._timeout_s)
        if self._scheme == "smtp":
            try:
                server.starttls(context=self._tls)
            except BaseException:
                server.close()
                raise
        return server

    @staticmethod
    def _meant(where: str, code: int, said: bytes | str, remedy: str) -> Exception:
        text = f"{where} answered {code} {said.decode(errors='replace') if isinstance(said, bytes) else said}"
        if code == 421 or not 200 <= code < 600:  # it goes away, or does not speak SMTP just now
            return Unavailable(text)
        if 400 <= code < 500:
            return Retry(text, delay=LATER_MS)
        return Refused(f"{text} ({remedy})")
