//! Tells a client that begins with HTTP/2 that this server speaks HTTP/1.1.
//!
//! A proxy in front of the server offers HTTP/2 to clients. HTTP/2 without a proxy would cost each of ten thousand
//! followers more memory, and gain nothing for one stream per connection.

use tokio::net::TcpStream;

/// The beginning of every HTTP/2 connection (<https://www.rfc-editor.org/rfc/rfc9113#section-3.4>).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// An empty SETTINGS frame, with which a server begins.
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// The type of a GOAWAY frame, and its error code `HTTP_1_1_REQUIRED`, after which clients try again with HTTP/1.1
/// (<https://www.rfc-editor.org/rfc/rfc9113#section-7>).
const GOAWAY: u8 = 7;
const HTTP_1_1_REQUIRED: u32 = 0xd;

/// The reason in the GOAWAY frame.
const REASON: &[u8] = b"this server speaks HTTP/1.1; use it, or a proxy for HTTP/2";

/// Answers if the client has begun with HTTP/2. Does not wait: a new connection has room for the answer.
pub(super) fn answer(stream: &TcpStream, received: &[u8]) {
    if received.starts_with(PREFACE) {
        // If this fails, the client has gone.
        let _ = stream.try_write(&refusal());
    }
}

fn refusal() -> Vec<u8> {
    // The last stream that was processed, none, and the error code.
    let payload = [[0; 4], HTTP_1_1_REQUIRED.to_be_bytes()].concat();
    let length = u32::try_from(payload.len() + REASON.len())
        .unwrap_or_default()
        .to_be_bytes();
    let head = [length[1], length[2], length[3], GOAWAY, 0, 0, 0, 0, 0];
    [SETTINGS.as_slice(), &head, &payload, REASON].concat()
}

#[cfg(test)]
mod tests {
    use super::refusal;

    #[test]
    fn the_frames_have_the_lengths_that_they_announce() {
        let bytes = refusal();
        let goaway = &bytes[9..];
        let length = usize::from(goaway[1]) * 256 + usize::from(goaway[2]);
        assert_eq!((goaway[3], goaway.len()), (7, 9 + length));
        assert_eq!(goaway[9..17], [0, 0, 0, 0, 0, 0, 0, 0xd]);
    }
}
