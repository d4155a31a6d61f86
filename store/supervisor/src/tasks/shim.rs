//! One running shim: its connection, its version of the task service, and what is known of the
//! exits it must still tell. Lives from `start` (or reconnect) to Delete or the shim's death.

use super::ttrpc::TtrpcClient;
use super::{Bundle, TaskError};
use shim_api::Timestamp;
use shim_api::bootstrap::Bootstrap;
use shim_api::prost::Message;
use shim_api::task::{Method, SERVICE_V2, SERVICE_V3};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a shim may take for one call that does no work in the container.
pub(super) const QUICK: Duration = Duration::from_secs(10);

/// An exit as Wait reports it.
#[derive(Clone, Debug, PartialEq)]
pub struct ExitStatus {
    /// The code, 128 + signal when killed.
    pub code: u32,
    /// When.
    pub at: Option<Timestamp>,
}

/// A handle on a shim.
pub(super) struct Shim {
    pub(super) bundle: Bundle,
    client: TtrpcClient,
    service: &'static str,
    /// The init process as soon as it is known.
    pub(super) pid: AtomicU32,
    /// Delete was asked for: the end of the connection is no accident.
    pub(super) ending: AtomicBool,
    /// Ends what accompanies the shim when this handle goes.
    _company: DropGuard,
    /// Set when the shim died and its remains were cleaned up.
    pub(super) dead: watch::Sender<Option<ExitStatus>>,
}

impl Shim {
    /// Connects to the shim of `bundle`.
    pub(super) async fn connect(
        bundle: Bundle,
        at: &Bootstrap,
        company: CancellationToken,
    ) -> Result<Self, TaskError> {
        let company = company.drop_guard();
        let path = Path::new(at.socket_path());
        let connected = tokio::time::timeout(QUICK, TtrpcClient::connect(path)).await;
        let lost = |what: String| TaskError::Lost { id: bundle.id.clone(), what };
        let client = connected
            .map_err(|_| lost("connecting takes too long".into()))?
            .map_err(|e| lost(format!("connecting to {}: {e}", path.display())))?;
        let service = if at.version >= 3 { SERVICE_V3 } else { SERVICE_V2 };
        let (pid, ending) = (AtomicU32::new(0), AtomicBool::new(false));
        let dead = watch::Sender::new(None);
        Ok(Self { bundle, client, service, pid, ending, _company: company, dead })
    }

    /// Calls the task service.
    pub(super) async fn call<A: Message + Default>(
        &self,
        method: Method,
        request: &impl Message,
        limit: Option<Duration>,
    ) -> Result<A, TaskError> {
        Ok(self.client.call(self.service, method.name(), request, limit).await?)
    }

    /// Resolves when the connection ended.
    pub(super) async fn lost(&self) {
        self.client.closed().cancelled().await;
    }

    /// Resolves when the shim died and was cleaned up.
    pub(super) async fn death(&self) -> ExitStatus {
        let mut dead = self.dead.subscribe();
        match dead.wait_for(Option::is_some).await.map(|seen| seen.clone()) {
            Ok(Some(status)) => status,
            _ => ExitStatus { code: 255, at: None },
        }
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }
}
