"""Paraglider turns a Linux host into a TCP load balancer made of iptables rules."""

__version__ = "0.2.0"
