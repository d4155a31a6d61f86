//! Settings that change while the daemon runs.

use std::sync::Arc;

use rustix::system::uname;
use tokio::sync::watch;
use tracing::{error, info};

use super::registries;
use crate::config::Settings;
use crate::engine::Engine;
use crate::routes::system::engine_id;

/// Takes over each new configuration: whatever begins from then on goes by it.
pub(super) async fn follow(engine: Arc<Engine>, mut reloads: watch::Receiver<Settings>) {
    while reloads.changed().await.is_ok() {
        let settings = reloads.borrow_and_update().clone();
        match registries::remote(&settings) {
            Ok(remote) => engine.remote.store(Arc::new(remote)),
            Err(e) => {
                error!("reloading the configuration: {e}");
                continue;
            }
        }
        let mut told = settings.told();
        told.insert("name".into(), uname().nodename().to_string_lossy().into_owned());
        let id = engine_id(&settings);
        engine.current.store(Arc::new(settings));
        info!("the configuration is reloaded");
        engine.events.publish("daemon", "reload", &id, told);
    }
}
