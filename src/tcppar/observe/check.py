"""What would happen to a client: the verdict, the environment and the command, by the code that serves."""

import ipaddress
import os
import shlex
from collections.abc import Mapping

from tcppar.child import contract
from tcppar.config import Config, ServiceConfig, child_plan
from tcppar.errors import ConfigurationError
from tcppar.net.address import Address, format_endpoint
from tcppar.observe.unseen import escaped
from tcppar.policy import admission
from tcppar.records import ChildPlan, DescriptorMode, Endpoints, Family
from tcppar.settings import WhenFull

# Ports and numbers that no connection has yet; they show where the real ones will stand.
_SAMPLE_PORT = 50000
_SAMPLE_NUMBER = 1


def explain(config: Config, client: str, service: str | None, environ: Mapping[str, str]) -> str:
    """A text for a person.

    Args:
        client: numeric address.
        service: name of the service; None if there is only one.

    Raises:
        ConfigurationError: there is no such service, it has no listener for such a client, or `client` is no address.
    """
    chosen = choose(config, service)
    try:
        ip = ipaddress.ip_address(client)
    except ValueError:
        raise ConfigurationError([f"--from {client!r}: expected a numeric IPv4 or IPv6 address"]) from None
    ip = getattr(ip, "ipv4_mapped", None) or ip
    family = Family.IPV6 if ip.version == 6 else Family.IPV4
    listener = next((address for address in chosen.settings.listen if _reaches(address, family)), None)
    if listener is None:
        raise ConfigurationError([f"service {chosen.name} has no listener for an {family} client"])
    any_address = "::1" if family is Family.IPV6 else "127.0.0.1"
    endpoints = Endpoints(family, str(ip), _SAMPLE_PORT, listener.host or any_address, listener.port)
    plan = child_plan(chosen, "PREFIX", environ, options_inherited=True)
    return "\n".join(_lines(chosen, plan, endpoints))


def choose(config: Config, service: str | None) -> ServiceConfig:
    """The service of a name, or the only one.

    Raises:
        ConfigurationError: there is none of this name, or several.
    """
    if service is None and len(config.services) == 1:
        return next(iter(config.services.values()))
    if service not in config.services:
        names = ", ".join(config.services)
        raise ConfigurationError(
            [f"--service {'is missing' if service is None else repr(service)}: expected one of {names}"]
        )
    return config.services[service]


def _reaches(address: Address, family: Family) -> bool:
    if address.path:
        return False
    return not address.host or (":" in address.host) == (family is Family.IPV6)


def _lines(service: ServiceConfig, plan: ChildPlan, endpoints: Endpoints) -> list[str]:
    settings = service.settings
    full = admission.decide(
        active=settings.max_connections,
        max_connections=settings.max_connections,
        refuses_when_full=settings.when_full is WhenFull.REFUSE,
    )
    has_control = settings.control_file is not None  # which may be an empty one
    control_path = f"/tmp/tcppar-{service.name}-XXXXXXXX/files/PREFIX-{_SAMPLE_NUMBER}" if has_control else ""
    filled = contract.values(plan, _SAMPLE_NUMBER, endpoints, control_path)
    environment = {os.fsdecode(name): os.fsdecode(value) for name, value in plan.environment.items()}
    if plan.handler is None:
        environment |= contract.connection_environment(plan, _SAMPLE_NUMBER, endpoints, None)
    if plan.descriptors is DescriptorMode.LISTEN_FDS:
        environment |= contract.listen_environment("(the child's pid)")
    local = format_endpoint(endpoints.local_ip, endpoints.local_port)
    own = "that of the server"
    lines = [
        f"service {service.name}: a client from {endpoints.peer} to {local}",
        f"verdict: {admission.decide(active=0, max_connections=1, refuses_when_full=False).value};"
        f" when {settings.max_connections} connections are open, it {full.value}",
        *_what_runs(plan, filled),
        f"user: {plan.identity.name if plan.identity else own}",
        f"directory: {plan.directory or own}",
        "environment:",
        *(f"  {escaped(f'{name}={value}')}" for name, value in sorted(environment.items())),
    ]
    if settings.control_file is not None:
        lines += [
            f"control file {control_path}:",
            *("  " + line for line in contract.fill(settings.control_file, filled).splitlines()),
        ]
    return lines


def _what_runs(plan: ChildPlan, filled: Mapping[str, object]) -> list[str]:
    if plan.handler is not None:
        return [f"handler: {plan.handler.target}", f"mode: {plan.handler.mode}"]
    return [
        f"command: {escaped(shlex.join(contract.fill(os.fsdecode(word), filled) for word in plan.command))}",
        f"program: {escaped(_programs(plan))}",
    ]


def _programs(plan: ChildPlan) -> str:
    """The program, or, of another user who may not reach what we can, all that it may be."""
    programs = [os.fsdecode(program) for program in plan.programs]
    if plan.identity is None:
        return next((program for program in programs if os.access(program, os.X_OK)), programs[0])
    different = {os.path.realpath(program): program for program in reversed(programs)}
    first = f", the first that user {plan.identity.name} can run" if len(different) > 1 else ""
    return " or ".join(reversed(different.values())) + first
