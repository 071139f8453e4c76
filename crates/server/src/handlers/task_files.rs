//! Handlers that send the files of a task to its nodes, which prove who they are with the token of the task.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use executor::{FileAccess, Purpose};
use files::{Content, ContentHash, ManifestHash, pack_head};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use task::validation::LocItem;
use task::{ErrorDetail, UserName};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::budgeted::budgeted_response;
use crate::app::{App, AppState};
use crate::client::Requester;
use crate::error::{ApiError, ApiResult};
use crate::extract::{Anonymous, ResourceId, read_json};
use crate::limits::{MAX_REQUESTED_BYTES, MAX_REQUESTED_CONTENTS, time_allowed};
use crate::memory_budget::MemoryPermit;
use crate::task_token::task_token;

/// How much is read ahead for a request whose contents are small.
const READ_AHEAD_BYTES: usize = 4 << 20;

/// How many contents are read concurrently for a request.
const MAX_CONCURRENT_READS: usize = 16;

/// A content up to this size is sent in one piece with its length.
const COPIED_BYTES: usize = 16 * 1024;

/// Contents to send.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ContentsRequest {
    /// SHA-256 of each content, in the order in which they are sent.
    #[schema(max_items = 1000)]
    contents: Vec<String>,
}

/// Get the manifest of a file set of a task.
///
/// For the nodes of the task, with the token of the task.
#[utoipa::path(
    get, path = "/files/{file_set_id}/manifest", operation_id = "download_manifest", tag = "files",
    params(("file_set_id" = String, Path, description = "ID of the file set.")),
    responses(
        (status = 200, description = "The manifest, a line of JSON for each entry.", body = String, content_type = "application/octet-stream"),
        (status = 404, description = "The file set is no longer stored."),
    ),
)]
pub(crate) async fn download_manifest(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    Anonymous(requester): Anonymous,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let (user, set) = authorize(&app, &headers, &id).await?;
    send_manifest(&app, &requester, &user, &set).await
}

/// The response with a manifest.
pub(super) async fn send_manifest(
    app: &AppState,
    requester: &Requester,
    user: &UserName,
    set: &ManifestHash,
) -> ApiResult<Response> {
    let found = app.files.encoded_manifest(user.as_str(), set).await;
    let found = found.map_err(|source| ApiError::executor("send files", user, source.into()))?;
    let manifest = found.ok_or_else(|| gone("the file set"))?;
    budgeted_response(&app.limits, requester, octets(manifest.into()))
}

/// Get contents of a file set of a task.
///
/// For the nodes of the task, with the token of the task. The response has the contents in the order of the request,
/// each a 4-byte big-endian length followed by its bytes. A request may ask for 1,000 contents of 8 MiB in all.
#[utoipa::path(
    post, path = "/files/{file_set_id}/contents", operation_id = "download_contents", tag = "files",
    params(("file_set_id" = String, Path, description = "ID of the file set.")),
    request_body = ContentsRequest,
    responses(
        (status = 200, description = "The contents.", body = String, content_type = "application/octet-stream"),
        (status = 404, description = "The file set, or the first content, is no longer stored."),
    ),
)]
pub(crate) async fn download_contents(
    State(app): State<AppState>,
    ResourceId(id): ResourceId,
    Anonymous(requester): Anonymous,
    request: Request,
) -> ApiResult<Response> {
    let (user, set) = authorize(&app, request.headers(), &id).await?;
    send_contents(&app, &requester, (user, set), request).await
}

/// The response with the contents that a request names.
pub(super) async fn send_contents(
    app: &AppState,
    requester: &Requester,
    (user, set): (UserName, ManifestHash),
    request: Request,
) -> ApiResult<Response> {
    let hashes = read_json(app, request, parse_contents).await?;
    let known = app.file_sets.contents(&app.files, &user, &set).await;
    let known = known.map_err(|source| ApiError::executor("send files", &user, source.into()))?;
    let known = known.ok_or_else(|| gone("the file set"))?;
    let contents = hashes
        .iter()
        .map(|hash| known.get(hash))
        .collect::<Option<Vec<Content>>>();
    let contents = contents.ok_or_else(|| invalid("the file set has no such content".to_owned()))?;
    let bytes: u64 = contents.iter().map(|content| u64::from(content.length())).sum();
    if contents.len() > 1 && bytes > MAX_REQUESTED_BYTES {
        return Err(invalid(format!(
            "the contents have more than {MAX_REQUESTED_BYTES} bytes"
        )));
    }
    let plan = ReadPlan::of(&contents, bytes);
    // Taken before anything is read.
    let memory = app.limits.acquire_file_memory(requester, plan.memory).await?;
    let length = bytes + 4 * contents.len() as u64;
    let mut packed = Box::pin(pack(Arc::clone(&app.0), user, contents, plan.concurrent_reads));
    // A content that is gone is told by the status. Later ones cut the response, and are the first of the next request.
    let first = packed.next().await.transpose()?;
    let rest = packed.map_err(|_| io::Error::other("a content is gone"));
    let memory = Arc::new(memory);
    let held = stream::iter(first.map(Ok)).chain(with_deadline(rest));
    let hold = move |bytes| HeldBytes {
        bytes,
        _memory: Arc::clone(&memory),
    };
    let held = held.map_ok(move |bytes| Bytes::from_owner(hold(bytes)));
    let mut response = octets(Body::from_stream(held));
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(response)
}

