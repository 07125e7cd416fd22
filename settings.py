"""Every knob, read once, in one frozen object.

    settings = load()

Each setting is looked up in the environment, then in ``.env``, then in ``hareline.toml`` (both in the
working directory), then taken from the defaults below.  Its environment variable is ``HARELINE_`` and its
name in capitals, but for the names in :data:`VARIABLES`; in ``hareline.toml`` it is its name.  An empty
variable counts as unset.  One queue's settings are ``HARELINE_QUEUES__USAGE_TRACKING__CONCURRENCY`` or
``[queues.usage-tracking]``; where queues are declared, those of one that there is not are refused.

A name nobody knows and a value nobody can use are refused, never ignored.
"""

import base64
import binascii
import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)

from errors import SettingsError

__all__ = ["VARIABLES", "Explained", "QueueSettings", "Settings", "fold", "load", "loopback", "mask"]

PREFIX: Final = "HARELINE_"
_QUEUES: Final = f"{PREFIX}QUEUES__"
# Read elsewhere, before there are settings: by failpoints.py and by the tests.
_NOT_SETTINGS: Final = re.compile(rf"{PREFIX}(FAILPOINTS|TEST_\w+)")
_HOST: Final = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(:(?P<port>[0-9]{1,5}))?")
_RATE: Final = re.compile(r"(?P<count>[0-9]+(\.[0-9]+)?)/(?P<number>[0-9]+(\.[0-9]+)?)?(?P<unit>[smhd])")
#: A producer's name.
PRODUCER: Final = re.compile(r"[A-Za-z0-9._-]+")
#: A key's id, and its length.
KEY_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,40}")
KEY_BYTES: Final = 32
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def mask(text: str) -> str:
    """The same text with the passwords of the URLs in it replaced by ``***``."""
    text = re.sub(r"(?<=://)([^:/@\s]*):\S*@", r"\1:***@", text)
    return re.sub(r"(?<=password=)[^&\s]+", "***", text)


def fold(queue: str) -> str:
    """The name of a queue without what the name of a variable cannot tell: case, dashes from underscores."""
    return queue.lower().replace("_", "-")


def loopback(host: str) -> bool:
    """Whether only this machine can reach it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _hosts_read(url: str) -> bool:
    """Whether it is clear which hosts and ports are meant: a password with a ``/`` or ``#`` in it hides them."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    hosts = parts.netloc.rpartition("@")[2].split(",")
    return "@" not in parts.path + parts.fragment and all(
        (found := _HOST.fullmatch(host)) and 0 < int(found["port"] or 1) < 2**16 for host in hosts
    )


def _database_url(url: str) -> str:
    if re.fullmatch(r"sqlite:///[^?]+", url) and not url.endswith(":memory:"):
        return url
    if url.startswith(("postgresql://", "postgres://")) and _hosts_read(url):
        return "postgresql://" + url.partition("://")[2]
    raise ValueError(
        "sqlite:///PATH (a file: processes share it) or postgresql://USER:PASSWORD@HOST:PORT/DATABASE; "
        "a / in a password is written %2F, a # %23, an @ %40"
    )


def _broker_url(url: str) -> str:
    user, _, _ = url.partition("://")[2].rpartition("@")
    if url.startswith(("amqp://", "amqps://")) and (not user or ":" in user) and _hosts_read(url):
        return url
    raise ValueError(
        "amqp://USER:PASSWORD@HOST:PORT/VHOST or amqps://… (a / in a password is written %2F, a # %23, an @ %40); no "
        "other broker is supported. Unset, or embedded, the ledger carries the jobs"
    )


def _embedded(url: object) -> object:
    return None if url == "embedded" else url


def _worker_count(value: object) -> object:
    if value == "cpus" or (str(value).isdecimal() and int(str(value)) >= 1):
        return value
    raise ValueError("cpus, or a number of processes of at least 1")


def rate_of(text: str) -> tuple[float, float]:
    """``"10/s"``, ``"100/5m"`` (s, m, h or d) as a count and seconds.  Raises ``ValueError``."""
    found = _RATE.fullmatch(text)
    if found is not None:
        count, seconds = float(found["count"]), float(found["number"] or 1) * _SECONDS[found["unit"]]
        if count > 0 and seconds > 0:
            return count, seconds
    raise ValueError("so many starts in a time: 10/s, 0.5/s, 100/5m, 1000/h, 10000/d")


