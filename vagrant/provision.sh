#!/usr/bin/env bash
# Installs ovl on a VM: provision.sh NAME ADDRESS CONTROL. Running it again
# upgrades.
set -euo pipefail
name=$1 address=$2 control=$3
from=/tmp/ovl

missing=''
for c in ip:iproute2 iptables:iptables ping:iputils-ping tcpdump:tcpdump; do
	command -v "${c%%:*}" >/dev/null || missing+=" ${c##*:}"
done
if [ -n "$missing" ]; then
	apt-get update -qq
	# shellcheck disable=SC2086 # a list of packages
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
fi

install -m 755 "$from"/bin/* /usr/local/bin/
install -d /etc/ovl /etc/iproute2/rt_protos.d /etc/systemd/networkd.conf.d
install -m 644 "$from"/deploy/rt_protos.d/ovl.conf /etc/iproute2/rt_protos.d/
install -m 644 "$from"/deploy/networkd/ovl.conf /etc/systemd/networkd.conf.d/
install -m 644 "$from"/deploy/networkd/10-ovl.network /etc/systemd/network/

if [ "$name" = control ]; then
	unit=ovl-controller
	printf '%s\n' "OVL_LISTEN=$address:6790" "OVL_ETCD_LISTEN=$address:6779" >/etc/ovl/controller.env
else
	unit=ovl-agent
	printf '%s\n' "OVL_UNDERLAY_ADDRESS=$address" >/etc/ovl/agent.env
fi
install -m 644 "$from/deploy/systemd/$unit.service" /etc/systemd/system/
systemctl daemon-reload
systemctl enable --quiet "$unit"
systemctl restart "$unit" # an agent waits for its host to join: the Vagrantfile sees to that
