//! System call filters in Docker's own dialect, as `--security-opt seccomp=` carries them:
//! rules that hold for some machines, kernels and capabilities only.

use crate::Value;

api! {
    /// A profile.
    SeccompProfile = "seccomp.Seccomp" as "Seccomp" {
        default_action: String = "defaultAction".kind("specs.LinuxSeccompAction");
        default_errno_ret: Option<u64> = "defaultErrnoRet".kind("uint");
        architectures: Option<Vec<String>> = "architectures".kind("[]specs.Arch");
        flags: Option<Vec<String>> = "flags".kind("[]specs.LinuxSeccompFlag");
        listener_path: String = "listenerPath";
        listener_metadata: String = "listenerMetadata";
        arch_map: Option<Vec<SeccompArchitecture>> = "archMap".kind("[]seccomp.Architecture");
        syscalls: Option<Vec<SeccompCalls>> = "syscalls".kind("[]*seccomp.Syscall");
    }

    /// An architecture with those that its kernel runs as well.
    SeccompArchitecture = "seccomp.Architecture" {
        arch: String = "architecture".kind("specs.Arch");
        sub_arches: Option<Vec<String>> = "subArchitectures".kind("[]specs.Arch");
    }

    /// A rule.
    SeccompCalls = "seccomp.Syscall" {
        names: Option<Vec<String>> = "names";
        action: String = "action".kind("specs.LinuxSeccompAction");
        errno_ret: Option<u64> = "errnoRet".kind("uint");
        args: Option<Vec<SeccompArgument>> = "args".kind("[]specs.LinuxSeccompArg");
        name: String = "name";
        comment: String = "comment";
        includes: Option<SeccompFilter> = "includes";
        excludes: Option<SeccompFilter> = "excludes";
    }

    /// A condition on one argument.
    SeccompArgument = "specs.LinuxSeccompArg" {
        index: u64 = "index".kind("uint");
        value: u64 = "value";
        value_two: u64 = "valueTwo";
        op: String = "op".kind("specs.LinuxSeccompOperator");
    }

    /// When a rule holds, or does not.
    SeccompFilter = "seccomp.Filter" {
        caps: Option<Vec<String>> = "caps";
        arches: Option<Vec<String>> = "arches";
        min_kernel: Value = "minKernel";
    }
}
