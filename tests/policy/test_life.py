"""The life of a connection."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tcppar.policy.life import State, step

WAITING, OFFERED, TAKEN, ENDED = State.WAITING, State.OFFERED, State.TAKEN, State.ENDED

LEGAL = {
    *((WAITING, OFFERED), (WAITING, ENDED)),
    *((OFFERED, WAITING), (OFFERED, TAKEN), (OFFERED, ENDED)),
    (TAKEN, ENDED),
}


class LifeOfAConnection(RuleBasedStateMachine):
    """A connection that is offered, given back, taken and ended in any order that its states allow."""

    def __init__(self) -> None:
        super().__init__()
        self.state = WAITING
        self.was_taken = False
        self.has_ended = False

    def go(self, after: State) -> None:
        self.state = step(self.state, after)

    @rule(after=st.sampled_from(State))
    def no_other_step_is_possible(self, after: State) -> None:
        if (self.state, after) not in LEGAL:
            with pytest.raises(AssertionError, match="no step from"):
                self.go(after)

    @precondition(lambda self: self.state is WAITING)
    @rule()
    def a_spawner_is_asked(self) -> None:
        self.go(OFFERED)

    @precondition(lambda self: self.state is OFFERED)
    @rule()
    def the_spawner_gives_it_back(self) -> None:
        self.go(WAITING)

    @precondition(lambda self: self.state is OFFERED)
    @rule()
    def a_child_takes_it(self) -> None:
        self.go(TAKEN)
        self.was_taken = True

    @precondition(lambda self: self.state is not ENDED)
    @rule()
    def it_ends(self) -> None:
        self.go(ENDED)
        self.has_ended = True

    @invariant()
    def a_child_never_gives_it_back(self) -> None:
        assert not self.was_taken or self.state in (TAKEN, ENDED)

    @invariant()
    def an_end_is_an_end(self) -> None:
        assert self.has_ended is (self.state is ENDED)


TestLifeOfAConnection = LifeOfAConnection.TestCase


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_the_legal_steps_are_these_and_no_others(before: State, after: State) -> None:
    if (before, after) in LEGAL:
        assert step(before, after) is after
    else:
        with pytest.raises(AssertionError, match="no step from"):
            step(before, after)


@pytest.mark.parametrize("state", [WAITING, OFFERED, TAKEN])
def test_every_state_can_come_to_its_end_in_one_step(state: State) -> None:
    assert step(state, ENDED) is ENDED
