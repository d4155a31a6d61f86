/* The kernel's own price of a container: the system calls that Docker's default spec
 * cannot do without, and nothing else: no JSON, no state, no error recovery. No runtime
 * can be faster; `cargo xtask bench runtime` prints this line beside the real ones.
 *
 *   gcc -O2 -static floor.c -o floor;  floor ROOTFS PROGRAM
 *
 * One clone3 into pid, mount, uts, ipc, net (v2: also cgroup) namespaces; one cgroup in
 * each hierarchy; the default mounts, device nodes, links, masked and read-only paths;
 * pivot_root; a filter of 80 instructions; exec; wait; cgroups removed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define SAFE (MS_NOSUID | MS_NODEV | MS_NOEXEC)
#define MUST(call) do { if ((call) == -1) { perror(#call); _exit(125); } } while (0)

static const char *const hierarchies[] = {"blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb",
                                          "memory", "net_cls", "net_prio", "perf_event", "pids", "rdma", "systemd"};
static char groups[COUNT(hierarchies)][128];
static char unified[128];

static void write_to(const char *folder, const char *name, const char *text) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  int file = open(path, O_WRONLY | O_CLOEXEC);
  MUST(file);
  MUST(write(file, text, strlen(text)));
  close(file);
}

/* A new v1 cpuset is empty and admits nobody until it has processors and memory nodes. */
static void fill_cpuset(const char *group, const char *name) {
  char path[256], value[256] = "";
  snprintf(path, sizeof path, "/sys/fs/cgroup/cpuset/%s", name);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file >= 0 && read(file, value, sizeof value - 1) > 0) write_to(group, name, value);
  close(file);
}

static void make_cgroups(void) {
  if (!access("/sys/fs/cgroup/cgroup.controllers", F_OK)) {
    snprintf(unified, sizeof unified, "/sys/fs/cgroup/floor-%d", getpid());
    MUST(mkdir(unified, 0755));
    return;
  }
  for (unsigned i = 0; i < COUNT(hierarchies); i++) {
    snprintf(groups[i], sizeof groups[i], "/sys/fs/cgroup/%s/floor-%d", hierarchies[i], getpid());
    if (mkdir(groups[i], 0755)) groups[i][0] = 0;
    else if (!strcmp(hierarchies[i], "cpuset")) {
      fill_cpuset(groups[i], "cpuset.cpus");
      fill_cpuset(groups[i], "cpuset.mems");
    }
  }
}

static void remove_cgroups(void) {
  if (*unified) rmdir(unified);
  for (unsigned i = 0; i < COUNT(hierarchies); i++)
    if (*groups[i]) rmdir(groups[i]);
}

static void mount_in(const char *type, const char *at, unsigned long flags, const char *data) {
  mkdir(at, 0755);
  MUST(mount(type, at, type, flags, data));
}

static void mount_cgroups(void) {
  if (*unified) {
    MUST(mount("cgroup", "sys/fs/cgroup", "cgroup2", SAFE | MS_RDONLY, 0));
    return;
  }
  MUST(mount("tmpfs", "sys/fs/cgroup", "tmpfs", SAFE, "mode=755"));
  for (unsigned i = 0; i < COUNT(hierarchies); i++) {
    if (!*groups[i]) continue;
    char at[128];
    snprintf(at, sizeof at, "sys/fs/cgroup/%s", hierarchies[i]);
    MUST(mkdir(at, 0755));
    MUST(mount(groups[i], at, 0, MS_BIND, 0));
    MUST(mount(0, at, 0, MS_BIND | MS_REMOUNT | MS_RDONLY | SAFE, 0));
  }
}

