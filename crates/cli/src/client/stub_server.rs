//! A server for unit tests, which answers as a function says.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::{ApiUrl, Client};
use crate::context::Context;
use crate::output::Terminal;
use crate::user::User;

/// A request.
#[derive(Debug)]
pub(crate) struct StubRequest {
    pub method: String,
    pub path: String,
    /// The header as it was sent.
    pub head: String,
    pub body: Vec<u8>,
}

/// The status with its text, and the body.
pub(crate) type StubResponse = (&'static str, Vec<u8>);

/// Starts a server, and returns what a command of alice has that speaks to it. `None` closes the connection without a
/// response.
pub(crate) async fn start_stub(respond: impl FnMut(StubRequest) -> Option<StubResponse> + Send + 'static) -> Context {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let respond = Arc::new(Mutex::new(respond));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let respond = Arc::clone(&respond);
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut head = String::new();
                while stream.read_line(&mut head).await.is_ok_and(|count| count > 2) {}
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
                stream.read_exact(&mut body).await.unwrap();
                let mut words = head.split(' ').map(str::to_owned);
                let (method, path) = (words.next().unwrap(), words.next().unwrap());
                let request = StubRequest {
                    method,
                    path,
                    head,
                    body,
                };
                let response = respond.lock().unwrap()(request);
                let Some((status, body)) = response else { return };
                let length = body.len();
                let header = task::wire::SERVER_HEADER;
                let head = format!(
                    "HTTP/1.1 {status}\r\n{header}: test\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
                );
                // The client may have closed the connection already.
                let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
            });
        }
    });
    let user = User::resolve(Some("alice")).unwrap();
    Context {
        client: Client::new(&ApiUrl::resolve(Some(&url)).unwrap(), &user, true).unwrap(),
        user,
        terminal: Terminal {
            width: None,
            color: false,
        },
    }
}
