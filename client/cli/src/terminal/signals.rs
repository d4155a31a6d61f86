//! Signals: passed on to a container, and the terminal's change of size.

use crate::session::Session;
use crate::terminal::raw;
use engine_client::Query;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that are passed on, by name.
const PASSED: [(i32, &str); 9] = [
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (10, "USR1"),
    (12, "USR2"),
    (14, "ALRM"),
    (15, "TERM"),
    (18, "CONT"),
    (20, "TSTP"),
];

/// Signals that are caught from the moment this is made.
pub(crate) struct Signals(Vec<(&'static str, Signal)>);

impl Signals {
    /// Catches the signals that are passed on.
    pub(crate) fn catch() -> Self {
        let caught = PASSED.iter().filter_map(|(number, name)| {
            Some((*name, signal(SignalKind::from_raw(*number)).ok()?))
        });
        Self(caught.collect())
    }

    /// The name of the next signal.
    pub(crate) async fn next(&mut self) -> &'static str {
        std::future::poll_fn(|cx| {
            for (name, signal) in &mut self.0 {
                if signal.poll_recv(cx).is_ready() {
                    return std::task::Poll::Ready(*name);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}

/// Passes signals on to a container, for ever.
pub(crate) async fn pass_on(session: &Session, mut signals: Signals, container: &str) {
    loop {
        let name = signals.next().await;
        let Ok(client) = session.client().await else { return };
        let query = Query::new().with("signal", name);
        if let Err(error) = client.post(&format!("/containers/{container}/kill"), &query).await {
            session.tell(&format!("{error}"));
        }
    }
}

/// Tells the daemon the terminal's size, now and whenever it changes, for ever.
pub(crate) async fn follow_size(session: &Session, path: &str) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    loop {
        let (height, width) = raw::size();
        if let Ok(client) = session.client().await
            && (height, width) != (0, 0)
        {
            let query = Query::new().with("h", &height.to_string()).with("w", &width.to_string());
            let _ = client.post(path, &query).await;
        }
        changes.recv().await;
    }
}
