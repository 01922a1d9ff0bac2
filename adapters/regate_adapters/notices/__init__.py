"""Notices between gateways: one module per means by which they are told."""
