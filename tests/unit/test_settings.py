from pathlib import Path

import pytest
from pydantic import ValidationError

from errors import SettingsError
from settings import VARIABLES, QueueSettings, Settings, load, mask


def refusal(tmp_path: Path, **environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(environ, tmp_path)
    return str(caught.value)


def test_without_anything_set_there_are_defaults(tmp_path: Path) -> None:
    settings = load({}, tmp_path)
    assert settings == Settings()
    assert settings.broker_url is None
    assert settings.database_url.startswith("sqlite:///")
    assert settings.lease_s == 30
    assert settings.processes >= 1
    assert {row.origin for row in settings.explain()} == {"default"}


def test_the_environment_wins_over_dotenv_and_dotenv_over_toml(tmp_path: Path) -> None:
    (tmp_path / "hareline.toml").write_text("job_attempts = 4\nkeep_failed = 4\nkeep_completed = 4\n")
    (tmp_path / ".env").write_text("WORKER_QUEUE_JOB_ATTEMPTS=5\nHARELINE_KEEP_FAILED=5\nUNRELATED=1\n")
    settings = load({"WORKER_QUEUE_JOB_ATTEMPTS": "6"}, tmp_path)
    assert (settings.job_attempts, settings.keep_failed, settings.keep_completed) == (6, 5, 4)
    assert settings.origins == {"job_attempts": "environment", "keep_failed": ".env", "keep_completed": "hareline.toml"}


def test_an_empty_variable_counts_as_unset(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DATABASE_URL=\nWORKER_COUNT=3\n")
    settings = load({"BROKER_URL": "", "WORKER_COUNT": ""}, tmp_path)
    assert settings.broker_url is None
    assert settings.worker_count == 3


def test_embedded_in_the_place_of_a_broker_is_none_whatever_dotenv_says(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BROKER_URL=amqp://h/v\n")
    assert load({"BROKER_URL": "embedded"}, tmp_path).broker_url is None


def test_every_setting_can_be_given_by_its_variable(tmp_path: Path) -> None:
    samples = {
        "database_url": "postgresql://h/db",
        "broker_url": "amqp://h/v",
        "queue_type": "quorum",
        "sqlite_synchronous": "NORMAL",
        "log_format": "json",
        "log_level": "debug",
        "tracing": "links",
        "posthog_url": "https://h",
        "posthog_key": "k",
        "rabbitmq_management_url": "https://h",
        "openai_url": "https://h/v1",
        "smtp_url": "smtps://user:s3cret@h:465",
        "mail_from": "a@h",
        "webhook_networks": "10.0.0.0/8, ::1",
        "billing_webhook_url": "https://h",
        "warmup_urls": "https://h/a http://h/b",
        "data_sources": "s3://bucket/folder https://h",
        "gmail_url": "https://h",
        "google_oauth_url": "https://h",
        "chain_rpc_url": "https://h/v3/key",
        "chain_addresses": f"0x{'cA' * 20} 0x{'11' * 20}",
        "chain_topics": f"* 0x{'dd' * 32}|0x{'8c' * 32}",
        "chain_webhook_url": "https://h",
        "chain_multicall_address": f"0x{'cA' * 20}",
        "chain_deployer_key": "46" * 32,
        "keys": f"k:{'A' * 43}=",
        "max_backoff_ms": "777777",
        "health": "waiting=1/2",
        "search_words": "false",
        "alert_webhook_url": "https://h",
        "alert_slack_url": "https://h",
        "alert_mail_to": "a@h",
        "console_prefix": "/ops",
        "console_insecure_local": "true",
        "console_read_only": "true",
    }
    for name in Settings.model_fields.keys() - {"queues"}:
        settings = load({VARIABLES[name]: samples.get(name, "7777")}, tmp_path)
        assert getattr(settings, name) != getattr(Settings(), name), name
        assert settings.origins == {name: "environment"}


def test_one_queue_can_be_set_by_variable_and_by_table(tmp_path: Path) -> None:
    (tmp_path / "hareline.toml").write_text("[queues.billing]\nconcurrency = 2\n[queues.email]\nconcurrency = 4\n")
    settings = load(
        {
            "HARELINE_QUEUES__BILLING__CONCURRENCY": "9",
            "HARELINE_QUEUES__USAGE_TRACKING__CONCURRENCY": "8",
            "HARELINE_QUEUES__USAGE_TRACKING__MAX_WAITING": "1000",
        },
        tmp_path,
    )
    assert settings.queues == {
        "billing": QueueSettings(concurrency=9),
        "email": QueueSettings(concurrency=4),
        "usage-tracking": QueueSettings(concurrency=8, max_waiting=1000),
    }


def test_an_unknown_variable_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    message = refusal(tmp_path, HARELINE_KEEP_COMPLETE="5")
    assert "HARELINE_KEEP_COMPLETE (environment)" in message
    assert "HARELINE_KEEP_COMPLETED" in message


def test_an_unknown_variable_in_dotenv_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HARELINE_LOG_LEVLE=INFO\n")
    assert "HARELINE_LOG_LEVLE (.env) is not a setting; the nearest is HARELINE_LOG_LEVEL" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("job_atempts = 3", ["job_atempts (hareline.toml)", "job_attempts"]),
        ("job_attempts = \n", ["hareline.toml is not valid TOML", "line 1"]),
        ("job_attempts = 0", ["job_attempts=0 (hareline.toml)", "greater than 0"]),
        ("queues = 3", ["[queues.NAME]"]),
        ("[queues]\nbilling = 3", ["[queues.NAME]"]),
        (
            "[queues.billing]\nconcurency = 3",
            ["queues.billing.concurency (hareline.toml)", "queues.billing.concurrency"],
        ),
        ("[queues.billing]\nconcurrency = 0", ["queues.billing.concurrency=0 (hareline.toml)", "greater than 0"]),
    ],
)
def test_a_wrong_file_is_refused_saying_where(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "hareline.toml").write_text(text)
    message = refusal(tmp_path)
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("WORKER_COUNT", "many", "cpus, or a number of processes of at least 1"),
        ("WORKER_COUNT", "0", "cpus, or a number of processes of at least 1"),
        ("WORKER_QUEUE_STALLED_INTERVAL", "999", "greater than or equal to 1000"),
        ("AUDIT_LOG_RETENTION_DAYS", "-1", "greater than or equal to 0"),
        ("HARELINE_QUEUE_TYPE", "stream", "'auto', 'classic' or 'quorum'"),
        ("HARELINE_CONFIRM_TIMEOUT_S", "inf", "finite"),
        ("BROKER_URL", "redis://localhost", "no other broker is supported"),
        ("DATABASE_URL", "mysql://localhost/x", "postgresql://"),
        ("DATABASE_URL", "sqlite:///:memory:", "a file: processes share it"),
        ("DATABASE_URL", "postgresql+asyncpg://localhost/x", "postgresql://"),
        ("DATABASE_URL", "postgresql://127.0.0.1:port/x", "HOST:PORT"),
        ("DATABASE_URL", "postgresql://one:5432,two:99999/x", "HOST:PORT"),
        ("DATABASE_URL", "postgresql://[::1/x", "HOST:PORT"),
        ("BROKER_URL", "amqp://127.0.0.1:0", "HOST:PORT"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(tmp_path: Path, variable: str, value: str, expected: str) -> None:
    message = refusal(tmp_path, **{variable: value})
    assert message.startswith(f"{variable}={value} (environment): expected ")
    assert expected in message
    assert "\n" not in message


def test_all_wrong_values_are_named_at_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, WORKER_COUNT="x", HARELINE_TIME_LIMIT_MS="y")
    assert len(message.splitlines()) == 2


def test_backoffs_out_of_order_are_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, HARELINE_MIN_BACKOFF_MS="10", HARELINE_MAX_BACKOFF_MS="5")
    assert message == "min_backoff_ms (10) is above max_backoff_ms (5)"


