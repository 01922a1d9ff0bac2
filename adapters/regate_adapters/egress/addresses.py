"""Which addresses may be connected to: public ones, and those of networks that the operator lists. Pure.

The tables are those of IANA's special-purpose registries, and not of the Python at hand, whose `is_global`
changed between versions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_NOT_PUBLIC_4: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
        ),
    )
)
_PUBLIC_6: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_6: Final = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_CARRY_4: Final = tuple(map(IPv6Network, ("::ffff:0:0/96", "64:ff9b::/96")))
"""Networks whose last 32 bits are the IPv4 address that is reached: mapped, and translated (NAT64)."""
_METADATA: Final = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",
            "169.254.169.253",
            "169.254.169.123",
            "169.254.170.2",
            "169.254.170.23",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd00:ec2::253",
            "fd00:ec2::123",
            "fd00:ec2::23",
            "fd20:ce::254",
        ),
    )
)
"""Where clouds tell a machine its credentials and settings. No list of networks opens these."""


class Reach(Enum):
    """What an address is to the gateway."""

    PUBLIC = "public"
    PRIVATE = "private"
    """Not public, and in a network that the operator lists."""
    NONE = "none"
    """Not public, and never connected to."""


@dataclass(frozen=True, slots=True)
class Reachable:
    """Says of each address whether it may be connected to. `private` are the operator's networks."""

    private: Sequence[Network] = ()

    def of(self, address: Address) -> Reach:
        """Return what the address is. An IPv6 address that carries an IPv4 one is what that is."""
        carried = _carried(address)
        if carried in _METADATA:
            return Reach.NONE
        if _is_public(carried):
            return Reach.PUBLIC
        return Reach.PRIVATE if any(carried in network for network in self.private) else Reach.NONE


def _carried(address: Address) -> Address:
    if isinstance(address, IPv6Address) and any(address in network for network in _CARRY_4):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    return (
        address in _PUBLIC_6
        and address.scope_id is None
        and not any(address in network for network in _NOT_PUBLIC_6)
    )
