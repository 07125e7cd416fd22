"""Writes ``events.jsonl``: three thousand completion events of an imagined October and November.

    python -m cli.demo.generate

The same seed writes the same file.  About one event in a hundred is malformed, one in a hundred is of a
model nobody sells, and a few are reported twice.
"""

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

EVENTS = Path(__file__).with_name("events.jsonl")

Event = dict[str, Any]

#: provider, model, weight, median input tokens, median output tokens, output tokens per second
MODELS = (
    ("openai", "gpt-4o-mini", 22, 900, 220, 95),
    ("openai", "gpt-4o", 12, 1_400, 320, 70),
    ("openai", "gpt-5-mini", 10, 1_600, 600, 85),
    ("openai", "gpt-5", 6, 2_400, 1_100, 55),
    ("anthropic", "claude-haiku-4-5", 12, 1_800, 380, 110),
    ("anthropic", "claude-sonnet-4-5", 14, 4_200, 700, 65),
    ("anthropic", "claude-opus-4-1", 2, 6_000, 900, 35),
    ("google", "gemini-2.5-flash", 11, 2_200, 420, 150),
    ("google", "gemini-2.5-pro", 5, 5_500, 950, 80),
    ("mistral", "mistral-small-latest", 3, 1_100, 260, 120),
    ("deepseek", "deepseek-chat", 2, 1_500, 480, 40),
    ("groq", "llama-3.3-70b-versatile", 1, 1_000, 300, 270),
)
UNKNOWN = (
    ("openai", "acme-support-ft-7"),
    ("in-house", "summarizer-v2"),
    ("anthropic", "opus-nightly"),
    ("mistral", "le-petit"),
)
#: customer, weight
CUSTOMERS = {
    "northwind": 30,
    "globex": 22,
    "initech": 16,
    "umbra-labs": 12,
    "hooli": 9,
    "stark-legal": 6,
    "vandelay": 4,
    "wonka": 1,
}
START, DAYS = datetime(2026, 10, 19, tzinfo=UTC), 33


def _without(field: str) -> Callable[[Event], Event]:
    return lambda event: {name: value for name, value in event.items() if name != field}


#: The ways in which senders get it wrong.
MALFORMATIONS: tuple[Callable[[Event], Event], ...] = (
    _without("request_id"),
    _without("model"),
    lambda event: event | {"input_tokens": -event["input_tokens"]},
    lambda event: event | {"output_tokens": str(event["output_tokens"])},
    lambda event: event | {"cached_tokens": event["input_tokens"] + 1},
    lambda event: event | {"at": event["at"].removesuffix("+00:00")},  # whose midnight?
    lambda event: event | {"at": "yesterday"},
    lambda event: event | {"customer": ""},
    lambda event: event | {"user": None},
    lambda event: {"event": event},
)


def generate(count: int = 3_000, seed: int = 42) -> list[Event]:
    """``count`` events, in the order in which they are sent."""
    rng = random.Random(seed)
    malformed, unknown, twice = count // 100, count // 100, count // 200
    events = [_event(rng) for _ in range(count - twice)]
    odd = rng.sample(range(len(events)), malformed + unknown)
    for number, index in enumerate(odd[:malformed]):
        events[index] = MALFORMATIONS[number % len(MALFORMATIONS)](events[index])
    for number, index in enumerate(odd[malformed:]):
        provider, model = UNKNOWN[number % len(UNKNOWN)]
        events[index] |= {"provider": provider, "model": model}
    for index in sorted(rng.sample(sorted(set(range(len(events))) - set(odd)), twice), reverse=True):
        events.insert(rng.randint(index + 1, len(events)), events[index])
    return events


def _event(rng: random.Random) -> Event:
    (provider, model, _, median_input, median_output, speed) = rng.choices(MODELS, [model[2] for model in MODELS])[0]
    customer = rng.choices(list(CUSTOMERS), list(CUSTOMERS.values()))[0]
    input_tokens = max(8, round(median_input * rng.lognormvariate(0, 0.9)))
    output_tokens = max(1, round(median_output * rng.lognormvariate(0, 0.7)))
    at = START + timedelta(days=rng.randrange(DAYS), hours=rng.triangular(0, 24, 14), milliseconds=rng.randrange(1000))
    return {
        "request_id": f"req_{rng.getrandbits(64):016x}",
        "customer": customer,
        "user": f"{customer}-user-{min(int(rng.paretovariate(1.1)), 40)}",
        "provider": provider,
        "model": model,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cached_tokens": round(input_tokens * rng.uniform(0.3, 0.9)) if rng.random() < 0.35 else 0,
        "latency_ms": round(180 + 1000 * output_tokens / speed * rng.uniform(0.8, 1.4)),
        "at": at.isoformat(timespec="milliseconds"),
    }


if __name__ == "__main__":
    EVENTS.write_text("".join(json.dumps(event, separators=(",", ":")) + "\n" for event in generate()))
