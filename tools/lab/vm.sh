#!/bin/bash
# Builds the virtual machine of `cargo xtask vm`: Debian's stock kernel and a root file system with
# systemd, for what a host may lack (cgroup v2 with every controller, AppArmor, CRIU, the systemd
# driver). What runs inside comes from the caller at each start (vm-init.sh), so this is built once.
# Result in $FERRY_VM (default /opt/ferry-peers/vm): vmlinuz, initrd, rootfs.ext4, ready-N.
#
# Usage: tools/lab/vm.sh            (as root; needs a Debian mirror)
set -euo pipefail

top=${FERRY_VM:-${FERRY_PEERS_ROOT:-/opt/ferry-peers}/vm}
suite=bookworm
stamp=$top/ready-2
packages=(systemd systemd-sysv dbus dbus-user-session libpam-systemd bash dash coreutils util-linux mount login passwd
  grep sed mawk diffutils findutils tar gzip hostname procps kmod iproute2 iputils-ping iptables nftables ipvsadm socat curl
  netbase ca-certificates apparmor busybox-static uidmap strace criu)

die() { echo "vm.sh: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || die "must run as root"
[ "$(uname -m)" = x86_64 ] || die "the machine is built on x86_64 only"
[ -e "$stamp" ] && exit 0
command -v apt-get >/dev/null || die "no apt-get: kernel and root file system come from Debian's packages"
mirror=$(awk '$1=="URIs:"{print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null | grep . ||
  awk '$1=="deb"{for(i=2;i<=NF;i++) if($i ~ /^https?:/){print $i; exit}}' /etc/apt/sources.list 2>/dev/null) || true
[ -n "$mirror" ] || die "no Debian mirror in the apt sources"

tools() {
  local need=() p
  for p in qemu-system-x86 busybox-static kmod cpio e2fsprogs debian-archive-keyring; do
    dpkg -s "$p" >/dev/null 2>&1 || need+=("$p")
  done
  [ ${#need[@]} -eq 0 ] && return
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q >/dev/null
  apt-get install -q -y --no-install-recommends -oDpkg::Options::=--force-confold "${need[@]}" >/dev/null
}

# An apt of its own with an empty status, so that the whole closure is fetched.
fetch() {
  local apt=$work/apt
  mkdir -p "$apt"/{lists/partial,archives/partial}
  : > "$apt/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" > "$apt/sources.list"
  local get=(apt-get -q -y
    -oDir::Etc::SourceList="$apt/sources.list" -oDir::Etc::SourceParts=/dev/null
    -oDir::Etc::Preferences=/dev/null -oDir::Etc::PreferencesParts=/dev/null
    -oDir::State::Lists="$apt/lists" -oDir::State::status="$apt/status"
    -oDir::Cache::archives="$apt/archives" -oDir::Cache::pkgcache= -oDir::Cache::srcpkgcache=
    -oAPT::Sandbox::User=root -oAPT::Install-Recommends=0)
  "${get[@]}" update >/dev/null
  "${get[@]}" --download-only install "${packages[@]}" linux-image-amd64 >/dev/null
}

# Packages are unpacked, not configured: what their scripts would have made is written below, which
# takes seconds where debootstrap takes minutes.
unpack() {
  local d deb
  for d in bin sbin lib lib64; do mkdir -p "$root/usr/$d"; ln -s "usr/$d" "$root/$d"; done
  for deb in "$work"/apt/archives/*.deb; do
    case ${deb##*/} in linux-image-*) continue ;; esac
    dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$root" \
      --exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale --exclude=./usr/share/info
  done
  ln -sf dash "$root/bin/sh"
  ln -sf mawk "$root/usr/bin/awk"
  local alternative
  for alternative in iptables ip6tables; do
    ln -sf "$alternative-nft" "$root/usr/sbin/$alternative"
    ln -sf "$alternative-nft-save" "$root/usr/sbin/$alternative-save"
    ln -sf "$alternative-nft-restore" "$root/usr/sbin/$alternative-restore"
  done
  ldconfig -r "$root" 2>/dev/null || true
}

configure() {
  cat > "$root/etc/passwd" <<'F'
root:x:0:0:root:/root:/bin/bash
daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
messagebus:x:100:100::/nonexistent:/usr/sbin/nologin
systemd-network:x:998:998::/:/usr/sbin/nologin
tester:x:1000:1000::/home/tester:/bin/bash
other:x:1001:1001::/home/other:/bin/bash
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
F
  cat > "$root/etc/group" <<'F'
root:x:0:
daemon:x:1:
tty:x:5:
disk:x:6:
utmp:x:43:
shadow:x:42:
kvm:x:104:
messagebus:x:100:
systemd-journal:x:999:
systemd-network:x:998:
tester:x:1000:
other:x:1001:
nogroup:x:65534:
F
  # `other` has no subordinate ids, on purpose.
  echo tester:100000:65536 | tee "$root/etc/subuid" > "$root/etc/subgid"
  install -d -o 1000 -g 1000 "$root/home/tester"
  install -d -o 1001 -g 1001 "$root/home/other"
  echo vm > "$root/etc/hostname"
  echo "127.0.0.1 localhost vm" > "$root/etc/hosts"
  echo uninitialized > "$root/etc/machine-id"
  local kind
  for kind in account auth password session; do
    echo "$kind required pam_permit.so" > "$root/etc/pam.d/common-$kind"
  done
  cp "$root/etc/pam.d/common-session" "$root/etc/pam.d/common-session-noninteractive"
  # A machine that lives for one command waits for no terminal, clock or update.
  local unit
  for unit in getty.target getty@tty1.service serial-getty@ttyS0.service serial-getty@hvc0.service \
    systemd-timesyncd.service systemd-update-utmp.service systemd-journal-flush.service \
    systemd-journal-catalog-update.service systemd-update-done.service systemd-firstboot.service \
    systemd-random-seed.service systemd-hwdb-update.service systemd-udev-trigger.service \
    systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket ldconfig.service \
    systemd-sysusers.service apparmor.service e2scrub_reap.service nftables.service systemd-networkd.service \
    systemd-pstore.service systemd-remount-fs.service systemd-fsck-root.service; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
  done
  rm -f "$root"/etc/systemd/system/timers.target.wants/*
}

kernel() {
  local deb release
  deb=$(ls "$work"/apt/archives/linux-image-[0-9]*.deb)
  mkdir "$work/k"
  # A folder's pattern brings what is below; of the drivers only what a virtual machine may have.
  dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$work/k" --wildcards --no-wildcards-match-slash './boot/vmlinuz-*' \
    './lib/modules/*/modules.*' './lib/modules/*/kernel/'{fs,net,lib,crypto,arch,block} \
    './lib/modules/*/kernel/drivers/'{virtio,block,char,md} './lib/modules/*/kernel/drivers/net/'{'*.ko',vxlan,ipvlan}
  release=$(ls "$work/k/lib/modules")
  depmod -b "$work/k" "$release"
  cp "$work/k/boot/vmlinuz-$release" "$top/vmlinuz"
  mkdir -p "$root/usr/lib/modules"
  cp -a "$work/k/lib/modules/$release" "$root/usr/lib/modules/"
  initrd "$release"
  echo "vm.sh: kernel $release"
}

# The initial RAM disk: busybox and the modules that reach the disk and the shared folders.
initrd() { # RELEASE
  local dep=$work/k/lib/modules/$1/modules.dep ird=$work/ird order='' m
  mkdir -p "$ird"/{bin,proc,sys,dev,root,m}
  cp "$(command -v busybox)" "$ird/bin/"
  copy() { # FILE below the module folder
    local name; name=$(basename "$1" .ko)
    case " $order " in *" $name "*) return ;; esac
    cp "$work/k/lib/modules/$release/$1" "$ird/m/$name.ko"; order="$order $name"
  }
  for m in virtio_pci virtio_blk crc32c_generic ext4 virtio_console 9pnet_virtio 9p overlay; do
    local line d
    line=$(grep -E "/${m//_/[-_]}\.ko:" "$dep" | head -1) || continue   # built in
    for d in $(echo "${line#*:}" | tr ' ' '\n' | tac); do copy "$d"; done
    copy "${line%%:*}"
  done
  cat > "$ird/init" <<SH
#!/bin/busybox sh
# Reaches the disk and the caller's folder, and hands over to the init that lies there.
bb=/bin/busybox
\$bb mount -t devtmpfs dev /dev
for m in $order; do \$bb insmod /m/\$m.ko; done
i=0
while [ ! -b /dev/vda ] && [ \$i -lt 200 ]; do \$bb sleep 0.05; i=\$((i+1)); done
\$bb mount -t ext4 -o noatime /dev/vda /root || \$bb poweroff -f
\$bb mkdir -p /root/job
\$bb mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 job /root/job || \$bb poweroff -f
\$bb mount --move /dev /root/dev
exec \$bb switch_root /root /bin/sh /job/init
SH
  chmod +x "$ird/init"
  (cd "$ird" && find . | cpio -o -H newc --quiet | gzip -1) > "$top/initrd"
}

tools
mkdir -p "$top"
work=$(mktemp -d "$top/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
root=$work/rootfs
fetch
unpack
configure
kernel
rm -f "$top/rootfs.ext4"
truncate -s 4G "$top/rootfs.ext4"
mke2fs -q -t ext4 -O ^has_journal -E lazy_itable_init=1,nodiscard -d "$root" "$top/rootfs.ext4"
touch "$stamp"
echo "vm.sh: ready in $top ($(du -m "$top/rootfs.ext4" | cut -f1) MiB)"
