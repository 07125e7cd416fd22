"""What Prometheus reads after ten thousand jobs, a third of which failed at first, and twenty killed workers."""

import pytest

from tests.acceptance.metered import churn, metered, recorded
from tests.acceptance.system import System


@pytest.mark.timeout(900)
def test_a_scrape_of_four_workers_is_what_the_ledger_has_after_ten_thousand_jobs_and_twenty_kills(
    anywhere: System,
) -> None:
    port = metered(anywhere)
    churn(anywhere, port, 10_500, 20)
    for labels, count in sorted(recorded(anywhere).items()):
        print(*labels, int(count))
