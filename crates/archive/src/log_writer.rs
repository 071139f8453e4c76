//! Writes the log of a pod, frame by frame.
//!
//! Several servers may write the same log. The server that stores a frame first has decided where it ends; the others go on from
//! there.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::PutPayload;
use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::frame::{Frame, FrameHeader, MAX_HEADER};
use crate::key::LogKey;
use crate::position::Position;
use crate::store::Store;

/// The number of frames of a log whose headers are read concurrently.
const CONCURRENT_READS: usize = 16;

/// The last object of a log: where its frames are, so that a reader needs no list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogEnd {
    pub frames: Vec<FrameHeader>,
    /// Why the rest of the log is missing, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
}

/// What the archive has of a log.
#[derive(Debug, Clone)]
pub struct LogState {
    store: Store,
    key: LogKey,
    pub(crate) frames: Vec<FrameHeader>,
    is_ended: bool,
    lost: Option<String>,
    /// Whose log it is, if that is known.
    user: Option<Arc<str>>,
}

/// The outcome of writing a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It was stored.
    Stored,
    /// Another server has stored a frame at this place, and perhaps more of them; the log goes on after them.
    Taken(Position),
}

impl LogState {
    /// Reads which frames there are.
    pub(crate) async fn read(store: &Store, key: LogKey) -> Result<Self, Error> {
        let mut state = Self {
            store: store.clone(),
            key,
            frames: Vec::new(),
            is_ended: false,
            lost: None,
            user: None,
        };
        let end = state.key.end();
        if let Some(content) = store.get(&end).await? {
            let end: LogEnd = serde_json::from_slice(&content).map_err(|error| Error::Invalid {
                path: end.to_string(),
                reason: error.to_string(),
            })?;
            state.lost = end.lost;
            state.frames = end.frames;
            state.is_ended = true;
            return Ok(state);
        }
        let objects = store.list(&state.key.prefix()).await?;
        let count = u32::try_from(objects.len()).unwrap_or(u32::MAX);
        let headers = (0..count).map(|number| state.header(number));
        let headers = stream::iter(headers).buffered(CONCURRENT_READS);
        // Frames are numbered without gaps, so the first that is missing is the end.
        let headers: Vec<Option<FrameHeader>> = headers.try_collect().await?;
        state.frames = headers.into_iter().map_while(|header| header).collect();
        Ok(state)
    }

    /// Reads which frames there are, for a reader. What is damaged or missing between others is a frame whose text cannot be
    /// read, so that one object does not hide the others.
    pub(crate) async fn read_readable(store: &Store, key: LogKey) -> Result<Self, Error> {
        let mut state = match Self::read(store, key.clone()).await {
            Ok(state) if state.is_ended => return Ok(state),
            Ok(state) => state,
            Err(Error::Invalid { .. }) => Self {
                store: store.clone(),
                is_ended: store.get(&key.end()).await?.is_some(),
                key,
                frames: Vec::new(),
                lost: None,
                user: None,
            },
            Err(error) => return Err(error),
        };
        let objects = store.list(&state.key.prefix()).await?;
        let number = |path: &Path| path.filename()?.parse::<u32>().ok();
        let last = objects.iter().filter_map(|object| number(&object.location)).max();
        let count = last.map_or(0, |last| last as usize + 1);
        // Without holes, they are known already.
        if count == state.frames.len() {
            return Ok(state);
        }
        let numbers = 0..u32::try_from(count).unwrap_or(u32::MAX);
        let headers = stream::iter(numbers.map(|number| state.header(number))).buffered(CONCURRENT_READS);
        let valid = headers.map(|header| match header {
            Err(Error::Invalid { .. }) => Ok(None),
            header => header,
        });
        let headers: Vec<Option<FrameHeader>> = valid.try_collect().await?;
        state.frames = FrameHeader::fill_holes(headers);
        Ok(state)
    }

    /// The same log, which counts as one of this user's.
    #[must_use]
    pub fn of_user(mut self, user: &Arc<str>) -> Self {
        self.user = Some(Arc::clone(user));
        self
    }

    /// The place after everything in the archive, or `None` if there is nothing.
    #[must_use]
    pub fn after(&self) -> Option<Position> {
        self.frames.last().map(|frame| frame.after)
    }

    /// Whether the last frame was written.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Why the rest is missing, if the last frame was written.
    #[must_use]
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// The number of lines and bytes in the archive.
    #[must_use]
    pub fn size(&self) -> (u64, u64) {
        let lines = self.frames.iter().map(|frame| u64::from(frame.lines)).sum();
        let bytes = self.frames.iter().map(|frame| frame.bytes).sum();
        (lines, bytes)
    }

    /// How many bytes are missing between its lines, or `None` if there is a gap of unknown size.
    #[must_use]
    pub fn missing(&self) -> Option<u64> {
        let gaps = self.frames.iter().filter(|frame| frame.gap);
        gaps.map(|frame| frame.missing).sum()
    }

    /// Writes the next frame. It must begin at [`Self::after`].
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::UserFull`], or a failure of the store.
    pub async fn put(&mut self, frame: &Frame) -> Result<Put, Error> {
        let space = &self.store.space;
        if !space.has_room() {
            return Err(Error::Full);
        }
        if self.user.as_ref().is_some_and(|user| !space.has_room_for(user)) {
            return Err(Error::UserFull);
        }
        self.put_anyway(frame).await
    }

    /// Writes the next frame, also if the archive is full. For a notice that says so.
    pub async fn put_anyway(&mut self, frame: &Frame) -> Result<Put, Error> {
        let number = u32::try_from(self.frames.len()).unwrap_or(u32::MAX);
        let content = frame.encode()?;
        let size = content.len() as u64;
        if self.store.put_new(&self.key.frame(number), content.into()).await? {
            self.store.space.add(self.user.as_ref(), size);
            self.frames.push(frame.header.clone());
            return Ok(Put::Stored);
        }
        let path = self.key.frame(number);
        let taken = self.header(number).await?.ok_or_else(|| Error::Invalid {
            path: path.to_string(),
            reason: "it was there and is gone".to_owned(),
        })?;
        let mut after = taken.after;
        self.frames.push(taken);
        // It may be far ahead: this one then need not keep in memory what is archived.
        while let Some(next) = self
            .header(u32::try_from(self.frames.len()).unwrap_or(u32::MAX))
            .await?
        {
            after = next.after;
            self.frames.push(next);
        }
        Ok(Put::Taken(after))
    }

    /// Writes the end of the log. `lost` says why the rest is missing, if it is.
    pub async fn end(&mut self, lost: Option<&str>) -> Result<(), Error> {
        let frames = self.frames.clone();
        let content = serde_json::to_vec(&LogEnd {
            frames,
            lost: lost.map(str::to_owned),
        })?;
        self.store.put_new(&self.key.end(), PutPayload::from(content)).await?;
        self.is_ended = true;
        Ok(())
    }

    async fn header(&self, number: u32) -> Result<Option<FrameHeader>, Error> {
        let path = self.key.frame(number);
        let content = self.store.get_start(&path, 0..MAX_HEADER).await?;
        content
            .map(|content| FrameHeader::decode(path.as_ref(), &content))
            .transpose()
    }
}
