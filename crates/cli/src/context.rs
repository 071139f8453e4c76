//! What every command needs: the server, the user, the terminal.

use crate::args::Global;
use crate::client::{ApiUrl, Client};
use crate::error::{Error, Result};
use crate::local;
use crate::output::Terminal;
use crate::user::User;

/// Who asks which server, and where the answer goes.
#[derive(Debug)]
pub struct Context {
    /// Access to the server.
    pub client: Client,
    /// Who asks.
    pub user: User,
    /// Where the answer goes.
    pub terminal: Terminal,
}

impl Context {
    /// Finds all of it. `short_url` is the `-u` of the commands that have it. Nothing is sent yet.
    ///
    /// # Errors
    /// The address or the user is none.
    pub fn new(global: &Global, short_url: Option<&str>) -> Result<Self> {
        let Global {
            api_url,
            user,
            trust_local_server,
            color,
        } = global;
        let url = ApiUrl::find(short_url.or(api_url.as_deref()))?;
        let user = User::find(user.as_deref())?;
        Ok(Self {
            client: Client::new(&url, &user, *trust_local_server)?,
            user,
            terminal: Terminal::find(*color),
        })
    }

    /// Does something; where nobody listens and nobody has named a server, starts one and does it then.
    ///
    /// # Errors
    /// It fails, or the server does not start.
    pub async fn with_server<T>(&self, action: impl AsyncFn() -> Result<T>) -> Result<T> {
        match action().await {
            Err(Error::Unreachable { source, .. }) if source.is_connect() && self.client.url().is_default() => {
                local::start(&self.client).await?;
                action().await
            }
            done => done,
        }
    }
}
