#!/usr/bin/env bash
# Shows ovl on three hosts that are namespaces of this machine: two networks, a
# container of each on every host, who reaches whom, how the outside sees them,
# and the path of a packet. Every claim is checked; the first that does not hold
# ends the demo with exit code 1. The lab stays up to play with.
#
#   deploy/demo.sh [DIRECTORY OF THE BINARIES]
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(cd "${1:-bin}" && pwd)
lab=demo
hosts='h1 h2 h3'
networks='blue red'
outside=192.168.77.254:7777

bold='' dim='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR-}" ]; then
	bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
fi

step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
note() { printf '  %s\n' "$*"; }
fail() { printf '\nFAILED: %s\n' "$*" >&2 && exit 1; }

# on HOST COMMAND… runs a command there; show prints it as well.
on() { "$bin/ovlctl" lab exec --name "$lab" "$1" -- "${@:2}"; }
show() {
	printf '  %s%s$ %s%s\n' "$dim" "$1" "${*:2}" "$plain"
	on "$@" | sed 's/^/      /'
}

# within HOST CONTAINER COMMAND… runs a command in a container there.
within() { on "$1" ovlctl exec "$2" -- "${@:3}"; }
address() { within "$1" "$2" ip -o -4 address show dev eth0 | sed 's/.* inet \([0-9.]*\).*/\1/'; }
underlay() { on "$1" ip -o -4 address show dev eth0 | sed 's/.* inet \([0-9.]*\).*/\1/'; }

start_lab() {
	step 'Three hosts, each with its agent, and a controller with its etcd'
	"$bin/ovlctl" lab down --name "$lab" 2>/dev/null || true # that of an earlier demo
	"$bin/ovlctl" lab up --name "$lab" --hosts 3 2>&1 | sed '/^Try:/,$d; s/^/  /'
	show h1 ovlctl host ls
}

start_containers() {
	step 'Two networks, and a container of each on every host'
	for network in $networks; do
		show h1 ovlctl network create "$network"
	done
	declare -gA addr=()
	for network in $networks; do
		for host in $hosts; do
			on "$host" ovlctl run -d --name "$network-$host" --network "$network" -- ovlctl lab echo :7777 >/dev/null
			addr[$network-$host]=$(address "$host" "$network-$host")
		done
	done
	show h1 ovlctl network ls
	show h1 ovlctl subnet ls
	show h1 ovlctl endpoint ls
}

# reaches HOST CONTAINER ADDRESS
reaches() { within "$1" "$2" ping -n -q -c1 -W2 "$3" >/dev/null 2>&1; }

# A peer hears of a new container's subnet a moment after it has it.
settle() {
	local tries
	for tries in {1..50}; do
		reaches "$@" && return
	done
	fail "$2 does not reach $3 after $tries pings"
}

within_networks() {
	step 'Within a network all reach all, by address'
	for network in $networks; do
		for from in $hosts; do
			local row=''
			for to in $hosts; do
				settle "$from" "$network-$from" "${addr[$network-$to]}"
				row+="  ${addr[$network-$to]} yes"
			done
			note "$network-$from reaches$row"
		done
	done
}

# All at once: an unanswered ping takes its whole time.
by_name() {
	step 'By name, too: the gateway of each network answers, on every host'
	for network in $networks; do
		for from in $hosts; do
			local row=''
			for to in $hosts; do
				settle "$from" "$network-$from" "$network-$to"
				row+="  $network-$to yes"
			done
			note "$network-$from reaches$row"
		done
	done
	show h1 ovlctl exec blue-h1 -- cat /etc/resolv.conf
	show h1 ovlctl exec blue-h1 -- getent hosts blue-h3
	! within h1 blue-h1 getent hosts red-h3 >/dev/null || fail 'blue-h1 knows red-h3 by name'
	note 'red-h3 is on no network of blue-h1, which therefore does not know the name.'
}

across_networks() {
	step 'Across networks nobody reaches anybody'
	local from to pid
	declare -A pings=()
	for from in $hosts; do
		for to in $hosts; do
			reaches "$from" "blue-$from" "${addr[red-$to]}" & pings[$!]="blue-$from reaches red-$to"
			reaches "$to" "red-$to" "${addr[blue-$from]}" & pings[$!]="red-$to reaches blue-$from"
		done
	done
	for pid in "${!pings[@]}"; do
		! wait "$pid" || fail "${pings[$pid]}"
	done
	for from in $hosts; do
		local row=''
		for to in $hosts; do
			row+="  ${addr[red-$to]} no"
		done
		note "blue-$from reaches$row   (nor the other way)"
	done
}