/// Whose file set it is that the token in a request gives access to. A user is not enough, even if they may read the files:
/// a proxy that authenticates users lets these requests pass as they are.
async fn authorize(app: &App, headers: &HeaderMap, id: &str) -> ApiResult<(UserName, ManifestHash)> {
    let set: ManifestHash = id.parse().map_err(|_| refused())?;
    let access = access_of_task(app, headers, Purpose::Fetch).await?;
    match access.sets.contains(&set) {
        true => Ok((access.user, set)),
        false => Err(refused()),
    }
}

/// What the token of a task in a request gives access to.
pub(super) async fn access_of_task(app: &App, headers: &HeaderMap, purpose: Purpose) -> ApiResult<FileAccess> {
    let token = task_token(headers).ok_or_else(refused)?;
    let _permit = app.limits.acquire_kubernetes_call()?;
    let access = app
        .executor
        .file_access(token, purpose)
        .await
        .map_err(ApiError::Token)?;
    access.ok_or_else(refused)
}

/// The same words whatever is wrong.
fn refused() -> ApiError {
    ApiError::Forbidden(
        "the token gives no access to these files: it must belong to an unfinished task that uses them".to_owned(),
    )
}

fn parse_contents(body: &Value) -> Result<Vec<ContentHash>, Vec<ErrorDetail>> {
    let error = |reason: String| vec![ErrorDetail::value_error([LocItem::from("body")], reason, Value::Null)];
    let request: ContentsRequest =
        serde::Deserialize::deserialize(body).map_err(|reason: serde_json::Error| error(reason.to_string()))?;
    if !(1..=MAX_REQUESTED_CONTENTS).contains(&request.contents.len()) {
        return Err(error(format!(
            "a request asks for 1 to {MAX_REQUESTED_CONTENTS} contents"
        )));
    }
    let hashes = request.contents.iter().map(|hash| hash.parse());
    hashes
        .collect::<Result<_, files::InvalidHash>>()
        .map_err(|reason| error(format!("invalid hash; {reason}")))
}

/// How contents are read, and what memory that takes.
#[derive(Debug, PartialEq, Eq)]
struct ReadPlan {
    concurrent_reads: usize,
    memory: usize,
}

impl ReadPlan {
    fn of(contents: &[Content], bytes: u64) -> Self {
        let largest = contents
            .iter()
            .map(|content| content.length() as usize)
            .max()
            .unwrap_or(1);
        let concurrent_reads = (READ_AHEAD_BYTES / largest).clamp(1, MAX_CONCURRENT_READS);
        // One more is being sent.
        let memory = (concurrent_reads + 1).saturating_mul(largest);
        Self {
            concurrent_reads,
            memory: memory.min(usize::try_from(bytes).unwrap_or(usize::MAX)),
        }
    }
}

/// Reads contents, and puts the length before each.
fn pack(
    app: Arc<App>,
    user: UserName,
    contents: Vec<Content>,
    concurrent_reads: usize,
) -> impl Stream<Item = ApiResult<Bytes>> + Send {
    let read = move |content: Content| {
        let (app, user) = (Arc::clone(&app), user.clone());
        async move {
            let found = app.files.contents(user.as_str(), [content]).await;
            let found = found.map_err(|source| ApiError::executor("send files", &user, source.into()))?;
            let bytes = found.and_then(|mut found| found.remove(content.hash()));
            let bytes = bytes.ok_or_else(|| gone(&format!("the content {}", content.hash())))?;
            Ok(with_head(content.length(), bytes))
        }
    };
    let reads = stream::iter(contents).map(read).buffered(concurrent_reads);
    reads
        .map_ok(|pieces| stream::iter(pieces.into_iter().map(Ok)))
        .try_flatten()
}

