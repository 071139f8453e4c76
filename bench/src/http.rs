//! HTTP/1.1 with as little work as possible: on a machine with two cores, the client must not compete with the server.

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A keep-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

pub(crate) struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(64 * 1024),
        })
    }

    /// Requests the log of a task and waits for its first byte.
    pub(crate) async fn first_byte_of_log(&mut self, task: &str) -> anyhow::Result<()> {
        let request = format!("GET /tasks/{task}/logs HTTP/1.1\r\nhost: localhost\r\nx-user: bench\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        loop {
            anyhow::ensure!(
                self.stream.read_buf(&mut self.buffer).await? > 0,
                "the connection closed before the log began"
            );
            let head = self.buffer.windows(4).position(|window| window == b"\r\n\r\n");
            if head.is_some_and(|end| self.buffer.len() > end + 4) {
                return Ok(());
            }
        }
    }

    /// Follows the log of a task to its end, and returns the number of bytes. The connection ends with it.
    pub(crate) async fn whole_log(mut self, task: &str) -> anyhow::Result<usize> {
        let request =
            format!("GET /tasks/{task}/logs HTTP/1.1\r\nhost: localhost\r\nx-user: bench\r\nconnection: close\r\n\r\n");
        self.stream.write_all(request.as_bytes()).await?;
        let mut bytes = 0;
        let mut last = Vec::new();
        loop {
            self.buffer.clear();
            let read = self.stream.read_buf(&mut self.buffer).await?;
            if read == 0 {
                // The last chunk of a complete response is empty.
                anyhow::ensure!(last.ends_with(b"0\r\n\r\n"), "the log was aborted");
                return Ok(bytes);
            }
            bytes += read;
            last.extend_from_slice(&self.buffer[read.saturating_sub(5)..]);
            last.drain(..last.len().saturating_sub(5));
        }
    }

    /// Sends a request as user `bench` and reads the response, which must have a `content-length`.
    pub(crate) async fn send(&mut self, method: &str, path: &str, body: Option<&str>) -> anyhow::Result<Answer> {
        let body = body.unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nx-user: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        let head = loop {
            anyhow::ensure!(
                self.stream.read_buf(&mut self.buffer).await? > 0,
                "the connection closed"
            );
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let text = std::str::from_utf8(&self.buffer[..head])?;
        let status = text.get(9..12).context("the response has no status")?.parse()?;
        let length: usize = text
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .context("the response has no content-length")?
            .1
            .parse()?;
        while self.buffer.len() < head + length {
            anyhow::ensure!(
                self.stream.read_buf(&mut self.buffer).await? > 0,
                "the connection closed"
            );
        }
        Ok(Answer {
            status,
            body: self.buffer[head..head + length].to_vec(),
        })
    }
}
