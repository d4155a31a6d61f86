//! Numbers of the system calls by name, for x86_64, i386, x32, aarch64 and arm. Data only; it comes
//! from the kernel's tables. Names are one string, so that a position-independent program has
//! nothing to relocate at its start.

/// The names, sorted, each followed by a space.
#[rustfmt::skip]
const NAMES: &str = "\
_llseek _newselect _sysctl accept accept4 access acct add_key adjtimex afs_syscall alarm arch_prctl \
arm_fadvise64_64 arm_sync_file_range bdflush bind bpf brk cachestat capget capset chdir chmod chown \
chown32 chroot clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
clock_gettime64 clock_nanosleep clock_nanosleep_time64 clock_settime clock_settime64 clone clone3 \
close close_range connect copy_file_range creat create_module delete_module dup dup2 dup3 \
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait \
epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 \
fadvise64_64 fallocate fanotify_init fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 \
fchownat fcntl fcntl64 fdatasync fgetxattr file_getattr file_setattr finit_module flistxattr flock \
fork fremovexattr fsconfig fsetxattr fsmount fsopen fspick fstat fstat64 fstatat fstatat64 fstatfs \
fstatfs64 fsync ftime ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv \
futex_wake futimesat get_kernel_syms get_mempolicy get_robust_list get_thread_area getcpu getcwd \
getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 \
getitimer getpeername getpgid getpgrp getpid getpmsg getppid getpriority getrandom getresgid \
getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid \
gettimeofday getuid getuid32 getxattr getxattrat gtty idle init_module inotify_add_watch \
inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents \
io_pgetevents_time64 io_setup io_submit io_uring_enter io_uring_register io_uring_setup ioctl ioperm \
iopl ioprio_get ioprio_set ipc kcmp kexec_file_load kexec_load keyctl kill landlock_add_rule \
landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen \
listmount listxattr listxattrat llistxattr lock lookup_dcookie lremovexattr lseek lsetxattr \
lsm_get_self_attr lsm_list_modules lsm_set_self_attr lstat lstat64 madvise map_shadow_stack mbind \
membarrier memfd_create memfd_secret migrate_pages mincore mkdir mkdirat mknod mknodat mlock mlock2 \
mlockall mmap mmap2 modify_ldt mount mount_setattr move_mount move_pages mprotect mpx mq_getsetattr \
mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink \
mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep \
newfstatat nfsservctl nice oldfstat oldlstat oldolduname oldstat olduname open open_by_handle_at \
open_tree open_tree_attr openat openat2 pause pciconfig_iobase pciconfig_read pciconfig_write \
perf_event_open personality pidfd_getfd pidfd_open pidfd_send_signal pipe pipe2 pivot_root \
pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 \
process_madvise process_mrelease process_vm_readv process_vm_writev prof profil pselect6 \
pselect6_time64 ptrace putpmsg pwrite64 pwritev pwritev2 query_module quotactl quotactl_fd read \
readahead readdir readlink readlinkat readv reboot recv recvfrom recvmmsg recvmmsg_time64 recvmsg \
remap_file_pages removexattr removexattrat rename renameat renameat2 request_key restart_syscall \
rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend \
rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max \
sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler \
sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam \
sched_setscheduler sched_yield seccomp security select semctl semget semop semtimedop \
semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_mempolicy \
set_mempolicy_home_node set_robust_list set_thread_area set_tid_address setdomainname setfsgid \
setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 sethostname setitimer setns \
setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid \
setreuid32 setrlimit setsid setsockopt settimeofday setuid setuid32 setxattr setxattrat sgetmask \
shmat shmctl shmdt shmget shutdown sigaction sigaltstack signal signalfd signalfd4 sigpending \
sigprocmask sigreturn sigsuspend socket socketcall socketpair splice ssetmask stat stat64 statfs \
statfs64 statmount statx stime stty swapoff swapon symlink symlinkat sync sync_file_range syncfs \
sysfs sysinfo syslog tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime \
timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 \
timerfd_settime timerfd_settime64 times tkill truncate truncate64 tuxcall ugetrlimit ulimit umask \
umount umount2 uname unlink unlinkat unshare uprobe uretprobe uselib userfaultfd ustat utime \
utimensat utimensat_time64 utimes vfork vhangup vm86 vm86old vmsplice vserver wait4 waitid waitpid \
write writev \
";

/// How many names there are.
const COUNT: usize = NUMBERS.len();

/// One more than the highest number.
pub(super) const END: usize = highest() + 1;

