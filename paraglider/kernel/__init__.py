"""The only code that touches the host: iptables, sysctl, capabilities, processes."""
