//! Access to a server.

mod error_response;
mod handshake;
mod http;
mod outage;
mod peer_check;
mod responses;
mod retry;
mod url;

pub use self::http::Client;
pub use outage::{Outage, is_transient};
pub use responses::{
    CreateVolumeResponse, DryRunResponse, NodesResponse, RemoveResponse, StopAllResponse, SubmitResponse,
};
pub use url::ApiUrl;
