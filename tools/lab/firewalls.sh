#!/bin/bash
# Unpacks ufw and firewalld for the network tests, beside the other real programs, under
# $FERRY_PEERS_ROOT/firewalls (default /opt/ferry-peers/firewalls). They are not installed: a
# package manager would start firewalld on this machine, or remove what ufw conflicts with. Tests
# lay the two folders over /usr and /etc in a mount namespace of their own. Only the libraries
# that they need are installed.
#
# Usage: tools/lab/firewalls.sh            (as root; needs a Debian mirror)
set -euo pipefail

top=${FERRY_PEERS_ROOT:-/opt/ferry-peers}
to=$top/firewalls

die() { echo "firewalls.sh: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || die "must run as root"
[ -e "$to/ready-1" ] && { echo "firewalls.sh: already there: $to"; exit 0; }
command -v apt-get >/dev/null || die "no apt-get: they come from Debian's packages"

export DEBIAN_FRONTEND=noninteractive
apt-get update -q >/dev/null
apt-get install -q -y --no-install-recommends -oDpkg::Options::=--force-confold \
  dbus-daemon python3 python3-nftables python3-gi python3-dbus gir1.2-glib-2.0 >/dev/null

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
(cd "$work" && apt-get -q -oAPT::Sandbox::User=root download ufw firewalld python3-firewall >/dev/null)
rm -rf "$to"
mkdir -p "$to/usr/lib"
for deb in "$work"/*.deb; do dpkg-deb -x "$deb" "$to"; done
# One tree for hosts where /lib is a link to /usr/lib, as it is on all of today's.
if [ -d "$to/lib" ]; then cp -a "$to/lib/." "$to/usr/lib/"; rm -rf "$to/lib"; fi
# What ufw's package would write when it is configured.
cp "$to"/usr/share/ufw/iptables/*.rules "$to"/usr/share/ufw/*.init "$to/usr/share/ufw/ufw.conf" "$to/etc/ufw/"
chmod 640 "$to"/etc/ufw/*.rules
touch "$to/ready-1"
echo "firewalls.sh: ready in $to"
