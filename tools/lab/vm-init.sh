#!/bin/sh
# Process 1 of the virtual machine of `cargo xtask vm`. Mounts what an init system would, then runs
# /job/command itself or has systemd run it (`init=systemd` on the kernel's command line), writes its
# status to /job/status and turns the machine off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb

# What ends up as the job, in either flavour.
if [ "$1" = job ]; then
  mkdir -p /tmp /run/netns
  while read -r tag path; do
    mkdir -p "$path" "/run/lower/$tag" "/run/upper/$tag" "/run/work/$tag"
    mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro "$tag" "/run/lower/$tag"
    # The host's files can be read; what is written stays in the machine.
    mount -t overlay -o "lowerdir=/run/lower/$tag,upperdir=/run/upper/$tag,workdir=/run/work/$tag" overlay "$path"
  done < /job/shares
  cd "$(cat /job/folder)" 2>/dev/null || cd /root
  : > /job/started
  stty raw -echo < /dev/hvc0 2>/dev/null
  if [ -s /job/command ]; then
    setsid sh /job/command < /dev/null > /dev/hvc0 2>&1
  else
    TERM=linux setsid -c bash -i < /dev/hvc0 > /dev/hvc0 2>&1
  fi
  echo $? > /job/status
  sync
  echo o > /proc/sysrq-trigger
  exec sleep 600
fi

mount -t proc proc /proc
word() { for w in $(cat /proc/cmdline); do case $w in "$1"=*) echo "${w#*=}" ;; esac; done; }

if [ "$(word init)" = systemd ]; then
  cat > /etc/systemd/system/ferry-job.service <<'F'
[Unit]
Requires=basic.target dbus.socket
After=basic.target dbus.socket
[Service]
Type=oneshot
ExecStart=/bin/sh /job/init job
FailureAction=poweroff-force
SuccessAction=poweroff-force
TimeoutStartSec=infinity
F
  umount /proc
  exec /lib/systemd/systemd
fi

mount -t sysfs sysfs /sys
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o mode=620,ptmxmode=666,gid=5 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs -o mode=755 tmpfs /run
mount -t securityfs securityfs /sys/kernel/security
mount -t bpf bpf /sys/fs/bpf
ln -sfn /proc/self/fd /dev/fd
v1() { # FOLDER OPTIONS
  mkdir "/sys/fs/cgroup/$1"
  mount -t cgroup -o "$2" cgroup "/sys/fs/cgroup/$1"
}
case $(word cgroup) in
v2)
  mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
  mkdir /sys/fs/cgroup/init.scope
  echo 1 > /sys/fs/cgroup/init.scope/cgroup.procs
  for c in $(cat /sys/fs/cgroup/cgroup.controllers); do echo "+$c" > /sys/fs/cgroup/cgroup.subtree_control; done
  ;;
v1 | hybrid)
  mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
  for c in cpu,cpuacct cpuset memory devices freezer blkio pids hugetlb net_cls,net_prio perf_event rdma; do v1 $c $c; done
  v1 systemd none,name=systemd
  if [ "$(word cgroup)" = hybrid ]; then
    mkdir /sys/fs/cgroup/unified
    mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
  fi
  ;;
esac
chmod 1777 /tmp
ip link set lo up
hostname vm
sh /job/init job
