//! Sends requests to a server whose identity it has checked, and retries them during outages.

mod error_response;
mod handshake;
mod http;
mod outage;
mod responses;
mod retry;
#[cfg(test)]
mod stub_server;
mod untrusted_peer;
mod upload_body;
mod url;

pub(crate) use self::http::Client;
pub(crate) use outage::{MAX_BACKOFF, MAX_OUTAGE, Outage, is_transient, patiently};
pub(crate) use responses::{
    CancelAllResponse, CreateVolumeResponse, DryRunResponse, FileLimitsResponse, FilesUploadResponse, GpusResponse,
    GroupSubmitResponse, NodesResponse, OutputsResponse, RemoveResponse, StopAllResponse, SubmitResponse,
};
#[cfg(test)]
pub(crate) use stub_server::{StubRequest, StubResponse, start_stub};
pub(crate) use url::ApiUrl;
