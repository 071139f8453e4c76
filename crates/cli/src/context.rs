//! The server, user, and terminal of a command.

use std::io::ErrorKind;
use std::net::Ipv4Addr;

use tokio::net::TcpStream;

use crate::args::GlobalArgs;
use crate::client::{ApiUrl, Client};
use crate::daemon;
use crate::error::{Error, Result};
use crate::output::Terminal;
use crate::user::User;

#[derive(Debug)]
pub(crate) struct Context {
    pub client: Client,
    pub user: User,
    pub terminal: Terminal,
}

impl Context {
    /// Resolves flags, variables, and saved settings. `short_url` is the value of `-u URL`, for the commands that have
    /// it. Sends nothing yet.
    pub(crate) fn new(global: &GlobalArgs, short_url: Option<&str>) -> Result<Self> {
        let GlobalArgs {
            api_url,
            user,
            trust_local_server,
            color,
        } = global;
        let url = ApiUrl::resolve(short_url.or(api_url.as_deref()))?;
        let user = User::resolve(user.as_deref())?;
        Ok(Self {
            client: Client::new(&url, &user, *trust_local_server)?,
            user,
            terminal: Terminal::detect(*color),
        })
    }

    /// Starts the server of this machine if it was started before and does not run now, so that its tasks can be seen.
    pub(crate) async fn ensure_server(&self) -> Result<()> {
        let url = self.client.url();
        let Some(port) = url.port().filter(|_| url.is_default() && daemon::was_started()) else {
            return Ok(());
        };
        match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => daemon::start(&self.client).await,
            // Any other failure is reported by the request itself.
            _ => Ok(()),
        }
    }

    /// Runs `action`. If no server listens at the default URL, starts one and runs `action` again. This is safe even
    /// for actions that must not be repeated, because a refused connection means that nothing was sent.
    pub(crate) async fn with_server<T>(&self, action: impl AsyncFn() -> Result<T>) -> Result<T> {
        match action().await {
            Err(Error::Unreachable { source, .. }) if source.is_connect() && self.client.url().is_default() => {
                daemon::start(&self.client).await?;
                action().await
            }
            result => result,
        }
    }
}
