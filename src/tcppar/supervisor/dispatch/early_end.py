"""Spawners that end before they are ready, by what they have loaded or by force."""

from tcppar.records import ChildPlan, Refused


def early_end(plan: ChildPlan, outcome: str) -> Refused:
    """What is to be said of it.

    Args:
        outcome: how it ended, in words (`policy.outcome`).
    """
    if plan.handler is None:
        return Refused(f"its spawner ended ({outcome})")
    return Refused(
        f"handler {plan.handler.target}: the process that was loading it ended ({outcome}): a module that it "
        "imports calls os._exit, or crashes",
        mistake=outcome.startswith("exit"),
    )
