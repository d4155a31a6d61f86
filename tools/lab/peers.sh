#!/bin/bash
# Installs the real programs that the seam suites run against, side by side with
# whatever the machine has, under $FERRY_PEERS_ROOT (default /opt/ferry-peers):
#   dockerd, docker, containerd, ctr, containerd-shim-runc-v2, runc, docker-init,
#   docker-proxy, podman, conmon, crun, skopeo, docker-registry, and crun-static.
# They come from Debian unstable, with their own C library, so that nothing of
# the system changes. $FERRY_PEERS_ROOT/bin is the folder that tests look into.
#
# Usage: tools/lab/peers.sh            (as root; needs a Debian mirror)
set -euo pipefail

top=${FERRY_PEERS_ROOT:-/opt/ferry-peers}
suite=${FERRY_PEERS_SUITE:-sid}
crun_suite=${FERRY_PEERS_CRUN_SUITE:-trixie}
root=$top/root
bin=$top/bin
stamp=$top/ready-3

die() { echo "peers.sh: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || die "must run as root"
[ "$(uname -m)" = x86_64 ] || die "peers are set up on x86_64 only"
[ -e "$stamp" ] && { echo "peers.sh: already there: $bin"; exit 0; }
command -v apt-get >/dev/null || die "no apt-get: peers come from Debian's packages"

mirror() {
  awk '$1=="URIs:"{print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null | grep . ||
    awk '$1=="deb"{for(i=2;i<=NF;i++) if($i ~ /^https?:/){print $i; exit}}' /etc/apt/sources.list 2>/dev/null
}
mirror=$(mirror) || true
[ -n "$mirror" ] || die "no Debian mirror in the apt sources"

# An apt of its own: empty status, so that the whole closure is fetched.
private_apt() { # FOLDER TYPE SUITE
  mkdir -p "$1"/{lists/partial,archives/partial}
  : > "$1/status"
  echo "$2 [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $3 main" > "$1/sources.list"
  apt=(apt-get -q -y
    -oDir::Etc::SourceList="$1/sources.list" -oDir::Etc::SourceParts=/dev/null
    -oDir::Etc::Preferences=/dev/null -oDir::Etc::PreferencesParts=/dev/null
    -oDir::State::Lists="$1/lists" -oDir::State::status="$1/status"
    -oDir::Cache::archives="$1/archives" -oDir::Cache::pkgcache= -oDir::Cache::srcpkgcache=
    -oAPT::Sandbox::User=root -oAPT::Install-Recommends=0)
  "${apt[@]}" update >/dev/null
}

fetch_binaries() {
  private_apt "$top/apt" deb "$suite"
  "${apt[@]}" --download-only install docker.io docker-cli docker-compose docker-buildx containerd runc crun podman conmon \
    netavark aardvark-dns passt skopeo >/dev/null
  mkdir -p "$root" "$bin"
  # Unpacked, not installed: as a package it would start a service.
  "${apt[@]}" --download-only install docker-registry >/dev/null || true
  for deb in "$top"/apt/archives/*.deb; do dpkg-deb -x "$deb" "$root"; done
  rm -f "$top"/apt/archives/*.deb
}

# Gives a dynamic program the loader and libraries it was unpacked with.
relocate() { # FILE
  local lib=$root/usr/lib/x86_64-linux-gnu
  patchelf --print-interpreter "$1" >/dev/null 2>&1 || return 0
  patchelf --set-interpreter "$lib/ld-linux-x86-64.so.2" "$1"
  patchelf --force-rpath --set-rpath "$lib:$lib/systemd" "$1"
}

link_program() { # NAME
  local dir
  for dir in usr/bin usr/sbin usr/libexec/docker usr/libexec/podman usr/lib/podman usr/libexec/docker/cli-plugins usr/lib/docker/cli-plugins; do
    if [ -f "$root/$dir/$1" ] && [ ! -L "$root/$dir/$1" ]; then
      relocate "$root/$dir/$1"
      ln -sfn "$root/$dir/$1" "$bin/$1"
      return
    fi
  done
  return 1
}

# A distribution's crun is dynamic; the static one is the fair peer for timing.
build_static_crun() {
  local work=$top/crun-static
  apt-get install -q -y --no-install-recommends -oDpkg::Options::=--force-confold gcc make pkg-config python3 autoconf automake libtool gperf dpkg-dev \
    libcap-dev libseccomp-dev libyajl-dev >/dev/null
  private_apt "$work/apt" deb-src "$crun_suite"
  (cd "$work" && "${apt[@]}" source --tar-only crun >/dev/null && tar xf crun_*.orig.tar.* && cd crun-*/ &&
    ./configure --disable-systemd --disable-dl --disable-criu --enable-embedded-yajl CFLAGS=-O2 >configure.log &&
    { make git-version.h >/dev/null 2>&1 || true; } &&
    make -j"$(nproc)" LDFLAGS=-all-static >make.log 2>&1 && cp crun "$bin/crun-static")
  rm -rf "$work"
}

podman_configuration() {
  mkdir -p "$top/etc"
  echo '{"default":[{"type":"insecureAcceptAnything"}]}' > "$top/etc/policy.json"
  # podman and skopeo look for the policy in the system's place only.
  [ -e /etc/containers/policy.json ] || { mkdir -p /etc/containers; cp "$top/etc/policy.json" /etc/containers/policy.json; }
  cat > "$top/etc/containers.conf" <<CONF
[containers]
default_ulimits = []
[engine]
conmon_path = ["$bin/conmon"]
helper_binaries_dir = ["$bin"]
cgroup_manager = "cgroupfs"
events_logger = "file"
CONF
  ln -sfn "$root/usr/bin/podman" "$bin/podman-plain"
  rm -f "$bin/podman"
  printf '#!/bin/sh\nexport PODMAN_IGNORE_CGROUPSV1_WARNING=1 CONTAINERS_CONF="${CONTAINERS_CONF:-%s}"\nexec %s "$@"\n' \
    "$top/etc/containers.conf" "$bin/podman-plain" > "$bin/podman"
  chmod 755 "$bin/podman"
}

export DEBIAN_FRONTEND=noninteractive
apt-get update -q >/dev/null
apt-get install -q -y --no-install-recommends -oDpkg::Options::=--force-confold patchelf debian-archive-keyring ca-certificates >/dev/null
fetch_binaries
for p in dockerd docker docker-proxy containerd containerd-shim-runc-v2 ctr runc crun podman conmon \
  netavark aardvark-dns passt skopeo docker-compose docker-buildx; do link_program $p || die "the packages hold no $p"; done
link_program docker-registry || echo "peers.sh: no docker-registry in $suite; its suites go without it" >&2
link_program docker-init || ln -sfn "$root/usr/bin/tini-static" "$bin/docker-init"
build_static_crun || echo "peers.sh: crun-static could not be built; benches go without it" >&2
podman_configuration
for p in dockerd containerd runc crun podman skopeo; do "$bin/$p" --version | sed -n 1p; done
touch "$stamp"
echo "peers.sh: ready in $bin"
