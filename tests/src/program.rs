//! An HTTP server that is not a k8s-cli server, or a malicious one.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

/// The header that identifies k8s-cli servers.
pub const SERVER: &str = "k8s-cli-server: test\r\ncontent-type: application/json\r\n";

/// A program that listens on this machine until it is dropped.
pub struct Program {
    port: u16,
}

impl Program {
    /// Starts a program on a free port. `answer` returns the response for a path.
    #[must_use]
    pub fn start(answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        Self::at(TcpListener::bind("127.0.0.1:0").unwrap(), answer)
    }

    /// Does the same on a given listener.
    #[must_use]
    pub fn at(listener: TcpListener, answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(false).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                match request(&stream) {
                    Some(path) if path == END => return,
                    Some(path) => {
                        // A client that has read enough may have closed the connection.
                        let _ = (&stream).write_all(answer(&path).as_bytes());
                    }
                    None => {}
                }
            }
        });
        Self { port }
    }

    /// Its port, as text.
    #[must_use]
    pub fn port(&self) -> String {
        self.port.to_string()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let _ = write!(stream, "GET {END} HTTP/1.1\r\n\r\n");
        }
    }
}

const END: &str = "/end-of-the-program";

/// Builds a response from a status line, headers (each with its line ending), and a body.
#[must_use]
pub fn answer(status: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}")
}

/// Reads a request to its end and returns its path.
fn request(stream: &TcpStream) -> Option<String> {
    let mut lines = BufReader::new(stream);
    let mut first = String::new();
    lines.read_line(&mut first).ok()?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    lines.read_exact(&mut vec![0; length]).ok()?;
    first.split(' ').nth(1).map(str::to_owned)
}
