"""How thoroughly the state machines are tried: the same few dozen runs every time, or, in `make prove`, thousands."""

import os

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

_USUAL = 20
EXAMPLES = int(os.environ.get("HARELINE_TEST_EXAMPLES") or _USUAL)


def check(machine: type[RuleBasedStateMachine], *, steps: int) -> None:
    """Run it so often, with so many steps; raises with the shortest steps that fail."""
    usual = EXAMPLES == _USUAL
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=steps,
            deadline=None,
            derandomize=usual,
            database=None,
            print_blob=not usual,
            suppress_health_check=list(HealthCheck),
        ),
    )
