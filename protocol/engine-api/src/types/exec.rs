//! Further processes in a running container.

use crate::Value;

api! {
    /// The body of `POST /containers/{id}/exec`.
    ExecCreateRequest = "container.ExecOptions" {
        user: String = "User";
        privileged: bool = "Privileged";
        tty: bool = "Tty";
        console_size: Option<[u64; 2]> = "ConsoleSize".omitempty().kind("[2]uint");
        attach_stdin: bool = "AttachStdin";
        attach_stderr: bool = "AttachStderr";
        attach_stdout: bool = "AttachStdout";
        detach: bool = "Detach".omitempty();
        detach_keys: String = "DetachKeys";
        env: Option<Vec<String>> = "Env";
        working_dir: String = "WorkingDir";
        cmd: Option<Vec<String>> = "Cmd";
    }

    /// The body of `POST /exec/{id}/start`.
    ExecStartRequest = "container.ExecStartOptions" {
        detach: bool = "Detach";
        tty: bool = "Tty";
        console_size: Option<[u64; 2]> = "ConsoleSize".omitempty().kind("[2]uint");
    }

    /// The reply of `GET /exec/{id}/json`.
    ExecInspect = "container.ExecInspectResponse" {
        id: String = "ID";
        running: bool = "Running";
        exit_code: Option<i64> = "ExitCode".kind("int");
        process_config: ExecProcessConfig = "ProcessConfig";
        open_stdin: bool = "OpenStdin";
        open_stderr: bool = "OpenStderr";
        open_stdout: bool = "OpenStdout";
        can_remove: bool = "CanRemove";
        container_id: String = "ContainerID";
        detach_keys: Value = "DetachKeys";
        pid: i64 = "Pid".kind("int");
    }

    /// What an exec runs.
    ExecProcessConfig = "container.ExecProcessConfig" {
        tty: bool = "tty".go("Tty");
        entrypoint: String = "entrypoint".go("Entrypoint");
        arguments: Vec<String> = "arguments".go("Arguments");
        privileged: Option<bool> = "privileged".go("Privileged").omitempty();
        user: String = "user".go("User").omitempty();
    }
}
