//! `checkpoint` and `restore`: flags → what CRIU is asked for.

use crate::Global;
use crate::args::Parsed;
use crate::commands::{Failure, failure, request};
use runtime::Criu;
use std::path::PathBuf;

/// Saves a container.
pub(crate) fn save(global: &Global, parsed: &Parsed) -> Result<(), Failure> {
    warn_of_rootless(global, "checkpoint");
    let criu = options(parsed)?;
    let warn = &mut |line: &str| global.log.write("warning", line);
    Ok(runtime::checkpoint(&global.root, &parsed.rest[0], &criu, warn)?)
}

/// Brings one back; the exit code is the container's own.
pub(crate) fn bring_back(global: &Global, parsed: &Parsed) -> Result<i32, Failure> {
    warn_of_rootless(global, "restore");
    let criu = options(parsed)?;
    if let Some(bundle) = parsed.value("bundle") {
        rustix::fs::access(bundle, rustix::fs::Access::EXISTS).map_err(|error| {
            failure(format!("chdir {bundle}: {}", runtime::Lower(&error.into())))
        })?;
    }
    let warn = &mut |line: &str| global.log.write("warning", line);
    Ok(runtime::restore(&request(global, parsed)?, &criu, warn)?)
}

fn warn_of_rootless(global: &Global, command: &str) {
    if global.is_rootless() {
        let text = format!("runc {command} is untested with rootless containers");
        global.log.write("warning", &text);
    }
}

fn options(parsed: &Parsed) -> Result<Criu, Failure> {
    let path = |name: &str| parsed.value(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let text = |name: &str| parsed.value(name).filter(|v| !v.is_empty()).map(str::to_owned);
    for namespace in parsed.all("empty-ns") {
        // The network's is always made empty: no runtime fills it.
        if namespace != "network" {
            return Err(failure(format!("namespace {namespace:?} is not supported")));
        }
    }
    let status_fd = match parsed.value("status-fd").map(str::parse::<i32>) {
        None | Some(Ok(-1)) => None,
        Some(Ok(number)) => Some(number),
        Some(Err(_)) => {
            let text = parsed.value("status-fd").unwrap_or_default();
            return Err(failure(format!("invalid value {text:?} for flag -status-fd")));
        }
    };
    Ok(Criu {
        images: path("image-path").unwrap_or_else(|| PathBuf::from("checkpoint")),
        work: path("work-path"),
        parent: path("parent-path"),
        leave_running: parsed.is_on("leave-running"),
        tcp_established: parsed.is_on("tcp-established"),
        tcp_skip_in_flight: parsed.is_on("tcp-skip-in-flight"),
        link_remap: parsed.is_on("link-remap"),
        ext_unix_sk: parsed.is_on("ext-unix-sk"),
        shell_job: parsed.is_on("shell-job"),
        lazy_pages: parsed.is_on("lazy-pages"),
        status_fd,
        page_server: text("page-server").map(|text| page_server(&text)).transpose()?,
        file_locks: parsed.is_on("file-locks"),
        pre_dump: parsed.is_on("pre-dump"),
        cgroups_mode: text("manage-cgroups-mode").unwrap_or_default(),
        auto_dedup: parsed.is_on("auto-dedup"),
        lsm_profile: text("lsm-profile"),
        lsm_mount_context: text("lsm-mount-context"),
    })
}

/// `ADDRESS:PORT`, an IPv6 address in brackets.
fn page_server(text: &str) -> Result<(String, u16), Failure> {
    let parts =
        text.rsplit_once(':').filter(|(address, port)| !address.is_empty() && !port.is_empty());
    let Some((address, port)) = parts else {
        return Err(failure("Use --page-server ADDRESS:PORT to specify page server"));
    };
    let port = port.parse().map_err(|_| failure("Invalid port number"))?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    Ok((address.to_owned(), port))
}