def test_no_secret_is_ever_shown(tmp_path: Path) -> None:
    settings = load(
        {
            "DATABASE_URL": "postgres://app:s3cret@db/hareline",
            "BROKER_URL": "amqps://app:s3cret@mq/v",
            "POSTHOG_API_KEY": "s3cret",
            "OPENAI_API_KEY": "s3cret",
            "HARELINE_SMTP_URL": "smtp://app:s3cret@mail",
            "HARELINE_SLACK_URL": "https://hooks/s3cret",
            "HARELINE_WEBHOOK_SECRET": "s3cret",
        },
        tmp_path,
    )
    assert settings.database_url == "postgresql://app:s3cret@db/hareline"
    assert settings.posthog_key is not None
    assert settings.posthog_key.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(settings) + str(settings) + str(settings.explain())
    assert "app:***@db" in repr(settings)
    assert "s3cret" not in refusal(tmp_path, BROKER_URL="redis://app:s3cret@mq")


@pytest.mark.parametrize("password", ["s3/cret", "5/s3cret", "s3#cret", "s3?cret:@"])
@pytest.mark.parametrize(("variable", "kind"), [("BROKER_URL", "amqp"), ("DATABASE_URL", "postgresql")])
def test_a_password_that_hides_the_host_is_refused_unsaid(
    tmp_path: Path, variable: str, kind: str, password: str
) -> None:
    message = refusal(tmp_path, **{variable: f"{kind}://app:{password}@host/x"})
    assert "a / in a password is written %2F" in message
    assert "s3" not in message


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///x?host=/var/run/postgresql",
        "postgresql://app:p%2F@one:5432,two,[::1]:5433/x?target_session_attrs=read-write",
    ],
)
def test_several_hosts_and_none_are_understood(tmp_path: Path, url: str) -> None:
    assert load({"DATABASE_URL": url}, tmp_path).database_url == url


@pytest.mark.parametrize(
    "url", ["a://u:s3cret@h/d", "a://:s3cret@h", "a://u:s3/c@re:t@h/d?x=1", "a://h/d?password=s3cret&x=1"]
)
def test_a_password_in_a_url_is_masked(url: str) -> None:
    masked = mask(f"before {url} after")
    assert "s3" not in masked
    assert masked.startswith("before a://")
    assert masked.endswith(" after")


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        setattr(Settings(), "job_attempts", 5)  # noqa: B010 (mypy would refuse the plain form)


def test_settings_made_in_code_are_checked_too() -> None:
    with pytest.raises(ValidationError):
        Settings(job_attempts=0)
