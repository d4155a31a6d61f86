//! Property tests of the ttrpc codec: any split of any traffic, and foreign bytes.

use super::*;
use proptest::prelude::*;

fn pump(client: &mut Client, server: &mut Server, cut: usize) {
    let wire = client.pending().to_vec();
    client.advance(wire.len());
    for piece in wire.chunks(cut) {
        server.feed(piece).unwrap();
    }
}

proptest! {
    #[test]
    fn calls_and_replies_survive_any_split(
        list in proptest::collection::vec(("[a-z.]{0,20}", "[A-Z]{0,9}", ".{0,200}"), 0..10),
        cut in 1usize..80,
    ) {
        let (mut client, mut server) = (Client::default(), Server::default());
        let mut streams = Vec::new();
        for (service, method, text) in &list {
            streams.push(client.call(service, method, text, 7).unwrap());
        }
        pump(&mut client, &mut server, cut);
        for ((service, method, text), stream) in list.iter().zip(&streams) {
            let call = server.next_call().unwrap();
            prop_assert_eq!((&call.service, &call.method, call.stream), (service, method, *stream));
            prop_assert_eq!(&String::decode(&call.payload[..]).unwrap(), text);
            let failed = Status::new(Code::NotFound, text.clone());
            let answer = if text.len() % 2 == 0 { Ok(call.payload) } else { Err(failed) };
            server.reply(call.stream, answer);
        }
        prop_assert!(server.next_call().is_none());
        let wire = server.pending().to_vec();
        server.advance(wire.len());
        for piece in wire.chunks(cut) {
            client.feed(piece).unwrap();
        }
        for ((_, _, text), stream) in list.iter().zip(&streams) {
            let reply = client.next_reply().unwrap();
            prop_assert_eq!(reply.stream, *stream);
            match reply.result {
                Ok(bytes) => prop_assert_eq!(&String::decode(&bytes[..]).unwrap(), text),
                Err(status) => prop_assert_eq!(
                    status, Status::new(Code::NotFound, text.clone())),
            }
        }
    }

    #[test]
    fn foreign_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 1usize..40,
    ) {
        let (mut client, mut server) = (Client::default(), Server::default());
        for piece in bytes.chunks(cut) {
            let _ = client.feed(piece);
            let _ = server.feed(piece);
        }
    }
}

#[test]
fn an_oversized_request_is_answered_and_skipped() {
    let mut server = Server::default();
    let length = (MAX_PAYLOAD + 1) as u32;
    let mut wire = length.to_be_bytes().to_vec();
    wire.extend_from_slice(&[0, 0, 0, 1, 1, 0]);
    server.feed(&wire).unwrap();
    server.feed(&vec![0; MAX_PAYLOAD + 1]).unwrap();
    let mut client = Client::default();
    client.call("s", "m", &String::new(), 0).unwrap();
    client.advance(usize::MAX);
    client.call("s", "after", &String::new(), 0).unwrap();
    server.feed(client.pending()).unwrap();
    assert_eq!(server.next_call().unwrap().method, "after");
    client.feed(server.pending()).unwrap();
    let failure = client.next_reply().unwrap().result.unwrap_err();
    assert_eq!(failure.code, Code::ResourceExhausted);
}

#[test]
fn a_reused_stream_breaks_the_connection() {
    let mut client = Client::default();
    client.call("s", "m", &String::new(), 0).unwrap();
    let frame = client.pending().to_vec();
    let mut server = Server::default();
    server.feed(&frame).unwrap();
    assert_eq!(server.feed(&frame), Err(ProtocolError::Stream(1)));
}

#[test]
fn the_bytes_are_those_of_the_reference() {
    let mut client = Client::default();
    client.call("s", "m", &String::new(), 0).unwrap();
    assert_eq!(client.pending(), [0, 0, 0, 6, 0, 0, 0, 1, 1, 0, 10, 1, b's', 18, 1, b'm']);
}
