"""The status of a GPUPool."""

from collections.abc import Collection, Mapping

from latentry_operator.api.gpupool import GPUPool
from latentry_operator.api.status import ConditionStatus, GPUPoolStatus, PoolUser
from latentry_operator.status.finding import Finding, stamped
from latentry_operator.status.reasons import PoolReason
from latentry_serving.contract.errors import Problem

ACCEPTED, HAS_DEVICES = "Accepted", "DevicesLeft"
_LISTED = 1024


def pool_status(
    generation: int,
    pool: GPUPool | None,
    problems: Collection[Problem],
    in_use: Mapping[str, int],
    before: GPUPoolStatus,
    now: str,
) -> GPUPoolStatus:
    """Counts by model, the largest first, and whether more fit.

    Args:
        pool: None when its spec has ``problems``.
        in_use: ``namespace/name`` -> devices.
        now: RFC 3339.
    """
    users = sorted(in_use.items(), key=lambda use: (-use[1], use[0]))
    total = sum(in_use.values())
    findings = [accepted(problems)] + ([devices_left(pool, total)] if pool is not None else [])
    return GPUPoolStatus(
        observed_generation=generation,
        conditions=stamped(findings, generation, before.conditions, now),
        devices_in_use=total,
        users=tuple(
            PoolUser(namespace=user.partition("/")[0], name=user.partition("/")[2], devices=devices)
            for user, devices in users[:_LISTED]
        ),
    )


def accepted(problems: Collection[Problem]) -> Finding:
    """Is the pool's spec valid?"""
    if problems:
        message = "; and ".join(str(problem) for problem in problems)
        return Finding(ACCEPTED, ConditionStatus.FALSE, PoolReason.INVALID_SPEC, message)
    return Finding(ACCEPTED, ConditionStatus.TRUE, PoolReason.VALID, "the spec is valid")


def devices_left(pool: GPUPool, total: int) -> Finding:
    """Does another device remain?"""
    most = pool.spec.max_devices
    if most is None:
        message = f"{total} devices are in use, the pool sets no limit"
        return Finding(HAS_DEVICES, ConditionStatus.TRUE, PoolReason.DEVICES_LEFT, message)
    message = f"{total} of {most} devices are in use or promised"
    if total < most:
        return Finding(HAS_DEVICES, ConditionStatus.TRUE, PoolReason.DEVICES_LEFT, message)
    return Finding(
        HAS_DEVICES, ConditionStatus.FALSE, PoolReason.USED_UP, f"{message}; raise maxDevices for more models"
    )