def _rate(text: str) -> str:
    rate_of(text)
    return text


def keys_of(text: str) -> dict[str, bytes]:
    """``"2026-11:BASE64,2026-05:BASE64"`` as keys by id, in order.  Raises ``ValueError``, which quotes no key."""
    remedy = "write ID:KEY,ID:KEY with keys as `hareline keys generate` prints them; the first one encrypts"
    keys: dict[str, bytes] = {}
    for number, part in enumerate(text.split(","), 1):
        id, colon, encoded = part.strip().partition(":")
        if not colon or not KEY_ID.fullmatch(id):
            raise ValueError(f"ids and keys, but entry {number} has no id of letters, digits, dots, _ and -; {remedy}")
        if id in keys:
            raise ValueError(f"ids that differ, but {id!r} is given twice; {remedy}")
        try:
            key = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            raise ValueError(f"base64, but the key {id!r} is not; {remedy}") from None
        if len(key) != KEY_BYTES:
            raise ValueError(f"keys of {KEY_BYTES} bytes, but the key {id!r} has {len(key)}; {remedy}")
        keys[id] = key
    return keys


def _keys(value: SecretStr) -> SecretStr:
    keys_of(value.get_secret_value())
    return value


def networks_of(text: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """``"10.0.0.0/8, 127.0.0.1"`` as networks.  Raises ``ValueError``."""
    return [ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip()]


def _networks(text: str) -> str:
    try:
        networks_of(text)
    except ValueError as error:
        raise ValueError(f"networks, separated by commas ({error})") from None
    return text


def _sources(text: str) -> str:
    for source in text.split():
        if not re.fullmatch(r"(s3|gs|abfs|https?|memory)://[^\s?#:\\]*(:[0-9]+)?(/[^\s?#:\\]*)?", source):
            raise ValueError(f"s3://…, gs://…, abfs://…, https://… or http://…, separated by spaces, got {source!r}")
        if {".", ".."} & {*source.split("/")}:
            raise ValueError(f"addresses without . and .. in their paths, got {source!r}")
    return text


def _addresses(text: str) -> str:
    for url in text.split():
        if not re.fullmatch(r"https?://\S+", url):
            raise ValueError(f"http://… or https://…, separated by spaces, but {url!r} is neither")
    return text


#: What is looked at to say whether all is well: above which figure it is a warning, and above which it is critical.
HEALTH: Final[Mapping[str, tuple[float, float]]] = {
    "waiting": (100, 1_000),  # jobs of a queue
    "failed": (10, 100),  # dead letters of a queue
    "active": (2, 5),  # jobs of a queue that run, for each slot its workers have
    "delayed": (50, 500),  # jobs of a queue
    "oldest_waiting": (300, 3_600),  # seconds a job of a queue has waited
    "unserved": (30, 300),  # seconds a job has waited in a queue that no worker serves
    "silent": (0.6, 1.2),  # leases since a worker was heard of
    "schedules": (60, 600),  # seconds a tick is late
    "duties": (30, 120),  # seconds a duty of maintenance is late
}


def thresholds_of(text: str) -> dict[str, tuple[float, float] | None]:
    """``"waiting=500/5000, failed=off"``; off is None.  Raises ``ValueError``."""
    found: dict[str, tuple[float, float] | None] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        rule, equals, said = (word.strip() for word in part.partition("="))
        numbers = re.fullmatch(r"(\d+(?:\.\d+)?)/(\d+(?:\.\d+)?)", said)
        if rule not in HEALTH or not equals or not (numbers or said == "off"):
            near = difflib.get_close_matches(rule, HEALTH, n=1, cutoff=0)[0]
            raise ValueError(
                f"RULE=WARNING/CRITICAL or RULE=off, separated by commas ({near}=100/1000), got {part!r}; the rules "
                f"are {', '.join(HEALTH)}"
            )
        found[rule] = (float(numbers[1]), float(numbers[2])) if numbers else None
        if numbers and float(numbers[1]) > float(numbers[2]):
            raise ValueError(f"the warning before the critical figure, not {part!r}")
    return found


def _thresholds(text: str) -> str:
    thresholds_of(text)
    return text


def _smtp_url(url: str) -> str:
    if re.fullmatch(r"(smtp|smtps|smtp\+plain)://([^:@/\s]+:\S+@)?[^@/\s]+", url):
        return url
    raise ValueError("smtp://USER:PASSWORD@HOST:587 (STARTTLS), smtps://… (TLS) or smtp+plain://… (neither)")


def _mailboxes(text: str) -> str:
    if all(re.fullmatch(r"[^\s<>,@]+@[^\s<>,@]+", part.strip()) for part in text.split(",")):
        return text
    raise ValueError("mail addresses, separated by commas")


def _http_url(url: SecretStr) -> SecretStr:
    if re.fullmatch(r"https?://[^\s]+", url.get_secret_value()):
        return url
    raise ValueError("an address that begins with http:// or https://")


def contracts_of(text: str) -> list[str]:
    """``"0xca11… 0x5fbd…"`` as addresses in lower case.  Raises ``ValueError``."""
    for part in text.split():
        if not re.fullmatch(r"0x[0-9a-fA-F]{40}", part):
            raise ValueError(f"addresses of 0x and 40 hexadecimal digits, separated by spaces, but {part!r} is none")
    return text.lower().split()


def topics_of(text: str) -> list[list[str] | None]:
    """``"0xddf2…|0x8c5b… * 0x0000…"`` as the alternatives of each place, None for any.  Raises ``ValueError``."""
    places: list[list[str] | None] = []
    for place in text.lower().split():
        wrong = [topic for topic in place.split("|") if not re.fullmatch(r"0x[0-9a-f]{64}", topic)]
        if place != "*" and wrong:
            raise ValueError(f"topics of 0x and 64 hexadecimal digits, but {wrong[0]!r} is none; * is any, | is or")
        places.append(None if place == "*" else place.split("|"))
    if len(places) > 4:
        raise ValueError(f"at most 4 places, for a log has no more topics, got {len(places)}; | is or")
    return places


def _contracts(text: str) -> str:
    contracts_of(text)
    return text


def _topics(text: str) -> str:
    topics_of(text)
    return text


def _signing_key(key: SecretStr) -> SecretStr:
    if re.fullmatch(r"(0x)?[0-9a-fA-F]{64}", key.get_secret_value()):
        return key
    raise ValueError("a private key of 64 hexadecimal digits")


def _producer(name: str) -> str:
    if PRODUCER.fullmatch(name):
        return name
    raise ValueError("a name of letters, digits, dot, dash and underscore")


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


class QueueSettings(BaseModel):
    """What may be set for one queue; None leaves it as the catalogue of queues has it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    concurrency: PositiveInt | None = None
    """Jobs of this queue at once in one process."""
    rate: Annotated[str, AfterValidator(_rate)] | None = None
    """At most so many starts over all workers: 10/s, 100/5m."""
    max_running: PositiveInt | None = None
    """Jobs of this queue at once over all workers."""
    max_waiting: PositiveInt | None = None
    """Jobs sent to it without a delay that may be unended at once; a send beyond that raises QueueFull."""
    health: Annotated[str, AfterValidator(_thresholds)] = ""
    """When this queue is a warning or critical: waiting=500/5000, failed=off."""


class Settings(BaseModel):
    """The effective settings.  Frozen; its ``repr`` shows no secrets."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    database_url: Annotated[str, AfterValidator(_database_url)] = "sqlite:///.hareline/hareline.db"
    """Where the ledger is: a SQLite file or PostgreSQL."""
    broker_url: Annotated[Annotated[str, AfterValidator(_broker_url)] | None, BeforeValidator(_embedded)] = None
    """RabbitMQ; unset, or embedded, the ledger carries the jobs itself."""

    worker_count: Annotated[Literal["cpus"] | int, BeforeValidator(_worker_count)] = "cpus"
    """Worker processes: a number, or cpus for one per core."""
    queue_concurrency: PositiveInt = 5
    """Jobs at once in one process, for queues the catalogue does not name."""
    queues: Mapping[str, QueueSettings] = Field(default_factory=dict)
    """Settings of single queues, by queue name."""
    job_attempts: PositiveInt = 3
    """Times a job is tried before it is a dead letter."""
    min_backoff_ms: PositiveInt = 1_000
    """Delay before the second attempt."""
    max_backoff_ms: PositiveInt = 604_800_000
    """Longest delay between two attempts."""
    time_limit_ms: PositiveInt = 600_000
    """How long one attempt may take."""
    max_age_ms: PositiveInt | None = None
    """A job waiting longer than this is not run any more; unset, never."""
    max_payload_bytes: PositiveInt = 102_400
    """Largest encoded message send() accepts."""
    max_result_bytes: PositiveInt = 102_400
    """Largest encoded result that is kept."""
    max_checkpoint_bytes: PositiveInt = 102_400
    """Largest encoded state checkpoint() accepts."""

    stalled_interval_ms: int = Field(default=30_000, ge=1_000)
    """A worker silent for this long has lost its jobs."""
    shutdown_grace_s: PositiveFloat = 25
    """How long running jobs may go on after a worker is told to stop."""
    cancel_grace_s: NonNegativeFloat = 10
    """How long a running job may go on after it is asked to stop, before it is interrupted."""
    unknown_actor_grace_s: NonNegativeInt = 300
    """How long a job of an unknown actor waits for a deploy that knows it."""

    queue_type: Literal["auto", "classic", "quorum"] = "auto"
    """RabbitMQ queue type; auto is quorum from RabbitMQ 4.3 on, classic before."""
    confirm_timeout_s: PositiveFloat = 10
    """How long RabbitMQ may take to confirm a message."""
    publish_after_s: PositiveFloat = 5
    """Age at which the relay sends what its producer did not."""
    resend_after_s: PositiveFloat = 30
    """How long the relay waits for a confirm before it sends again."""

    sweep_s: PositiveFloat = 60
    """How often messages that RabbitMQ lost are looked for."""
    orphan_s: PositiveFloat = 120
    """Age at which a message that nobody claimed is looked for."""
    reconcile_s: PositiveFloat = 15
    """How often the dead-letter queues are compared with the ledger."""
    rabbitmq_management_url: str | None = Field(default=None, pattern=r"^https?://[^\s?#]+$")
    """RabbitMQ's management API and UI; unset, it is looked for at the broker's host, port 15672 (15671 with TLS)."""

    keep_completed: NonNegativeInt = 100
    """Newest completed jobs kept at hand, per queue."""
    keep_completed_s: NonNegativeInt = 3_600
    """Age at which completed jobs move to the history."""
    keep_failed: NonNegativeInt = 500
    """Newest failed jobs kept at hand, per queue."""
    keep_failed_s: NonNegativeInt = 86_400
    """Age at which failed jobs move to the history."""
    audit_log_retention_days: NonNegativeInt = 30
    """Days the history is kept; 0 keeps none."""
    redact_keys: str = ""
    """Names of arguments and members, by commas, that are shown to nobody who does not reveal them: customer_*, iban.
    A star is for anything; case does not count. What looks like a secret by its name is never shown."""
    search_words: bool = True
    """Whether jobs can be found by words of theirs; it costs the database some of its time for each job."""
    statistics_days: PositiveInt = 90
    """Days for which it is kept how many jobs ended how, by the hour; by the minute it is two days."""
    archive_dir: str = ".hareline/archive"
    """Where the daily cleanup puts what it takes out of the history, as compressed JSON lines: a folder, or s3://…"""
    sqlite_synchronous: Literal["FULL", "NORMAL"] = "FULL"
    """NORMAL is faster, and may lose the last jobs at a power failure."""

    log_format: Literal["auto", "text", "json"] = "auto"
    """Auto is text on a terminal and json elsewhere."""
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = "INFO"
    """Least severe level that is logged."""

    metrics_port: int | None = Field(default=None, ge=1, le=65_535)
    """Where Prometheus asks the processes of this machine, one address for all of them; unset, nothing is counted."""
    metrics_host: str = "127.0.0.1"
    """The address of this machine on which that is."""

    keys: Annotated[SecretStr, AfterValidator(_keys)] | None = None
    """What encrypts sensitive jobs: ID:BASE64,ID:BASE64, newest first; the first one writes, all read."""
    producer: Annotated[str, AfterValidator(_producer)] | None = None
    """The name by which actors allow this process to send to them; unset, its user at RabbitMQ."""
    tracing: Literal["off", "links", "parents"] = "off"
    """OpenTelemetry spans: a job's is linked to that of its send, or is its child; needs hareline[otel]."""

    console_host: str = "127.0.0.1"
    """Where the console and the HTTP API listen."""
    console_port: int = Field(default=8642, ge=0, le=65535)
    """Their port; 0 is any that is free, and the console prints which."""
    console_prefix: str = Field(default="", pattern=r"^(/[A-Za-z0-9._~-]+)*$")
    """The path below which a proxy has them: /ops; it may pass that path on, or take it away."""
    console_insecure_local: bool = False
    """Nobody has to log in, and whoever is on this machine is an admin; console_host has to be a loopback address."""
    console_read_only: bool = False
    """Nobody may change anything by the console or the HTTP API, whatever their role."""
    console_environment: str = Field(default="", max_length=24)
    """Shown on every page, in colour for production and staging, so that nobody mistakes one for another."""
    console_session_s: PositiveInt = 43_200
    """How long somebody stays logged in."""
    console_trusted_proxies: str = ""
    """Networks (10.0.0.0/8, separated by commas) of proxies that say who somebody is, and where they come from."""
    console_proxy_user_header: str = "X-Forwarded-User"
    """The header in which a trusted proxy says who it is; it is a user's name here, whose role counts."""

    health: Annotated[str, AfterValidator(_thresholds)] = ""
    """When something is a warning or critical, where the usual figures do not fit: waiting=500/5000, failed=off."""
    alert_every_s: PositiveFloat = 15
    """How often health is judged, for alerts."""
    alert_calm_s: NonNegativeFloat = 60
    """How long something has to be well again, with a margin of a fifth, before that is told."""
    alert_webhook_url: Annotated[SecretStr, AfterValidator(_http_url)] | None = None
    """Where alerts are posted as JSON; unset, they are logged only."""
    alert_webhook_secret: SecretStr | None = None
    """What those posts are signed with; unset, they are not."""
    alert_slack_url: Annotated[SecretStr, AfterValidator(_http_url)] | None = None
    """Slack's incoming webhook, or one that takes the same, for alerts."""
    alert_mail_to: Annotated[str, AfterValidator(_mailboxes)] | None = None
    """Addresses, separated by commas, that alerts are mailed to; needs smtp_url and mail_from."""
    alert_dead_s: PositiveFloat = 60
    """Dead letters of so long are told in one message."""

    posthog_url: str | None = Field(default=None, pattern=r"^https?://")
    """PostHog's address; unset, nothing is sent to it."""
    posthog_key: SecretStr | None = None
    """PostHog's project API key."""
    http_timeout_s: PositiveFloat = 10
    """Timeout of outgoing HTTP requests."""
    openai_url: str | None = Field(default=None, pattern=r"^https?://")
    """Endpoint that speaks OpenAI's protocol, with its version: https://api.openai.com/v1; unset, no model is asked."""
    openai_key: SecretStr | None = None
    """Its API key; a server of one's own may want none."""
    openai_timeout_s: PositiveFloat = 60
    """How long a model may be silent."""
    embedding_model: str = Field(default="text-embedding-3-small", min_length=1)
    """The model that makes vectors; another one makes all of them anew."""
    smtp_url: Annotated[str, AfterValidator(_smtp_url)] | None = None
    """Mail server: smtp://USER:PASSWORD@HOST:587 (STARTTLS), smtps:// (TLS), smtp+plain:// (none); unset, no mail."""
    smtp_ca_file: str | None = None
    """Certificates that the mail server's is checked against; unset, the system's."""
    mail_from: str | None = Field(default=None, pattern=r"^[^\s<>]+@[^\s<>]+$")
    """Address that mails are sent from."""
    slack_url: SecretStr | None = None
    """Slack's incoming webhook, or one that takes the same; unset, nothing is posted."""
    webhook_secret: SecretStr | None = None
    """What each webhook receiver's key is made of, told to nobody: at least 16 characters; unset, none is sent."""
    webhook_networks: Annotated[str, AfterValidator(_networks)] = ""
    """Networks that webhooks and data jobs may reach though they are not public: 10.1.0.0/16, 127.0.0.1."""
    billing_webhook_url: str | None = Field(default=None, pattern=r"^https?://")
    """Where closed billing periods are told; unset, nowhere."""
    data_dir: str = ".hareline/data"
    """Folder of the files that data jobs may read."""
    data_sources: Annotated[str, AfterValidator(_sources)] = ""
    """What else they may read, separated by spaces: s3://BUCKET/PATH, gs://, abfs://, https://HOST, https:// (any)."""
    cache_dir: str = ".hareline/cache"
    """Folder in which warmed-up pages are kept."""
    warmup_urls: Annotated[str, AfterValidator(_addresses)] = ""
    """Pages that are fetched every five minutes, separated by spaces; unset, none."""
    chain_rpc_url: Annotated[SecretStr, AfterValidator(_http_url)] | None = None
    """Ethereum's JSON-RPC, of any chain that speaks it; unset, no chain is watched."""
    chain_id: PositiveInt | None = None
    """The chain that has to be: 1 is Ethereum, 11155111 Sepolia; unset, the one that is met first."""
    chain_addresses: Annotated[str, AfterValidator(_contracts)] = ""
    """Contracts whose logs are matches, separated by spaces; unset, those of any contract that chain_topics fits."""
    chain_topics: Annotated[str, AfterValidator(_topics)] = ""
    """The topics of a match, by place and separated by spaces; * is any, and a bar stands between alternatives."""
    chain_start_block: NonNegativeInt | None = None
    """The first block that is looked at; unset, the newest one when watching begins."""
    chain_confirmations: NonNegativeInt = 0
    """Blocks there have to be on top of one before it is looked at."""
    chain_reorg_depth: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Blocks whose hashes are kept: a re-organisation of up to so many is taken back, a deeper one asks a person."""
    chain_batch_blocks: PositiveInt = 1_000
    """Most blocks that one request asks the logs of."""
    chain_actor: str | None = None
    """The actor that is sent each match; it takes one argument, a Match of actors/blocks.py."""
    chain_webhook_url: str | None = Field(default=None, pattern=r"^https?://")
    """Where each match is posted as a webhook; unset, nowhere."""
    chain_multicall_address: str | None = Field(default=None, pattern=r"^0x[0-9a-fA-F]{40}$")
    """Where the chain has Multicall3, if neither at its usual address nor deployed from here."""
    chain_deployer_key: Annotated[SecretStr, AfterValidator(_signing_key)] | None = None
    """The private key that signs, and whose account pays, what is deployed."""

    google_client_id: str | None = Field(default=None, min_length=1)
    """Your OAuth client at Google; unset, no mailbox is read."""
    google_client_secret: SecretStr | None = None
    """Its secret."""
    google_oauth_url: str = Field(default="https://oauth2.googleapis.com", pattern=r"^https?://")
    """Google's OAuth server: where access tokens are had, and given up."""
    gmail_url: str = Field(default="https://gmail.googleapis.com", pattern=r"^https?://")
    """Gmail's API."""

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _backoffs_in_order(self) -> Self:
        if self.min_backoff_ms > self.max_backoff_ms:
            raise ValueError(f"min_backoff_ms ({self.min_backoff_ms}) is above max_backoff_ms ({self.max_backoff_ms})")
        return self

    @property
    def processes(self) -> int:
        """How many worker processes that is on this machine."""
        if self.worker_count != "cpus":
            return self.worker_count
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    @property
    def lease_s(self) -> float:
        """How long a worker may be silent before its jobs are given to others."""
        return self.stalled_interval_ms / 1000

    @property
    def origins(self) -> Mapping[str, str]:
        """Where each setting that is not a default came from: environment, .env or hareline.toml."""
        return dict(self._origins)

    def explain(self) -> "list[Explained]":
        """Every setting as ``hareline config`` shows it."""
        return [
            Explained(
                name,
                VARIABLES[name],
                _shown(getattr(self, name)),
                self._origins.get(name, "default"),
                field.description or "",
            )
            for name, field in type(self).model_fields.items()
        ]

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        for name in type(self).model_fields:
            value = getattr(self, name)
            yield name, mask(value) if isinstance(value, str) else value


class Explained(NamedTuple):
    """One setting, fit to be shown: no secret is in it."""

    name: str
    variable: str
    value: str
    origin: str
    description: str


VARIABLES: Final[Mapping[str, str]] = {name: PREFIX + name.upper() for name in Settings.model_fields} | {
    "database_url": "DATABASE_URL",
    "broker_url": "BROKER_URL",
    "worker_count": "WORKER_COUNT",
    "queue_concurrency": "WORKER_QUEUE_CONCURRENCY",
    "job_attempts": "WORKER_QUEUE_JOB_ATTEMPTS",
    "stalled_interval_ms": "WORKER_QUEUE_STALLED_INTERVAL",
    "audit_log_retention_days": "AUDIT_LOG_RETENTION_DAYS",
    "posthog_url": "POSTHOG_URL",
    "posthog_key": "POSTHOG_API_KEY",
    "openai_url": "OPENAI_BASE_URL",
    "openai_key": "OPENAI_API_KEY",
    "queues": f"{_QUEUES}<QUEUE>__CONCURRENCY",
}
"""The environment variable of each setting."""

_SECRET: Final = {name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}


class _Source(NamedTuple):
    origin: str
    values: Mapping[str, Any]
    queues: Mapping[str, Mapping[str, Any]]


def load(environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> Settings:
    """Read the settings; ``SettingsError`` names every one that is unknown or cannot be used.

    Parameters:
      environ: instead of the process's environment.
      cwd: where ``.env`` and ``hareline.toml`` are looked for, instead of the working directory.
    """
    directory = cwd or Path()
    sources = [  # the last one wins
        _from_toml(directory / "hareline.toml"),
        _from_variables(".env", dotenv_values(directory / ".env", interpolate=False)),
        _from_variables("environment", os.environ if environ is None else environ),
    ]
    values: dict[str, Any] = {}
    queues: dict[str, dict[str, Any]] = {}
    origins: dict[str, str] = {}
    for source in sources:
        values |= source.values
        spelt = {fold(queue): queue for queue in queues}
        for name, knobs in source.queues.items():
            queue = name if name in queues else spelt.get(fold(name), name)
            queues[queue] = {**queues.get(queue, {}), **knobs}
        origins |= dict.fromkeys([*source.values, *(["queues"] if source.queues else [])], source.origin)
    try:
        settings = Settings.model_validate({**values, "queues": queues})
    except ValidationError as error:
        raise SettingsError("\n".join(_worded(error, origins))) from None
    settings._origins.update(origins)
    return settings


def _from_variables(origin: str, variables: Mapping[str, str | None]) -> _Source:
    names = {variable: name for name, variable in VARIABLES.items()}
    values: dict[str, Any] = {}
    queues: dict[str, dict[str, Any]] = {}
    for variable, value in variables.items():
        if not value:
            continue
        if variable in names:
            values[names[variable]] = value
        elif variable.startswith(_QUEUES) and (parts := variable.removeprefix(_QUEUES).lower().split("__"))[1:]:
            # A variable's name has no dashes, a queue's seldom underscores: who looks one up folds it.
            queues.setdefault("__".join(parts[:-1]).replace("_", "-"), {})[parts[-1]] = value
        elif variable.startswith(PREFIX) and not _NOT_SETTINGS.fullmatch(variable):
            raise SettingsError(_unknown(variable, origin, names))
    return _Source(origin, values, queues)


def _from_toml(path: Path) -> _Source:
    try:
        values = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return _Source(path.name, {}, {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error
    for key in values:
        if key not in VARIABLES:
            raise SettingsError(_unknown(key, path.name, VARIABLES))
    queues = values.pop("queues", {})
    if not isinstance(queues, dict) or not all(isinstance(knobs, dict) for knobs in queues.values()):
        raise SettingsError(f"queues in {path.name} must be tables; write [queues.NAME] and below it concurrency = 3")
    return _Source(path.name, values, queues)


def _unknown(name: str, origin: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)
    return (
        f"{name} ({origin}) is not a setting; the nearest is {nearest[0]}. Correct or remove it; see `hareline config`"
    )


def _worded(error: ValidationError, origins: Mapping[str, str]) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        if not problem["loc"]:
            yield problem["msg"].removeprefix("Value error, ")
            continue
        name, *rest = (str(part) for part in problem["loc"])
        origin = origins.get(name, "code")
        variable = name if origin == "hareline.toml" else VARIABLES[name]
        if name == "queues":
            variable = ".".join([name, *rest[:2]])
            if problem["type"] == "extra_forbidden":
                yield _unknown(
                    variable, origin, [".".join([name, rest[0], knob]) for knob in QueueSettings.model_fields]
                )
                continue
        expected = problem["msg"].removeprefix("Value error, ").replace("Input should be ", "")
        value = "***" if name in _SECRET else mask(str(problem["input"]))
        yield f"{variable}={value} ({origin}): expected {expected}. Correct it, or remove it for the default"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{queue}: {knobs}" for queue, knobs in value.items())
    return "" if value is None else mask(str(value))
