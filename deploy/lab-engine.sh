#!/usr/bin/env bash
# Starts a Docker engine on the host of a lab in which it is run, with an image
# `busybox` made of this machine's. All of it is within the host: it ends with the lab.
#
#   ovlctl lab exec h1 -- $PWD/deploy/lab-engine.sh
set -euo pipefail
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
[ -n "${OVL_LAB-}" ] || { echo "$0: this is no host of a lab: use ovlctl lab exec HOST -- $0" >&2; exit 2; }

mkdir -p /etc/docker
# The one line that a real host needs is "dns"; the rest is for a lab.
cat >/etc/docker/daemon.json <<END
{
  "dns": ["169.254.53.53"],
  "data-root": "/run/engine",
  "storage-driver": "overlay2",
  "cgroup-parent": "/ovl-docker-test"
}
END
setsid dockerd >/var/log/ovl/dockerd.log 2>&1 </dev/null &
engine=$!
until docker version >/dev/null 2>&1; do
	kill -0 "$engine" 2>/dev/null || { tail -n 5 /var/log/ovl/dockerd.log >&2; exit 1; }
	sleep 0.1
done

image=$(mktemp -d)
trap 'rm -r "$image"' EXIT
mkdir -p "$image/bin" "$image/etc"
cp "$(command -v busybox)" "$image/bin/busybox"
for applet in $("$image/bin/busybox" --list); do
	[ "$applet" = busybox ] || ln -s busybox "$image/bin/$applet"
done
tar -C "$image" -c . | docker import -c 'CMD ["sh"]' - busybox >/dev/null
