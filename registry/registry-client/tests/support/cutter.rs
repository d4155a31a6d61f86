//! A TCP relay that cuts connections: breaks between a client and a real server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The relay. The first connection that carries more than `after` bytes in one direction
/// is cut there, `times` times in all.
pub struct Cutter {
    pub address: SocketAddr,
    cuts: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Cutter {
    pub async fn start(target: SocketAddr, after: usize, times: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let left = Arc::new(AtomicUsize::new(times));
        let cuts = Arc::new(AtomicUsize::new(0));
        let counted = cuts.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (left, cuts) = (left.clone(), counted.clone());
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(target).await else { return };
                    let (client_in, client_out) = client.into_split();
                    let (server_in, server_out) = server.into_split();
                    tokio::select! {
                        () = copy(client_in, server_out, after, &left, &cuts) => {}
                        () = copy(server_in, client_out, after, &left, &cuts) => {}
                    }
                });
            }
        });
        Self { address, cuts, task }
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    after: usize,
    left: &AtomicUsize,
    cuts: &AtomicUsize,
) {
    let mut buffer = vec![0; 64 << 10];
    let mut passed = 0;
    loop {
        let Ok(read) = from.read(&mut buffer).await else { return };
        if read == 0 {
            to.shutdown().await.ok();
            // The other direction goes on.
            std::future::pending::<()>().await;
        }
        passed += read;
        let take = |n: usize| n.checked_sub(1);
        if passed > after && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
            cuts.fetch_add(1, Ordering::SeqCst);
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
