//! A TCP connection between a server and what it depends on, which can be cut.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Forwards connections until it is cut, and again once it is restored.
pub struct Link {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
}

impl Link {
    /// Starts to forward connections to `target`.
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_open = watch::Sender::new(true);
        tokio::spawn(forward(listener, target, is_open.subscribe()));
        Self { address, is_open }
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections, and refuses new ones.
    pub fn cut(&self) {
        self.is_open.send_replace(false);
    }

    /// Forwards new connections again.
    pub fn restore(&self) {
        self.is_open.send_replace(true);
    }
}

/// Ends when the link is dropped.
async fn forward(listener: TcpListener, target: SocketAddr, mut is_open: watch::Receiver<bool>) {
    let address = listener.local_addr().unwrap();
    let mut listener = Some(listener);
    loop {
        // A closed listener refuses connections; they would otherwise wait in its queue.
        let open = match listener.take() {
            Some(listener) => listener,
            None => TcpListener::bind(address).await.unwrap(),
        };
        let mut connections = JoinSet::new();
        let accepting = async {
            while let Ok((client, _)) = open.accept().await {
                connections.spawn(pass(client, target));
            }
        };
        tokio::select! {
            () = accepting => return,
            closed = is_open.wait_for(|is_open| !is_open) => if closed.is_err() { return },
        }
        drop((open, connections));
        if is_open.wait_for(|is_open| *is_open).await.is_err() {
            return;
        }
    }
}

async fn pass(mut client: TcpStream, target: SocketAddr) {
    if let Ok(mut server) = TcpStream::connect(target).await {
        // Either side may end a connection as it likes.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}