const fn highest() -> usize {
    let (mut most, mut at) = (0, 0);
    while at < COUNT * 5 {
        let number = NUMBERS[at / 5][at % 5];
        if number > most {
            most = number;
        }
        at += 1;
    }
    most as usize
}

/// Where each name begins, and the end.
static STARTS: [u16; COUNT + 1] = starts();

const fn starts() -> [u16; COUNT + 1] {
    let (bytes, mut starts) = (NAMES.as_bytes(), [0; COUNT + 1]);
    let (mut at, mut name) = (0, 0);
    while at < bytes.len() {
        if bytes[at] == b' ' {
            name += 1;
            starts[name] = at as u16 + 1;
        }
        at += 1;
    }
    starts
}

/// Slots of the names by their hash, four times as many as there are names.
const SLOTS: usize = 2048;
const EMPTY: u16 = u16::MAX;
static PLACES: [u16; SLOTS] = places();

const fn places() -> [u16; SLOTS] {
    let (bytes, mut places, mut name) = (NAMES.as_bytes(), [EMPTY; SLOTS], 0);
    while name < COUNT {
        let (mut hash, mut at) = (FNV_BASIS, STARTS[name] as usize);
        while bytes[at] != b' ' {
            hash = fnv(hash, bytes[at]);
            at += 1;
        }
        let mut slot = hash as usize % SLOTS;
        while places[slot] != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        places[slot] = name as u16;
        name += 1;
    }
    places
}

const FNV_BASIS: u32 = 0x811c_9dc5;

/// One step of the hash FNV-1a.
const fn fnv(hash: u32, byte: u8) -> u32 {
    (hash ^ byte as u32).wrapping_mul(0x0100_0193)
}