static void fill_dev(void) {
  static const struct { const char *path; int major, minor; } nodes[] = {
      {"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0}};
  static const char *const links[][2] = {{"pts/ptmx", "dev/ptmx"}, {"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"},
                                         {"/proc/self/fd/1", "dev/stdout"}, {"/proc/self/fd/2", "dev/stderr"}};
  for (unsigned i = 0; i < COUNT(nodes); i++) {
    MUST(mknod(nodes[i].path, S_IFCHR, makedev(nodes[i].major, nodes[i].minor)));
    MUST(chmod(nodes[i].path, 0666));
  }
  for (unsigned i = 0; i < COUNT(links); i++) MUST(symlink(links[i][0], links[i][1]));
}

static void hide_and_protect(void) {
  static const char *const masked[] = {"proc/acpi", "proc/asound", "proc/interrupts", "proc/kcore", "proc/keys",
                                       "proc/latency_stats", "proc/timer_list", "proc/timer_stats", "proc/sched_debug",
                                       "proc/scsi", "sys/firmware", "sys/devices/virtual/powercap"};
  static const char *const fixed[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"};
  struct stat is;
  for (unsigned i = 0; i < COUNT(masked); i++) {
    if (stat(masked[i], &is)) continue;
    if (S_ISDIR(is.st_mode)) MUST(mount("tmpfs", masked[i], "tmpfs", MS_RDONLY, 0));
    else MUST(mount("/dev/null", masked[i], 0, MS_BIND, 0));
  }
  for (unsigned i = 0; i < COUNT(fixed); i++) {
    if (mount(fixed[i], fixed[i], 0, MS_BIND | MS_REC, 0)) continue;
    MUST(mount(0, fixed[i], 0, MS_BIND | MS_REMOUNT | MS_RDONLY | SAFE, 0));
  }
}

/* Forty ranges of system calls searched as a tree, each answer "allow". */
static struct sock_filter program[256];
static unsigned length;
static void branch(unsigned low, unsigned high) {
  if (high - low == 1) {
    program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    return;
  }
  unsigned middle = (low + high) / 2, here = length++;
  branch(low, middle);
  program[here] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, middle * 10, length - here - 1, 0);
  branch(middle, high);
}
static void load_filter(void) {
  program[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0);
  branch(0, 40);
  struct sock_fprog filter = {length, program};
  MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter));
}

static void inside(const char *rootfs, char **argv) {
  for (unsigned i = 0; i < COUNT(hierarchies); i++)
    if (*groups[i]) write_to(groups[i], "tasks", "0");
  MUST(mount(0, "/", 0, MS_REC | MS_SLAVE, 0));
  MUST(mount(rootfs, rootfs, 0, MS_BIND | MS_REC, 0));
  MUST(chdir(rootfs));
  mount_in("proc", "proc", SAFE, 0);
  mount_in("tmpfs", "dev", MS_NOSUID, "mode=755,size=65536k");
  mount_in("devpts", "dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
  mount_in("tmpfs", "dev/shm", SAFE, "mode=1777,size=65536k");
  mount_in("mqueue", "dev/mqueue", SAFE, 0);
  mount_in("sysfs", "sys", SAFE | MS_RDONLY, 0);
  mount_cgroups();
  fill_dev();
  hide_and_protect();
  MUST(syscall(SYS_pivot_root, ".", "."));
  MUST(umount2(".", MNT_DETACH));
  MUST(chdir("/"));
  MUST(sethostname("floor", 5));
  load_filter();
  execv(argv[0], argv);
  perror(argv[0]);
  _exit(127);
}

int main(int argc, char **argv) {
  if (argc < 3) return fprintf(stderr, "usage: floor ROOTFS PROGRAM [ARG]...\n"), 2;
  make_cgroups();
  struct clone_args how = {.flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET, .exit_signal = SIGCHLD};
  if (*unified) {
    how.cgroup = open(unified, O_PATH | O_CLOEXEC);
    how.flags |= CLONE_INTO_CGROUP | CLONE_NEWCGROUP;
  }
  pid_t child = syscall(SYS_clone3, &how, sizeof how);
  MUST(child);
  if (!child) inside(argv[1], argv + 2);
  int status;
  waitpid(child, &status, 0);
  remove_cgroups();
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
