//! The objects that were read or written last, decoded.

use std::cell::RefCell;
use std::num::NonZeroUsize;

use lru::LruCache;

use crate::object::Object;

/// Number of objects. A pod takes about 20 KB.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Objects by UID, as the current transaction sees them. Most transactions read an object several times, and objects
/// that another one has just written. Only the writer has it, so that nobody else changes what it keeps.
#[derive(Debug)]
pub(super) struct DecodedObjects(RefCell<LruCache<String, Object>>);

impl Default for DecodedObjects {
    fn default() -> Self {
        Self(RefCell::new(LruCache::new(CAPACITY)))
    }
}

impl DecodedObjects {
    /// Returns the object with this UID; decodes it if it is not among those kept.
    pub(super) fn get_or_decode<E>(&self, uid: &str, decode: impl FnOnce() -> Result<Object, E>) -> Result<Object, E> {
        let mut kept = self.0.borrow_mut();
        if let Some(object) = kept.get(uid) {
            debug_assert!(
                decode().is_ok_and(|stored| stored == *object),
                "`{uid}` differs from what is stored"
            );
            return Ok(object.clone());
        }
        let object = decode()?;
        kept.put(uid.to_owned(), object.clone());
        Ok(object)
    }

    /// Keeps an object that was written.
    pub(super) fn put(&self, object: &Object) {
        self.0.borrow_mut().put(object.uid().to_owned(), object.clone());
    }

    /// Forgets an object that was deleted, or whose change was rolled back.
    pub(super) fn forget(&self, uid: &str) {
        self.0.borrow_mut().pop(uid);
    }

    /// Forgets all objects, after a transaction was rolled back.
    pub(super) fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}
