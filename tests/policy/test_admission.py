"""Who is let in."""

from hypothesis import given
from hypothesis import strategies as st

from tcppar.policy.admission import Verdict, decide

COUNTS = st.integers(0, 10_000)
LIMITS = st.integers(1, 10_000)


@given(LIMITS, st.booleans(), st.data())
def test_below_the_limit_everybody_gets_a_process(limit: int, refuses: bool, data: st.DataObject) -> None:
    active = data.draw(st.integers(0, limit - 1))
    assert decide(active=active, max_connections=limit, refuses_when_full=refuses) is Verdict.ADMIT


@given(LIMITS, COUNTS)
def test_at_the_limit_and_above_clients_wait_or_are_refused_as_the_setting_says(limit: int, above: int) -> None:
    full = limit + above
    assert decide(active=full, max_connections=limit, refuses_when_full=False) is Verdict.WAIT
    assert decide(active=full, max_connections=limit, refuses_when_full=True) is Verdict.REFUSE