/// Bytes that hold a share of the memory until they are sent. A body would release it too early: hyper drops that once it
/// has the last bytes, which are megabytes here.
struct HeldBytes {
    bytes: Bytes,
    _memory: Arc<MemoryPermit>,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A content behind its length.
fn with_head(length: u32, content: Bytes) -> Vec<Bytes> {
    let head = pack_head(length);
    if content.len() > COPIED_BYTES {
        return vec![Bytes::copy_from_slice(&head), content];
    }
    let mut piece = BytesMut::with_capacity(head.len() + content.len());
    piece.extend_from_slice(&head);
    piece.extend_from_slice(&content);
    vec![piece.freeze()]
}

/// Ends a body whose reader is too slow for the memory that it holds. It continues with another request.
fn with_deadline<S: Stream<Item = io::Result<Bytes>>>(body: S) -> impl Stream<Item = io::Result<Bytes>> {
    let start = Instant::now();
    body.scan(0, move |sent: &mut usize, piece| {
        let piece = piece.and_then(|piece| {
            if start.elapsed() > time_allowed(*sent) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            *sent += piece.len();
            Ok(piece)
        });
        std::future::ready(Some(piece))
    })
}

fn octets(body: Body) -> Response {
    let mut response = body.into_response();
    let kind = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// What a token gives access to, but nobody has anymore.
fn gone(what: &str) -> ApiError {
    ApiError::NotFound(format!("{what} is no longer stored; submit the task again"))
}

fn invalid(reason: String) -> ApiError {
    ApiError::Invalid(vec![ErrorDetail::value_error(
        [LocItem::from("body"), LocItem::from("contents")],
        reason,
        Value::Null,
    )])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use files::{Content, ContentHash};
    use futures::{StreamExt, stream};
    use serde_json::json;

    use super::{MAX_REQUESTED_CONTENTS, ReadPlan, parse_contents, with_deadline, with_head};

    fn plan(lengths: &[u32]) -> ReadPlan {
        let content = |length: &u32| Content::new(ContentHash::of(b"x"), *length).unwrap();
        let contents: Vec<Content> = lengths.iter().map(content).collect();
        let bytes = lengths.iter().map(|length| u64::from(*length)).sum();
        ReadPlan::of(&contents, bytes)
    }

    #[test]
    fn large_contents_are_read_one_after_another_and_small_ones_together() {
        let mib = 1 << 20;
        let expected = |concurrent_reads, memory| ReadPlan {
            concurrent_reads,
            memory,
        };
        assert_eq!(plan(&[4 * mib, 4 * mib]), expected(1, 8 << 20));
        assert_eq!(plan(&[4 * mib]), expected(1, 4 << 20));
        assert_eq!(plan(&[mib; 8]), expected(4, 5 << 20));
        assert_eq!(plan(&[100; 1000]), expected(16, 1700));
    }

    #[test]
    fn a_content_follows_its_length() {
        for length in [3_usize, 100_000] {
            let packed = with_head(u32::try_from(length).unwrap(), vec![7; length].into()).concat();
            assert_eq!(packed[..4], u32::try_from(length).unwrap().to_be_bytes());
            assert_eq!(packed[4..], vec![7; length]);
        }
    }

    #[test]
    fn a_request_names_contents_and_not_too_many() {
        let hash = ContentHash::of(b"x").to_string();
        assert_eq!(
            parse_contents(&json!({"contents": [hash]})).unwrap(),
            [ContentHash::of(b"x")]
        );
        for wrong in [
            json!({}),
            json!({"contents": []}),
            json!({"contents": ["../x"]}),
            json!({"contents": [hash], "more": 1}),
            json!({"contents": vec![hash.clone(); MAX_REQUESTED_CONTENTS + 1]}),
        ] {
            assert_eq!(parse_contents(&wrong).unwrap_err().len(), 1, "{wrong}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_its_time_is_cut_off() {
        let pieces = stream::iter((0..100).map(|_| Ok(Bytes::from_static(b"piece"))));
        let mut body = Box::pin(with_deadline(pieces));
        let mut taken = 0;
        while let Some(Ok(_)) = body.next().await {
            taken += 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!((2..10).contains(&taken), "{taken}");
    }
}
