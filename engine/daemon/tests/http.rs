//! The HTTP server over raw sockets: both forms of taking a connection over,
//! half-close, early bytes, pipelining, wrong versions, vanished clients.
#![allow(clippy::unwrap_used, reason = "helpers of tests may")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use daemon::http::{ApiError, Listener, Request, Response, Router, ServerFacts, serve};
use engine_api::{ContainerCreateRequest, ErrorResponse};
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

struct Bench {
    socket: PathBuf,
    gone: Arc<AtomicUsize>,
    _folder: tempfile::TempDir,
    _stop: tokio_util::sync::DropGuard,
}

/// Answers with what it received, in capitals, once the client's half closes.
fn shouting(request: &Request) -> Response {
    let bare = request.path.ends_with("/attach");
    Response::hijack(bare, "application/vnd.docker.multiplexed-stream", |mut connection| {
        Box::pin(async move {
            let mut all = Vec::new();
            connection.reader.read_to_end(&mut all).await.unwrap();
            all.make_ascii_uppercase();
            connection.writer.write_all(&all).await.unwrap();
        })
    })
}

fn routes(gone: &Arc<AtomicUsize>) -> Router {
    let counter = Arc::clone(gone);
    let mut router = Router::new();
    router.on("SystemPing", |_| async {
        Ok(Response::new(StatusCode::OK, "text/plain; charset=utf-8", "OK"))
    });
    router.on("ContainerCreate", |r: Request| async {
        let body: ContainerCreateRequest = r.json_required().await?;
        let name = body.config.ok_or_else(|| ApiError::bad_request("config cannot be empty"))?;
        Err(ApiError::not_found(format!("No such image: {}", name.image)))
    });
    router.on("ContainerAttach", |r: Request| async move { Ok(shouting(&r)) });
    router.on("ExecStart", |r: Request| async {
        let (info, body) = r.take_body();
        body.bytes().await?;
        assert_eq!(info.params, ["e"]);
        Ok(Response::hijack(false, "application/vnd.docker.raw-stream", |mut c| {
            Box::pin(async move {
                let mut early = [0; 5];
                c.reader.read_exact(&mut early).await.unwrap();
                c.writer.write_all(&early).await.unwrap();
            })
        }))
    });
    router.on("ContainerWait", move |r: Request| {
        let counter = Arc::clone(&counter);
        async move {
            r.gone.cancelled().await;
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(Response::no_content())
        }
    });
    router.on("ImageLoad", |mut r: Request| async move {
        let mut total = 0;
        while let Some(piece) = r.body.chunk().await.unwrap() {
            total += piece.len();
        }
        let message = total.to_string();
        Ok(Response::json(&ErrorResponse { message }, r.version))
    });
    router.on("ImageInspect", |r: Request| async move {
        Err(ApiError::not_found(format!("No such image: {}", r.name())))
    });
    router
}

fn bench() -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    let gone = Arc::new(AtomicUsize::new(0));
    let stop = CancellationToken::new();
    let facts = ServerFacts::new(false);
    tokio::spawn(serve(vec![Listener::Unix(listener)], routes(&gone), facts, stop.clone()));
    Bench { socket, gone, _folder: folder, _stop: stop.drop_guard() }
}

impl Bench {
    async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    /// Sends everything, closes the sending half, reads to the end.
    async fn exchange(&self, text: &str) -> String {
        let mut s = self.connect().await;
        s.write_all(text.as_bytes()).await.unwrap();
        s.shutdown().await.unwrap();
        read_all(&mut s).await
    }
}

async fn read_all(s: &mut UnixStream) -> String {
    let mut out = Vec::new();
    let read = s.read_to_end(&mut out);
    tokio::time::timeout(Duration::from_secs(5), read).await.expect("no end").unwrap();
    String::from_utf8_lossy(&out).into_owned()
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: d\r\n\r\n")
}

#[tokio::test]
async fn requests_sent_ahead_are_answered_in_order() {
    let b = bench();
    let three = get("/_ping") + &get("/v1.24/_ping") + &get("/images/a/b/json");
    let text = b.exchange(&three).await;
    assert_eq!(text.matches("HTTP/1.1 200 OK\r\nApi-Version: 1.51\r\n").count(), 2, "{text}");
    assert!(text.contains("{\"message\":\"No such image: a/b\"}\n"), "{text}");
}