/// The numbers of a system call: x86_64, i386, x32, aarch64, arm; -1 where there is none.
pub(super) fn numbers(name: &str) -> Option<&'static [i16; 5]> {
    let wanted = name.as_bytes();
    let hash = wanted.iter().fold(FNV_BASIS, |hash, byte| fnv(hash, *byte));
    let mut slot = hash as usize % SLOTS;
    loop {
        let place = usize::from(PLACES[slot]);
        let (start, next) = (*STARTS.get(place)?, *STARTS.get(place + 1)?);
        if NAMES.as_bytes()[usize::from(start)..usize::from(next) - 1] == *wanted {
            return NUMBERS.get(place);
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// Every name, for tests.
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    NAMES.split_whitespace()
}

#[rustfmt::skip]
static NUMBERS: [[i16; 5]; 477] = [
    [-1,140,-1,-1,140], [-1,142,-1,-1,142], [156,149,156,-1,149], [43,-1,43,202,285], [288,364,288,242,366],
    [21,33,21,-1,33], [163,51,163,89,51], [248,286,248,217,309], [159,124,159,171,124], [183,137,183,-1,-1],
    [37,27,37,-1,-1], [158,384,158,-1,-1], [-1,-1,-1,-1,270], [-1,-1,-1,-1,341], [-1,134,-1,-1,134],
    [49,361,49,200,282], [321,357,321,280,386], [12,45,12,214,45], [451,451,451,451,451], [125,184,125,90,184],
    [126,185,126,91,185], [80,12,80,49,12], [90,15,90,-1,15], [92,182,92,-1,182], [-1,212,-1,-1,212],
    [161,61,161,51,61], [305,343,305,266,372], [-1,405,-1,405,405], [229,266,229,114,264], [-1,406,-1,406,406],
    [228,265,228,113,263], [-1,403,-1,403,403], [230,267,230,115,265], [-1,407,-1,407,407], [227,264,227,112,262],
    [-1,404,-1,404,404], [56,120,56,220,120], [435,435,435,435,435], [3,6,3,57,6], [436,436,436,436,436],
    [42,362,42,203,283], [326,377,326,285,391], [85,8,85,-1,8], [174,127,174,-1,-1], [176,129,176,106,129],
    [32,41,32,23,41], [33,63,33,-1,63], [292,330,292,24,358], [213,254,213,-1,250], [291,329,291,20,357],
    [233,255,233,21,251], [214,-1,214,-1,-1], [281,319,281,22,346], [441,441,441,441,441], [232,256,232,-1,252],
    [215,-1,215,-1,-1], [284,323,284,-1,351], [290,328,290,19,356], [59,11,520,221,11], [322,358,545,281,387],
    [60,1,60,93,1], [231,252,231,94,248], [269,307,269,48,334], [439,439,439,439,439], [221,250,221,223,-1],
    [-1,272,-1,-1,-1], [285,324,285,47,352], [300,338,300,262,367], [301,339,301,263,368], [81,133,81,50,133],
    [91,94,91,52,94], [268,306,268,53,333], [452,452,452,452,452], [93,95,93,55,95], [-1,207,-1,-1,207],
    [260,298,260,54,325], [72,55,72,25,55], [-1,221,-1,-1,221], [75,148,75,83,148], [193,231,193,10,231],
    [468,468,468,468,468], [469,469,469,469,469], [313,350,313,273,379], [196,234,196,13,234], [73,143,73,32,143],
    [57,2,57,-1,2], [199,237,199,16,237], [431,431,431,431,431], [190,228,190,7,228], [432,432,432,432,432],
    [430,430,430,430,430], [433,433,433,433,433], [5,108,5,80,108], [-1,197,-1,-1,197], [-1,-1,-1,79,-1],
    [-1,300,-1,-1,327], [138,100,138,44,100], [-1,269,-1,-1,267], [74,118,74,82,118], [-1,35,-1,-1,-1],
    [77,93,77,46,93], [-1,194,-1,-1,194], [202,240,202,98,240], [456,456,456,456,456], [-1,422,-1,422,422],
    [455,455,455,455,455], [449,449,449,449,449], [454,454,454,454,454], [261,299,261,-1,326], [177,130,177,-1,-1],
    [239,275,239,236,320], [274,312,531,100,339], [211,244,211,-1,-1], [309,318,309,168,345], [79,183,79,17,183],
    [78,141,78,-1,141], [217,220,217,61,217], [108,50,108,177,50], [-1,202,-1,-1,202], [107,49,107,175,49],
    [-1,201,-1,-1,201], [104,47,104,176,47], [-1,200,-1,-1,200], [115,80,115,158,80], [-1,205,-1,-1,205],
    [36,105,36,102,105], [52,368,52,205,287], [121,132,121,155,132], [111,65,111,-1,65], [39,20,39,172,20],
    [181,188,181,-1,-1], [110,64,110,173,64], [140,96,140,141,96], [318,355,318,278,384], [120,171,120,150,171],
    [-1,211,-1,-1,211], [118,165,118,148,165], [-1,209,-1,-1,209], [97,76,97,163,-1], [98,77,98,165,77],
    [124,147,124,156,147], [51,367,51,204,286], [55,365,542,209,295], [186,224,186,178,224], [96,78,96,169,78],
    [102,24,102,174,24], [-1,199,-1,-1,199], [191,229,191,8,229], [464,464,464,464,464], [-1,32,-1,-1,-1],
    [-1,112,-1,-1,-1], [175,128,175,105,128], [254,292,254,27,317], [253,291,253,-1,316], [294,332,294,26,360],
    [255,293,255,28,318], [210,249,210,3,247], [207,246,207,1,244], [208,247,208,4,245], [333,385,333,292,399],
    [-1,416,-1,416,416], [206,245,543,0,243], [209,248,544,2,246], [426,426,426,426,426], [427,427,427,427,427],
    [425,425,425,425,425], [16,54,514,29,54], [173,101,173,-1,-1], [172,110,172,-1,-1], [252,290,252,31,315],
    [251,289,251,30,314], [-1,117,-1,-1,-1], [312,349,312,272,378], [320,-1,320,294,401], [246,283,528,104,347],
    [250,288,250,219,311], [62,37,62,129,37], [445,445,445,445,445], [444,444,444,444,444], [446,446,446,446,446],
    [94,16,94,-1,16], [-1,198,-1,-1,198], [192,230,192,9,230], [86,9,86,-1,9], [265,303,265,37,330],
    [50,363,50,201,284], [458,458,458,458,458], [194,232,194,11,232], [465,465,465,465,465], [195,233,195,12,233],
    [-1,53,-1,-1,-1], [212,253,212,18,249], [198,236,198,15,236], [8,19,8,62,19], [189,227,189,6,227],
    [459,459,459,459,459], [461,461,461,461,461], [460,460,460,460,460], [6,107,6,-1,107], [-1,196,-1,-1,196],
    [28,219,28,233,220], [453,453,453,453,453], [237,274,237,235,319], [324,375,324,283,389], [319,356,319,279,385],
    [447,447,447,447,-1], [256,294,256,238,400], [27,218,27,232,219], [83,39,83,-1,39], [258,296,258,34,323],
    [133,14,133,-1,14], [259,297,259,33,324], [149,150,149,228,150], [325,376,325,284,390], [151,152,151,230,152],
    [9,90,9,222,-1], [-1,192,-1,-1,192], [154,123,154,-1,-1], [165,21,165,40,21], [442,442,442,442,442],
    [429,429,429,429,429], [279,317,533,239,344], [10,125,10,226,125], [-1,56,-1,-1,-1], [245,282,245,185,279],
    [244,281,527,184,278], [240,277,240,180,274], [243,280,243,183,277], [-1,419,-1,419,419], [242,279,242,182,276],
    [-1,418,-1,418,418], [241,278,241,181,275], [25,163,25,216,163], [462,462,462,462,462], [71,402,71,187,304],
    [68,399,68,186,303], [70,401,70,188,302], [69,400,69,189,301], [26,144,26,227,144], [150,151,150,229,151],
    [152,153,152,231,153], [11,91,11,215,91], [303,341,303,264,370], [35,162,35,101,162], [262,-1,262,-1,-1],
    [180,169,180,42,169], [-1,34,-1,-1,34], [-1,28,-1,-1,-1], [-1,84,-1,-1,-1], [-1,59,-1,-1,-1], [-1,18,-1,-1,-1],
    [-1,109,-1,-1,-1], [2,5,2,-1,5], [304,342,304,265,371], [428,428,428,428,428], [467,467,467,467,467],
    [257,295,257,56,322], [437,437,437,437,437], [34,29,34,-1,29], [-1,-1,-1,-1,271], [-1,-1,-1,-1,272],
    [-1,-1,-1,-1,273], [298,336,298,241,364], [135,136,135,92,136], [438,438,438,438,438], [434,434,434,434,434],
    [424,424,424,424,424], [22,42,22,-1,42], [293,331,293,59,359], [155,217,155,41,218], [330,381,330,289,395],
    [331,382,331,290,396], [329,380,329,288,394], [7,168,7,-1,168], [271,309,271,73,336], [-1,414,-1,414,414],
    [157,172,157,167,172], [17,180,17,67,180], [295,333,534,69,361], [327,378,546,286,392], [302,340,302,261,369],
    [440,440,440,440,440], [448,448,448,448,448], [310,347,539,270,376], [311,348,540,271,377], [-1,44,-1,-1,-1],
    [-1,98,-1,-1,-1], [270,308,270,72,335], [-1,413,-1,413,413], [101,26,521,117,26], [182,189,182,-1,-1],
    [18,181,18,68,181], [296,334,535,70,362], [328,379,547,287,393], [178,167,178,-1,-1], [179,131,179,60,131],
    [443,443,443,443,443], [0,3,0,63,3], [187,225,187,213,225], [-1,89,-1,-1,-1], [89,85,89,-1,85],
    [267,305,267,78,332], [19,145,515,65,145], [169,88,169,142,88], [-1,-1,-1,-1,291], [45,371,517,207,292],
    [299,337,537,243,365], [-1,417,-1,417,417], [47,372,519,212,297], [216,257,216,234,253], [197,235,197,14,235],
    [466,466,466,466,466], [82,38,82,-1,38], [264,302,264,38,329], [316,353,316,276,382], [249,287,249,218,310],
    [219,0,219,128,0], [84,40,84,-1,40], [334,386,334,293,398], [13,174,512,134,174], [127,176,522,136,176],
    [14,175,14,135,175], [129,178,524,138,178], [15,173,513,139,173], [130,179,130,133,179], [128,177,523,137,177],
    [-1,421,-1,421,421], [297,335,536,240,363], [146,159,146,125,159], [147,160,147,126,160], [204,242,204,123,242],
    [315,352,315,275,381], [143,155,143,121,155], [145,157,145,120,157], [148,161,148,127,161], [-1,423,-1,423,423],
    [203,241,203,122,241], [314,351,314,274,380], [142,154,142,118,154], [144,156,144,119,156], [24,158,24,124,158],
    [317,354,317,277,383], [185,-1,185,-1,-1], [23,82,23,-1,-1], [66,394,66,191,300], [64,393,64,190,299],
    [65,-1,65,193,298], [220,-1,220,192,312], [-1,420,-1,420,420], [-1,-1,-1,-1,289], [40,187,40,71,187],
    [-1,239,-1,-1,239], [307,345,538,269,374], [46,370,518,211,296], [44,369,44,206,290], [238,276,238,237,321],
    [450,450,450,450,450], [273,311,530,99,338], [205,243,205,-1,-1], [218,258,218,96,256], [171,121,171,162,121],
    [123,139,123,152,139], [-1,216,-1,-1,216], [122,138,122,151,138], [-1,215,-1,-1,215], [106,46,106,144,46],
    [-1,214,-1,-1,214], [116,81,116,159,81], [-1,206,-1,-1,206], [170,74,170,161,74], [38,104,38,103,104],
    [308,346,308,268,375], [109,57,109,154,57], [141,97,141,140,97], [114,71,114,143,71], [-1,204,-1,-1,204],
    [119,170,119,149,170], [-1,210,-1,-1,210], [117,164,117,147,164], [-1,208,-1,-1,208], [113,70,113,145,70],
    [-1,203,-1,-1,203], [160,75,160,164,75], [112,66,112,157,66], [54,366,541,208,294], [164,79,164,170,79],
    [105,23,105,146,23], [-1,213,-1,-1,213], [188,226,188,5,226], [463,463,463,463,463], [-1,68,-1,-1,-1],
    [30,397,30,196,305], [31,396,31,195,308], [67,398,67,197,306], [29,395,29,194,307], [48,373,48,210,293],
    [-1,67,-1,-1,67], [131,186,525,132,186], [-1,48,-1,-1,-1], [282,321,282,-1,349], [289,327,289,74,355],
    [-1,73,-1,-1,73], [-1,126,-1,-1,126], [-1,119,-1,-1,119], [-1,72,-1,-1,72], [41,359,41,198,281], [-1,102,-1,-1,-1],
    [53,360,53,199,288], [275,313,275,76,340], [-1,69,-1,-1,-1], [4,106,4,-1,106], [-1,195,-1,-1,195],
    [137,99,137,43,99], [-1,268,-1,-1,266], [457,457,457,457,457], [332,383,332,291,397], [-1,25,-1,-1,-1],
    [-1,31,-1,-1,-1], [168,115,168,225,115], [167,87,167,224,87], [88,83,88,-1,83], [266,304,266,36,331],
    [162,36,162,81,36], [277,314,277,84,-1], [306,344,306,267,373], [139,135,139,-1,135], [99,116,99,179,116],
    [103,103,103,116,103], [276,315,276,77,342], [234,270,234,131,268], [201,13,201,-1,-1], [222,259,526,107,257],
    [226,263,226,111,261], [225,262,225,109,260], [224,261,224,108,259], [-1,408,-1,408,408], [223,260,223,110,258],
    [-1,409,-1,409,409], [283,322,283,85,350], [287,326,287,87,354], [-1,410,-1,410,410], [286,325,286,86,353],
    [-1,411,-1,411,411], [100,43,100,153,43], [200,238,200,130,238], [76,92,76,45,92], [-1,193,-1,-1,193],
    [184,-1,184,-1,-1], [-1,191,-1,-1,191], [-1,58,-1,-1,-1], [95,60,95,166,60], [-1,22,-1,-1,-1], [166,52,166,39,52],
    [63,122,63,160,122], [87,10,87,-1,10], [263,301,263,35,328], [272,310,272,97,337], [336,-1,336,-1,-1],
    [335,-1,335,-1,-1], [134,86,134,-1,86], [323,374,323,282,388], [136,62,136,-1,62], [132,30,132,-1,-1],
    [280,320,280,88,348], [-1,412,-1,412,412], [235,271,235,-1,269], [58,190,58,-1,190], [153,111,153,58,111],
    [-1,166,-1,-1,-1], [-1,113,-1,-1,-1], [278,316,532,75,343], [236,273,236,-1,313], [61,114,61,260,114],
    [247,284,529,95,280], [-1,7,-1,-1,-1], [1,4,1,64,4], [20,146,516,66,146],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_found() {
        assert_eq!(usize::from(STARTS[COUNT]), NAMES.len());
        assert_eq!(numbers("read"), Some(&[0, 3, 0, 63, 3]));
        assert_eq!(numbers("clone3").map(|n| n[0]), Some(435));
        assert_eq!(numbers("execve").map(|n| n[2]), Some(520));
        assert_eq!(numbers("no_such_call"), None);
        assert_eq!(numbers(""), None);
        assert_eq!(numbers("rea"), None);
        assert_eq!(numbers("read "), None);
        assert_eq!(numbers("read readahead"), None);
        for (name, there) in NAMES.split_whitespace().zip(&NUMBERS) {
            assert_eq!(numbers(name), Some(there), "{name}");
        }
        assert!(NAMES.split_whitespace().is_sorted());
    }
}
