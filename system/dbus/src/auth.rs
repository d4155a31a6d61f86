//! Authentication: the lines that come before messages. Only EXTERNAL: the kernel tells the other
//! side who we are, so no name is sent, which is right inside user namespaces too.

use crate::error::{Error, Result};

/// All of our side at once: it does not depend on the other's answers, and each answer awaited
/// would cost a round trip.
const ALL: &[u8] = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";
/// No sound server says more before the first message.
const MOST: usize = 4096;

/// The client's side of the authentication.
#[derive(Debug, Default)]
pub struct Handshake {
    buffer: Vec<u8>,
}

impl Handshake {
    /// What to send; messages may follow it at once.
    pub fn hello() -> &'static [u8] {
        ALL
    }

    /// Takes bytes of the server; once it has let us in, gives those that belong to messages.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        self.buffer.extend_from_slice(bytes);
        while let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
            let rest = self.buffer.split_off(end + 2);
            let line = std::mem::replace(&mut self.buffer, rest);
            let line = String::from_utf8_lossy(&line[..end]).into_owned();
            match line.split(' ').next() {
                Some("OK") => return Ok(Some(std::mem::take(&mut self.buffer))),
                Some("DATA") => {}
                _ => return Err(Error::Refused(line)),
            }
        }
        if self.buffer.len() > MOST {
            return Err(Error::Refused("the other side does not speak D-Bus".to_owned()));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_ends_at_ok_and_keeps_what_follows() {
        let whole = b"DATA\r\nOK 1234deadbeef\r\nl\x02\x01\x01";
        for cut in 0..whole.len() {
            let mut hand = Handshake::default();
            let first = hand.take(&whole[..cut]).unwrap();
            let all = match first {
                Some(mut rest) => {
                    rest.extend_from_slice(&whole[cut..]);
                    rest
                }
                None => hand.take(&whole[cut..]).unwrap().unwrap(),
            };
            assert_eq!(all, b"l\x02\x01\x01");
        }
        let refused = Handshake::default().take(b"REJECTED DBUS_COOKIE_SHA1\r\n").unwrap_err();
        assert!(refused.to_string().contains("DBUS_COOKIE_SHA1"));
        assert!(Handshake::default().take(&[b'x'; 5000]).is_err());
    }
}
