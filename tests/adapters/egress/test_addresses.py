"""Only what is public, or in a network that the operator lists, is connected to."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from regate_adapters.egress.addresses import Reach, Reachable

PUBLIC = (
    "1.1.1.1",
    "8.8.8.8",
    "172.15.255.255",
    "172.32.0.1",
    "100.63.0.1",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
)
NOT_PUBLIC = {
    "loopback": ("127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"),
    "this network": ("0.0.0.0", "0.1.2.3", "::", "::ffff:0:0"),
    "private": (
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "fd00::1",
        "fc00::1",
        "::ffff:10.0.0.1",
    ),
    "link-local": ("169.254.1.1", "fe80::1", "fe80::1%1", "febf::1"),
    "shared": ("100.64.0.1", "100.127.255.255"),
    "multicast": ("224.0.0.1", "239.255.255.255", "ff02::1"),
    "reserved": ("240.0.0.1", "255.255.255.255"),
    "documentation": ("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"),
    "benchmarking": ("198.18.0.1", "2001:2::1"),
    "protocols": ("192.0.0.1", "192.88.99.1", "2001::1"),
    "carriers of other addresses": (
        "2002:7f00:1::",
        "2002:808:808::",
        "::7f00:1",
        "64:ff9b:1::1",
        "64:ff9b::a00:1",
    ),
    "not given out": ("4000::1", "fec0::1", "100::1", "5f00::1"),
}
METADATA = (
    "169.254.169.254",
    "169.254.170.2",
    "168.63.129.16",
    "100.100.100.200",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
)


@pytest.mark.parametrize("text", PUBLIC)
def test_a_public_address_is_public(text: str) -> None:
    assert Reachable().of(ip_address(text)) is Reach.PUBLIC


@pytest.mark.parametrize("text", [text for texts in NOT_PUBLIC.values() for text in texts])
def test_what_is_not_public_is_not_reached(text: str) -> None:
    assert Reachable().of(ip_address(text)) is Reach.NONE


@pytest.mark.parametrize("text", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd12::7"])
def test_what_the_operator_lists_is_private(text: str) -> None:
    listed = Reachable((ip_network("10.1.0.0/16"), ip_network("fd12::/16")))

    assert listed.of(ip_address(text)) is Reach.PRIVATE


@pytest.mark.parametrize("text", ["10.2.0.1", "fd13::7", "::1"])
def test_what_the_operator_does_not_list_stays_out(text: str) -> None:
    assert Reachable((ip_network("10.1.0.0/16"), ip_network("fd12::/16"))).of(ip_address(text)) is Reach.NONE


@pytest.mark.parametrize("text", METADATA)
def test_metadata_services_are_not_reached_whatever_is_listed(text: str) -> None:
    everything = Reachable((ip_network("0.0.0.0/0"), ip_network("::/0")))

    assert everything.of(ip_address(text)) is Reach.NONE