#[tokio::test]
async fn versions_out_of_range_and_unknown_pages_look_as_dockerds() {
    let b = bench();
    let old = b.exchange(&get("/v1.10/_ping")).await;
    assert!(old.starts_with("HTTP/1.1 400 Bad Request\r\nApi-Version: 1.51\r\n"), "{old}");
    assert!(old.contains("Content-Type: text/plain; charset=utf-8\r\n"), "{old}");
    assert!(old.contains("Content-Length: 117\r\n"), "{old}");
    assert!(!old.contains("Docker-Experimental"), "{old}");
    let new = b.exchange(&get("/v1.99/_ping")).await;
    let text = "client version 1.99 is too new. Maximum supported API version is 1.51";
    assert!(new.ends_with(&format!("{{\"message\":\"{text}\"}}\n")), "{new}");
    let none = b.exchange(&get("/v1.51/nope")).await;
    let head = "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nDate:";
    assert!(none.starts_with(head), "{none}");
    let options = b.exchange("OPTIONS /nope HTTP/1.1\r\nHost:\r\n\r\n").await;
    assert!(options.starts_with("HTTP/1.1 200 OK\r\n"), "{options}");
    let garbage = b.exchange("garbage\r\n\r\n").await;
    assert!(garbage.ends_with("Connection: close\r\n\r\n400 Bad Request"), "{garbage}");
}

#[tokio::test]
async fn bad_bodies_are_refused_in_the_words_of_dockerd() {
    let b = bench();
    let json = "application/json";
    let unfit =
        "invalid JSON: json: cannot unmarshal number into Go struct field .Image of type string";
    let plain = "unsupported Content-Type header (text/plain): must be 'application/json'";
    for (kind, body, want) in [
        (json, r#"{"Image":5}"#, unfit),
        (json, "{", "invalid JSON: unexpected EOF"),
        (json, r#"{"IMAGE":"x","image":"y"}"#, "No such image: y"),
        ("application/json; charset=utf-8", "{} z", "unexpected content after JSON"),
        ("text/plain", "{}", plain),
        ("", "{}", "malformed Content-Type header (): mime: no media type"),
    ] {
        let kind =
            if kind.is_empty() { String::new() } else { format!("Content-Type: {kind}\r\n") };
        let length = body.len();
        let head = format!("POST /containers/create HTTP/1.1\r\nHost:\r\n{kind}");
        let text = b.exchange(&format!("{head}Content-Length: {length}\r\n\r\n{body}")).await;
        assert!(text.ends_with(&format!("{{\"message\":\"{want}\"}}\n")), "{body}: {text}");
    }
}

#[tokio::test]
async fn both_ways_to_take_a_connection_over_keep_early_bytes_and_half_close() {
    let b = bench();
    let attach = "POST /containers/c/attach HTTP/1.1\r\nHost:\r\n";
    let upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\nhello";
    assert_eq!(
        b.exchange(&format!("{attach}{upgrade}")).await,
        "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\
         Connection: Upgrade\r\nUpgrade: tcp\r\n\r\nHELLO"
    );
    assert_eq!(
        b.exchange(&format!("{attach}\r\nhello")).await,
        "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\nHELLO"
    );
}

#[tokio::test]
async fn bytes_behind_the_body_of_exec_start_reach_the_process() {
    let b = bench();
    let mut s = b.connect().await;
    let head = "POST /v1.51/exec/e/start HTTP/1.1\r\nHost:\r\nConnection: Upgrade\r\n\
                Upgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}early";
    s.write_all(head.as_bytes()).await.unwrap();
    let text = read_all(&mut s).await;
    assert!(text.starts_with("HTTP/1.1 101 UPGRADED\r\nContent-Type: "), "{text}");
    assert!(text.contains("Api-Version: 1.51\r\n") && text.ends_with("\r\n\r\nearly"), "{text}");
}

#[tokio::test]
async fn a_vanished_client_is_noticed_while_nothing_is_written() {
    let b = bench();
    let mut s = b.connect().await;
    let head = "POST /containers/c/wait HTTP/1.1\r\nHost:\r\nContent-Length: 0\r\n\r\n";
    s.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(b.gone.load(Ordering::SeqCst), 0);
    drop(s);
    for _ in 0..100 {
        if b.gone.load(Ordering::SeqCst) == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody noticed");
}

#[tokio::test]
async fn bodies_arrive_chunked_and_after_a_hundred_continue() {
    let b = bench();
    let chunked = "POST /images/load HTTP/1.1\r\nHost:\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer: x\r\n\r\n";
    let text = b.exchange(&(chunked.to_owned() + &get("/_ping"))).await;
    assert!(text.contains("{\"message\":\"11\"}\n") && text.ends_with("OK"), "{text}");
    let mut s = b.connect().await;
    let head =
        "POST /images/load HTTP/1.1\r\nHost:\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    s.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    s.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    s.write_all(b"abc").await.unwrap();
    s.shutdown().await.unwrap();
    assert!(read_all(&mut s).await.contains("{\"message\":\"3\"}"));
}
