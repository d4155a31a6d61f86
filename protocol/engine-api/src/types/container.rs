//! What a container shall run: the body of create, and small replies about
//! containers. Resources and isolation are in `host_config`.

use std::collections::BTreeMap;

use super::{EndpointSettings, HostConfig, Resources, RestartPolicy, StringMap, StringSet};
use crate::GoDuration;

api! {
    /// What runs, independent of the host.
    ContainerConfig = "container.Config" {
        hostname: String = "Hostname";
        domainname: String = "Domainname";
        user: String = "User";
        attach_stdin: bool = "AttachStdin";
        attach_stdout: bool = "AttachStdout";
        attach_stderr: bool = "AttachStderr";
        exposed_ports: Option<StringSet> = "ExposedPorts".omitempty().kind("nat.PortSet");
        tty: bool = "Tty";
        open_stdin: bool = "OpenStdin";
        stdin_once: bool = "StdinOnce";
        env: Option<Vec<String>> = "Env";
        cmd: Option<Vec<String>> = "Cmd".words();
        healthcheck: Option<HealthConfig> = "Healthcheck".omitempty();
        args_escaped: bool = "ArgsEscaped".omitempty();
        image: String = "Image";
        volumes: Option<StringSet> = "Volumes";
        working_dir: String = "WorkingDir";
        entrypoint: Option<Vec<String>> = "Entrypoint".words();
        network_disabled: bool = "NetworkDisabled".omitempty();
        mac_address: String = "MacAddress".omitempty();
        on_build: Option<Vec<String>> = "OnBuild";
        labels: Option<StringMap> = "Labels";
        stop_signal: String = "StopSignal".omitempty();
        stop_timeout: Option<i64> = "StopTimeout".omitempty().kind("int");
        shell: Option<Vec<String>> = "Shell".omitempty().words();
    }

    /// How health is probed. An empty `Test` inherits the image's.
    HealthConfig = "v1.HealthcheckConfig" {
        test: Option<Vec<String>> = "Test".omitempty();
        interval: GoDuration = "Interval".omitempty();
        timeout: GoDuration = "Timeout".omitempty();
        start_period: GoDuration = "StartPeriod".omitempty();
        start_interval: GoDuration = "StartInterval".omitempty();
        retries: i64 = "Retries".omitempty().kind("int");
    }

    /// The body of `POST /containers/create`. Without any member of the
    /// configuration `config` stays `None`, which is an error of its own.
    ContainerCreateRequest = "container.CreateRequest" as "" {
        config: Option<ContainerConfig> = "".embedded();
        host_config: Option<HostConfig> = "HostConfig".omitempty();
        networking_config: Option<NetworkingConfig> = "NetworkingConfig".omitempty();
    }

    /// The networks to join, by name or id.
    NetworkingConfig = "network.NetworkingConfig" {
        endpoints_config: Option<BTreeMap<String, Option<EndpointSettings>>> =
            "EndpointsConfig".kind("map[string]*network.EndpointSettings");
    }

    /// The reply of create.
    ContainerCreateResponse = "container.CreateResponse" {
        id: String = "Id".go("ID");
        warnings: Vec<String> = "Warnings";
    }

    /// The reply of `wait`.
    ContainerWaitResponse = "container.WaitResponse" {
        error: Option<ContainerWaitExitError> = "Error".omitempty();
        status_code: i64 = "StatusCode";
    }

    /// Why a container's exit could not be seen or its removal failed.
    ContainerWaitExitError = "container.WaitExitError" {
        message: String = "Message".omitempty();
    }

    /// The reply of `top`.
    ContainerTopResponse = "container.TopResponse" {
        processes: Option<Vec<Vec<String>>> = "Processes";
        titles: Option<Vec<String>> = "Titles";
    }

    /// One change of a container's file system.
    FilesystemChange = "container.FilesystemChange" {
        path: String = "Path";
        kind: u8 = "Kind".kind("container.ChangeType");
    }

    /// The body of `POST /containers/{id}/update`.
    ContainerUpdateRequest = "container.UpdateConfig" {
        resources: Resources = "".embedded();
        restart_policy: RestartPolicy = "RestartPolicy";
    }

    /// The reply of update.
    ContainerUpdateResponse = "container.UpdateResponse" {
        warnings: Option<Vec<String>> = "Warnings";
    }

    /// The reply of `POST /containers/prune`.
    ContainersPruneReport = "container.PruneReport" {
        containers_deleted: Option<Vec<String>> = "ContainersDeleted";
        space_reclaimed: u64 = "SpaceReclaimed";
    }

    /// An id alone: the reply of exec create and commit.
    IdResponse = "common.IDResponse" {
        id: String = "Id".go("ID");
    }

    /// What `X-Docker-Container-Path-Stat` holds.
    PathStat = "container.PathStat" {
        name: String = "name".go("Name");
        size: i64 = "size".go("Size");
        mode: u32 = "mode".go("Mode").kind("fs.FileMode");
        mtime: crate::Time = "mtime".go("Mtime");
        link_target: String = "linkTarget".go("LinkTarget");
    }
}