# seen HOST CONTAINER ECHO WANTED: the echo must see that address.
seen() {
	local got
	got=$(within "$1" "$2" ovlctl lab ask "$3")
	[ "$got" = "$4" ] || fail "$3 sees $2 as $got, not as $4"
	note "$2 is seen by $3 as $got"
}

addresses_seen() {
	step 'A peer sees the container'\''s own address: nothing is translated between them'
	seen h1 blue-h1 "${addr[blue-h2]}:7777" "${addr[blue-h1]}"
	seen h3 red-h3 "${addr[red-h1]}:7777" "${addr[red-h3]}"
	step 'The outside, no member, sees the address of the host: there it is translated'
	for host in $hosts; do
		seen "$host" "blue-$host" "$outside" "$(underlay "$host")"
	done
}

hop() { printf '\n  %s%s%s\n' "$bold" "$*" "$plain"; }

path() {
	local to=${addr[blue-h2]} veth bridge tunnel subnet via mac
	veth=$(on h1 ovlctl whois blue-h1 -o json | sed -n 's/.*"hostLink": *"\([^"]*\)".*/\1/p' | head -n1)
	bridge=$(on h1 ip -o link show dev "$veth" | sed 's/.* master \([^ ]*\).*/\1/')
	read -r subnet via tunnel < <(on h1 ip -4 route get "$to" fibmatch | sed -n 's/^\([^ ]*\) via \([^ ]*\) dev \([^ ]*\).*/\1 \2 \3/p')
	mac=$(on h1 ip neigh show "$via" dev "$tunnel" | sed 's/.*lladdr \([^ ]*\).*/\1/')
	step "The path of a packet on h1, from blue-h1 (${addr[blue-h1]}) to blue-h2 ($to)"
	hop '1. The container sends everything to its gateway, the first address of its host'\''s subnet.'
	show h1 ovlctl exec blue-h1 -- ip route
	hop "2. Its eth0 is one end of a veth. The other, $veth, is a port of the network's bridge; the bridge has the gateway."
	show h1 ip -br link show dev "$veth"
	show h1 ip -br address show dev "$bridge"
	hop "3. The host routes h2's subnet $subnet into the tunnel, via an address that stands for h2."
	show h1 ip route show "$subnet"
	hop '4. That address is at h2'\''s tunnel MAC. The entry is permanent: nobody asks by ARP.'
	show h1 ip neigh show "$via" dev "$tunnel"
	hop '5. That MAC is behind h2'\''s address on the underlay. Nothing is learned and nothing flooded.'
	show h1 sh -c "bridge fdb show dev $tunnel | grep $mac"
	hop '6. So it leaves as VXLAN in UDP over eth0; h2 does the same upwards.'
	show h1 ip -d -o link show dev "$tunnel"
	hop 'The firewall: one early verdict within a network, none across, translation only on the way out.'
	show h1 iptables -S OVL-FORWARD
	show h1 iptables -t nat -S OVL-POSTROUTING
	hop 'And a pass of the agent would change nothing.'
	show h1 ovlctl agent diff
	note '    (nothing)'
	[ "$(on h1 ovlctl agent diff -o json | tr -d '[:space:]')" = '[]' ] || fail 'the agent of h1 is not at rest'
}

start_lab
start_containers
within_networks
by_name
across_networks
addresses_seen
path

step 'All of it holds. The lab stays up:'
ctl=$bin/ovlctl
case :$PATH: in *":$bin:"*) ctl=ovlctl ;; esac
[ "$ctl" != "$PWD/bin/ovlctl" ] || ctl=bin/ovlctl
note "$ctl lab exec --name $lab h1 -- ovlctl status"
note "$ctl lab exec --name $lab h1 -- ovlctl exec blue-h1 -- ping blue-h3"
note "$ctl lab kill --name $lab h1 && $ctl lab start --name $lab h1"
note "$ctl lab exec --name $lab h2 -- bash"
note "$ctl lab down --name $lab"
