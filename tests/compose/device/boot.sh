#!/bin/sh
# Process 1 of a device:  sh boot.sh nft|legacy
# Takes away what a host would not have, then runs dockerd, and again whenever it has ended.
set -eu

# The way out, if any, and the rules by which the outer engine tells a container others' names.
ip route del default 2>/dev/null || true
ip -6 route del default 2>/dev/null || true
nft flush ruleset
for tool in iptables ip6tables; do
  update-alternatives --quiet --set $tool "/usr/sbin/$tool-$1"
done
if [ "$1" = legacy ]; then
  # Somebody's, in the variant that this host does not use.
  iptables-nft --append INPUT --protocol tcp --dport 26 --jump ACCEPT
fi
# Off, as on any new host: Docker switches it on.
sysctl --quiet --write net.ipv4.ip_forward=0
# On, where the outer engine gave no address of IPv6 and switched it off.
sysctl --quiet --write net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.eth0.disable_ipv6=0

while :; do
  # IPv6 on bridges was an experiment until Docker 27. Containers outlive their dockerd.
  dockerd --log-level=warn --experimental --ip6tables --live-restore || true
  sleep 0.2
done
