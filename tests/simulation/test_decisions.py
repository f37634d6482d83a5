"""The supervisor's decisions, under every schedule of events and faults that can be thought of."""

import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.simulation import machine


@pytest.mark.timeout(0 if machine.LONG_FORM else 120)
@pytest.mark.parametrize(
    "kind",
    [
        machine.ServerMachine,
        machine.KeptMachine,
        machine.PortableMachine,
        machine.ForkMachine,
        machine.PoolMachine,
        machine.KeptPoolMachine,
        machine.PortablePoolMachine,
    ],
)
def test_every_connection_has_one_owner_and_one_end(kind: type[machine.ServerMachine]) -> None:
    run_state_machine_as_test(kind, settings=machine.thoroughness())
