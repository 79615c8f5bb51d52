#!/usr/bin/env bash
# Checks that this machine has what ovl's lab and tests call, and names the
# packages of what it lacks. As root, where there is apt-get, it installs them.
#
#   deploy/need.sh lab|test|bench|docker|kubernetes|runtimes
set -euo pipefail
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# command   Debian and Ubuntu   Fedora
lab='
ip          iproute2            iproute
bridge      iproute2            iproute
iptables    iptables            iptables-nft
ip6tables   iptables            iptables-nft
ping        iputils-ping        iputils
nsenter     util-linux          util-linux
unshare     util-linux          util-linux
mount       mount               util-linux
'
test="$lab"'
tcpdump     tcpdump             tcpdump
ps          procps              procps-ng
dig         dnsutils            bind-utils
curl        curl                curl
python3     python3             python3
nft         nftables            nftables
iperf3      iperf3              iperf3
nc          netcat-openbsd      netcat
'

bench="$test"
kubernetes="$test"'
containerd  containerd          containerd
runc        runc                runc
busybox     busybox-static      busybox
/usr/lib/cni/loopback containernetworking-plugins containernetworking-plugins
conntrack   conntrack           conntrack-tools
'

# An engine for each host of a lab: see test/docker.
docker="$test"'
dockerd         docker.io           moby-engine
docker          docker.io           docker-cli
containerd      containerd          containerd
runc            runc                runc
busybox         busybox-static      busybox
docker-compose  docker-compose      docker-compose
systemd-nspawn  systemd-container   systemd-container
/usr/lib/systemd/systemd systemd    systemd
'

# Runtimes of containers on each host of a lab: see test/runtimes.
runtimes="$test"'
containerd      containerd          containerd
ctr             containerd          containerd
runc            runc                runc
/usr/lib/cni/loopback containernetworking-plugins containernetworking-plugins
podman          podman              podman
conmon          conmon              conmon
lxc-start       lxc                 lxc
systemd-nspawn  systemd-container   systemd-container
/usr/lib/systemd/systemd systemd    systemd
busybox         busybox-static      busybox
tc              iproute2            iproute-tc
'

case ${1-} in
runtimes) table=$runtimes ;;
kubernetes) table=$kubernetes ;;
bench) table=$bench ;;
docker) table=$docker ;;
lab) table=$lab ;;
test) table=$test ;;
*) echo "usage: $0 lab|test|bench|docker|kubernetes|runtimes" >&2 && exit 2 ;;
esac

commands='' debian='' fedora=''
while read -r command deb rpm; do
	if [ -n "$command" ] && ! command -v "$command" >/dev/null; then
		commands+=" $command"
		case " $debian " in *" $deb "*) ;; *) debian+=" $deb" ;; esac
		case " $fedora " in *" $rpm "*) ;; *) fedora+=" $rpm" ;; esac
	fi
done <<<"$table"

if [ -n "$commands" ]; then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		echo "installing$debian" >&2
		log=$(mktemp)
		# The services of these packages are not wanted on this machine: the tests
		# start what they need in namespaces of their own. Debian asks policy-rc.d
		# whether a service may start; 101 says no (/usr/share/doc/init-system-helpers).
		policy=/usr/sbin/policy-rc.d
		if [ ! -e "$policy" ]; then
			printf '#!/bin/sh\nexit 101\n' >"$policy"
			chmod 755 "$policy"
			trap 'rm -f "$policy"' EXIT
		fi
		# shellcheck disable=SC2086 # a list of packages
		if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $debian; } >"$log" 2>&1; then
			tail -n 20 "$log" >&2
			rm -f "$log"
			echo "cannot install$debian" >&2
			exit 1
		fi
		rm -f "$log"
	else
		echo "missing:$commands. Debian, Ubuntu: sudo apt install$debian. Fedora: sudo dnf install$fedora." >&2
		exit 1
	fi
fi

# Without root all of it happens in a user namespace of one's own.
if [ "$(id -u)" != 0 ] && ! unshare --user --map-root-user --net true 2>/dev/null; then
	echo 'this kernel gives ordinary users no namespaces: run as root, or allow them with' \
		'`sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu 24.04 and later),' \
		'`sudo sysctl -w kernel.unprivileged_userns_clone=1` (older Debian), or user.max_user_namespaces.' >&2
	exit 1
fi
