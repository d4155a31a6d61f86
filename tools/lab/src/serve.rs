//! Small HTTP servers on fixed ports inside a network namespace: files by their names, and a
//! registry's old search, which finds the same three whatever is asked for, since nothing serves
//! that any more but the one registry of the world outside.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Netns;

/// Where they listen; the same in each namespace, so that answers compare.
const SEARCH: u16 = 5099;
const FILES: u16 = 5098;

const HITS: &str = r#"{"query":"x","num_results":3,"results":[
{"name":"foo","description":"a foo\nwhose description is longer than anybody would want to read","star_count":5,"is_official":true,"is_automated":false},
{"name":"u/foo<&>","description":"","star_count":0,"is_official":false,"is_automated":true},
{"name":"third","description":"t\u00e4st","star_count":100}]}"#;

/// Serves searches inside `netns` for as long as this process lives.
pub fn serve_search(netns: &Netns) -> Result<SocketAddr> {
    serve(netns, SEARCH, |path| match path {
        path if path.starts_with("/v1/_ping") => Some(b"{\"standalone\":true}".to_vec()),
        path if path.starts_with("/v1/search") => Some(HITS.as_bytes().to_vec()),
        _ => None,
    })
}

/// Serves files by name inside `netns` for as long as this process lives.
pub fn serve_files(netns: &Netns, files: BTreeMap<String, Vec<u8>>) -> Result<SocketAddr> {
    serve(netns, FILES, move |path| files.get(path.trim_start_matches('/')).cloned())
}

fn serve(
    netns: &Netns,
    port: u16,
    answer: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> Result<SocketAddr> {
    let place = netns.path();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = thread::spawn(move || -> Result<TcpListener> {
        let namespace = File::open(&place)?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(TcpListener::bind(address)?)
    });
    let listener = listener.join().ok().context("the thread in the namespace")??;
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            thread::spawn(move || reply(stream, &*answer));
        }
    });
    Ok(address)
}

fn reply(mut stream: TcpStream, answer: &dyn Fn(&str) -> Option<Vec<u8>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let found = answer(first.split(' ').nth(1).unwrap_or_default());
    let status = if found.is_some() { "200 OK" } else { "404 Not Found" };
    let body = found.unwrap_or_else(|| b"nothing here\n".to_vec());
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Docker-Registry-Version: 0.6\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)
}
